"""MMPareto: combine the gradients of the joint and the unimodal loss in each encoder without conflict."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.parts.gradients import add, gradients_of
from ogm.strategies.equal_weight_multiloss import EqualWeightMultiloss
from ogm.types import Batch, Output, Passes


class MMPareto(EqualWeightMultiloss):
    """Choose in each encoder a direction that serves both the joint and the unimodal loss, with an enlarged magnitude.

    1. L_joint = CE(z, y) and L_m = CE(g_m, y), with g_m (B, C) the logits of a linear head on the feature of modality
       m.
    2. For every encoder m, with all its parameters as one vector: g = dL_joint/dtheta_m, u = dL_m/dtheta_m.
    3. If cos(g, u) > 0, a = 1/2. Otherwise a is the weight of the shortest vector a g + (1 - a) u, in [0.001, 0.999].
    4. For each parameter tensor j: v_j = 2a g_j + 2(1 - a) u_j. If v_j is shorter than g_j + u_j, rescale it to that
       length. The gradient becomes gamma v_j.
    5. The fusion and the heads get the plain gradient of L_joint + sum_m L_m.

    Without conflict an encoder's gradient is gamma times the plain sum: compare with ``equal_weight_multiloss``, also
    at gamma times its encoders' learning rate. The prediction is argmax z.

    Args:
        gamma: Factor of the encoders' gradients, above 0. Default 1.5, as released for CREMA-D.

    Differences:
        - Paper: restores the length of the whole encoder gradient. Released code and ours: that of each parameter
          tensor.
        - Released code: M + 2 backward passes. Ours: two, since one pass over the sum of all unimodal losses gives
          every u.
        - Released code: a constant learning rate, since its scheduler is never stepped. Ours: the schedule of the run.
        - Released code: divides by zero for zero gradients. Ours: their cosine is 0, and a tensor whose two gradients
          cancel (v_j below 1e-6 of the length of the sum) is not rescaled, which would enlarge rounding errors.
        - BalanceBenchmark: reads both gradients after all backward passes, so every encoder gradient is 2 gamma times
          the plain sum. Ours follows the released code.

    References:
        - Paper: Wei and Hu, ICML 2024 (arXiv 2405.17730).
        - Code: GeWu-Lab/MMPareto_ICML2024 at a339db3; GeWu-Lab/BalanceBenchmark at 4c1482f.
    """

    category = "gradient"
    title = "Multimodal Pareto gradient integration"
    paper = "Wei and Hu, ICML 2024"

    def __init__(self, gamma: float = 1.5) -> None:
        super().__init__()
        if not 0 < gamma < float("inf"):
            raise ValueError(f"gamma={gamma}: the factor of the gradients must be a finite number above 0")
        self.gamma = gamma
        self._own: list[Tensor] = []  # gradients of the unimodal losses, between differentiate and on_gradients

    def passes(self, modalities: int) -> Passes:
        """Return (M, 2): one backward pass for the joint loss, one for all unimodal losses."""
        return Passes(modalities, 2)

    def discard_step(self) -> None:
        """Forget a step that was not finished, and its unimodal gradients."""
        super().discard_step()
        self._own = []

    def trainable(self) -> list[nn.Parameter]:
        """The parameters that unimodal losses can reach: encoders, then heads, then the fusion (MMTM units)."""
        encoders = [p for m in self.modalities for p in self.parameters_of(m)]
        return [*encoders, *self.heads.parameters(), *self.fusion_parameters()]

    def fusion_parameters(self) -> list[nn.Parameter]:
        """The parameters of the fusion that are trained; none if it is not known."""
        fusion = self._fusion[0]
        return [] if fusion is None else [p for p in fusion.parameters() if p.requires_grad]

    def differentiate(self, losses: dict[str, Tensor], ctx: Context) -> None:
        """Add the gradient of the joint loss to ``.grad``, and keep that of the unimodal losses apart."""
        unimodal = torch.stack([x for name, x in losses.items() if name.startswith("unimodal/")]).sum()
        grads = ctx.gradients({"unimodal": unimodal}, self.trainable())["unimodal"]
        self._own = [a + b for a, b in zip(self._own, grads, strict=True)] if self._own else grads
        super().differentiate({name: x for name, x in losses.items() if not name.startswith("unimodal/")}, ctx)

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        """Combine both gradients in each encoder, and add them up elsewhere (steps 3 to 5)."""
        super().on_gradients(output, batch, ctx)
        unimodal, self._own = dict(zip(self.trainable(), self._own, strict=True)), []
        if all(p.grad is None for m in self.modalities for p in self.parameters_of(m)):
            raise ValueError("MMPareto found no gradient in any encoder: attach the encoders that are trained")
        encoders = {m: [p for p in self.parameters_of(m) if p.grad is not None] for m in self.modalities}
        encoders = {m: parameters for m, parameters in encoders.items() if parameters}  # not frozen
        joint = [gradients_of(parameters) for parameters in encoders.values()]
        own = [[unimodal[p] for p in parameters] for parameters in encoders.values()]
        combined, cosine, weight = combine_gradients(joint, own, self.gamma)
        for p, g in zip(itertools.chain(*encoders.values()), itertools.chain(*combined), strict=True):
            p.grad = g
        for m, c, a in zip(encoders, cosine.unbind(), weight.unbind(), strict=True):
            ctx.log(**{f"cosine/{m}": c, f"weight_joint/{m}": a})
        for p in self.heads.parameters():
            p.grad = unimodal[p]
        fusion = [p for p in self.fusion_parameters() if p.grad is not None]
        add(gradients_of(fusion), [unimodal[p] for p in fusion])


def combine_gradients(
    joint: Sequence[Sequence[Tensor]], own: Sequence[Sequence[Tensor]], gamma: float
) -> tuple[list[list[Tensor]], Tensor, Tensor]:
    """Combine the joint and the unimodal gradient of each encoder, tensor by tensor.

    Args:
        joint: For each of E encoders, gradients of the joint loss, one tensor per parameter.
        own: Gradients of the unimodal losses, of the same shapes.
        gamma: Factor of the result.

    Returns:
        The combined gradients; (E,) cosines of the two gradients, and (E,) weights a of the joint one, both float64.
    """
    sizes = [[x.numel() for x in tensors] for tensors in joint]
    g, u = ([torch.cat([x.flatten() for x in tensors]) for tensors in side] for side in (joint, own))
    cosine, a = joint_weights(g, u)
    sum_lengths = tensor_norms([x + y for x, y in zip(g, u, strict=True)], sizes)
    for x, y, weight in zip(g, u, a.unbind(), strict=True):
        y.lerp_(x, weight.to(y.dtype))  # in place: these are millions of numbers, and u is a copy
    mixed_lengths = tensor_norms(u, sizes)  # of a g + (1 - a) u, which is half of v
    shrunk = (2 * mixed_lengths < sum_lengths) & (2 * mixed_lengths > 1e-6 * sum_lengths)
    stretch = gamma * torch.where(shrunk, sum_lengths / mixed_lengths, 2.0)
    combined = [torch.split(x, numbers) for x, numbers in zip(u, sizes, strict=True)]
    torch._foreach_mul_(list(itertools.chain(*combined)), stretch.unbind())
    return (
        [
            [x.view_as(like) for x, like in zip(parts, tensors, strict=True)]
            for parts, tensors in zip(combined, joint, strict=True)
        ],
        cosine,
        a,
    )


def tensor_norms(flat: Sequence[Tensor], sizes: Sequence[list[int]]) -> Tensor:
    """Euclidean norms of tensors that are stored side by side in vectors.

    Args:
        flat: One vector per encoder: its tensors, flattened and concatenated.
        sizes: The number of elements of each of them.

    Returns:
        (number of tensors of all encoders,) norms, float64.
    """
    tensors = [part for x, numbers in zip(flat, sizes, strict=True) for part in torch.split(x, numbers)]
    return torch.stack(torch._foreach_norm(tensors, 2, dtype=torch.float64))


def joint_weights(g: Sequence[Tensor], u: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Weights of the joint gradients.

    Args:
        g: (N,) joint gradient of each of E encoders.
        u: (N,) unimodal gradient of each.

    Returns:
        (E,) cosines of g and u, and (E,) weights a of g: 1/2 where the cosine is positive, else that of the shortest
        vector a g + (1 - a) u, in [0.001, 0.999]. Both float64.
    """
    products = [torch.stack([x @ x, x @ y, y @ y]) for x, y in zip(g, u, strict=True)]
    gg, gu, uu = torch.stack(products).double().unbind(1)
    cosine = torch.where((gg > 0) & (uu > 0), gu / (gg.sqrt() * uu.sqrt()), 0.0)
    between = torch.where(gu >= gg, 0.999, torch.where(gu >= uu, 0.001, (uu - gu) / (gg + uu - 2 * gu)))
    return cosine, torch.where(cosine > 0, 0.5, between)
