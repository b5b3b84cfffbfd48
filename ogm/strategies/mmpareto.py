"""Pareto integration: in each encoder, one direction that serves the joint and the unimodal loss alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.strategies.equal_weight_multiloss import EqualWeightMultiloss
from ogm.strategy import Passes
from ogm.types import Batch, Output


class MMPareto(EqualWeightMultiloss):
    """Wei and Hu, ICML 2024 (arXiv 2405.17730): one linear head per modality, and two gradients in every encoder.

    With g of the joint loss and u of the unimodal one, over all parameters of an encoder: where they agree (cos > 0)
    they count alike, else as in the shortest vector between them; the result is 2a g + 2b u. Each parameter tensor gets
    back the length of g + u if it became shorter (the paper says the whole gradient, the released code each tensor: so
    do we), and is enlarged by ``gamma``. Fusion and heads get the plain gradient of the sum of losses.

    Two backward passes do (the released code: M + 2): encoders are apart, so one pass over the *sum* of unimodal losses
    gives every u, and each encoder is gone through twice. Without conflict an encoder's gradient is ``gamma`` times the
    plain sum: compare with ``equal_weight_multiloss``, and with that at 1.5 times the encoders' learning rate.

    The released runs have a constant learning rate (their scheduler is made and never stepped); here it is the run's.
    Where the code divides by zero: a gradient of zero has cosine 0, and a tensor whose two gradients cancel (below 1e-6
    of their sum's length) is left as it is, since stretching it would enlarge rounding errors.
    """

    category = "gradient"
    paper = "Wei and Hu, ICML 2024"

    def __init__(self, gamma: float = 1.5) -> None:
        super().__init__()
        if not 0 < gamma < float("inf"):
            raise ValueError(f"gamma={gamma}: the gradient's enlargement must be a number above 0")
        self.gamma = gamma
        self._own: list[Tensor] = []  # gradients of the unimodal losses, between differentiate and on_gradients

    def passes(self, modalities: int) -> Passes:
        return Passes(modalities, 2)

    def trainable(self) -> list[nn.Parameter]:
        """What unimodal losses reach: encoders, then heads, then what a fusion does before them (MMTM)."""
        fusion = self._fusion[0]
        rest = [p for p in (() if fusion is None else fusion.parameters()) if p.requires_grad]
        return [p for m in self.modalities for p in self.parameters_of(m)] + list(self.heads.parameters()) + rest

    def differentiate(self, losses: dict[str, Tensor], ctx: Context) -> None:
        own = torch.stack([x for name, x in losses.items() if name.startswith("unimodal/")]).sum()
        grads = ctx.gradients({"own": own}, self.trainable())["own"]
        self._own = [a + b for a, b in zip(self._own, grads, strict=True)] if self._own else grads
        super().differentiate({name: x for name, x in losses.items() if not name.startswith("unimodal/")}, ctx)

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        super().on_gradients(output, batch, ctx)
        own, self._own = dict(zip(self.trainable(), self._own, strict=True)), []
        if all(p.grad is None for m in self.modalities for p in self.parameters_of(m)):
            raise ValueError("MMPareto found no gradient in any encoder: are those given to attach the trained ones?")
        for m in self.modalities:
            mine = {p: own.pop(p) for p in self.parameters_of(m)}
            found = [p for p in mine if p.grad is not None]
            joint = [p.grad for p in found if p.grad is not None]
            if not joint:  # frozen
                continue
            final, cosine, weight = integrate(joint, [mine[p] for p in found], self.gamma)
            for p, g in zip(found, final, strict=True):
                p.grad = g
            ctx.log(**{f"cosine/{m}": cosine, f"weight_joint/{m}": weight})
        for p in self.heads.parameters():
            p.grad = own.pop(p)
        for p, g in own.items():
            if p.grad is not None:
                p.grad.add_(g)


def integrate(joint: Sequence[Tensor], own: Sequence[Tensor], gamma: float) -> tuple[list[Tensor], Tensor, Tensor]:
    """One encoder's final gradients from those of the joint and of the unimodal loss, tensor by tensor.

    Also their cosine and the weight a of the joint one (0-dim float64).
    """
    sizes = [x.numel() for x in joint]
    g, u = (torch.cat([x.flatten() for x in side]) for side in (joint, own))
    cosine, a = weigh(g, u)
    whole = lengths(g + u, sizes)
    mixed = u.lerp_(g, a.to(u.dtype))  # in place: these are millions of numbers, and u is a copy
    halves = lengths(mixed, sizes)  # of a g + (1 - a) u; what is sought is twice that
    shrunk = (2 * halves < whole) & (2 * halves > 1e-6 * whole)
    stretch = gamma * torch.where(shrunk, whole / halves, 2.0)
    final = torch.split(mixed, sizes)
    for x, k in zip(final, stretch.unbind(), strict=True):
        x.mul_(k)
    return [x.view_as(like) for x, like in zip(final, joint, strict=True)], cosine, a


def lengths(x: Tensor, sizes: list[int]) -> Tensor:
    """Of each of the tensors that lie side by side in ``x`` (N,), in float64."""
    return torch.stack([part.norm() for part in torch.split(x, sizes)]).double()


def weigh(g: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine of two vectors, and how much the first counts: 1/2 where it is positive, else as in the shortest vector
    a g + (1 - a) u between them, a kept within 0.001 and 0.999. Both 0-dim float64."""
    gg, gu, uu = torch.stack([g @ g, g @ u, u @ u]).double().unbind()
    cosine = torch.where((gg > 0) & (uu > 0), gu / (gg.sqrt() * uu.sqrt()), 0.0)
    between = torch.where(gu >= gg, 0.999, torch.where(gu >= uu, 0.001, (uu - gu) / (gg + uu - 2 * gu)))
    return cosine, torch.where(cosine > 0, 0.5, between)
