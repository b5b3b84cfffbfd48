"""Adaptive mask co-optimisation: hide a growing share of the classes from the modality that the others lean on."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ogm.checks import check_complete
from ogm.context import Context
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class AMCo(Strategy):
    """Zhou et al., ICASSP 2023, as read from BalanceBenchmark's code (spec methods_loss.md, section 11).

    z = L(sum_m u_m), L a linear layer (C -> C) that starts as the identity; the loss is CE(z) + sum_m CE(u_m). In each
    step a mask hides N = floor(C sin(pi/2 min(eps, l)/eps)) random classes, l being the progress of the run; a modality
    flagged as dependent has its unimodal logits multiplied by it, in both losses. It is flagged for the next step if
    more than ``sigma`` of the softmax mass over all modalities' logits side by side is its own, on average over the
    samples that have every modality. Evaluation is without mask, with L, over the modalities that are not dropped. At
    the end of the ramp a dependent modality's own loss is log C, with no gradient: a property of the method.

    The toolkit's code cannot mask but on two devices with one row each, restarts l at every epoch, starts L at random
    and evaluates without it; we do not. It masks classes where its description says features; so do we.
    """

    category = "feature"
    paper = "Zhou et al., ICASSP 2023"
    reads = ("unimodal_logits",)
    needs_additive = True
    dependent: Tensor

    def __init__(self, sigma: float = 0.5, eps: float = 0.3) -> None:
        super().__init__()
        if not (0 <= sigma <= 1 and 0 < eps <= 1):
            raise ValueError(f"sigma={sigma}, eps={eps}: needs 0 <= sigma <= 1 and 0 < eps <= 1")
        self.sigma, self.eps = sigma, eps

    def setup(self) -> None:
        if not self.num_classes:
            raise ValueError("AMCo owns a linear layer over the classes: pass num_classes= to attach")
        self.linear_star = nn.Linear(self.num_classes, self.num_classes)
        nn.init.eye_(self.linear_star.weight)
        nn.init.zeros_(self.linear_star.bias)
        self.register_buffer("dependent", torch.zeros(len(self.modalities), dtype=torch.bool))

    def read(self, output: Output) -> Output:
        return replace(output, logits=self.joint(output.unimodal_logits))

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        output = super().forward(model, batch, drop)
        kept = {m: torch.zeros_like(u) if m in drop else u for m, u in output.unimodal_logits.items()}
        return replace(output, logits=self.joint(kept))

    def joint(self, unimodal_logits: Mapping[str, Tensor]) -> Tensor:
        """(B, C) fused logits from the unimodal ones."""
        check_complete(self, "unimodal_logits", unimodal_logits)
        logits: Tensor = self.linear_star(torch.stack(list(unimodal_logits.values())).sum(0))
        return logits

    def mask(self, ctx: Context) -> Tensor:
        """(C,) bool: the classes that are not hidden in this step, the same on every rank."""
        places = ctx.uniform(torch.arange(self.num_classes, device=self.dependent.device), "amco/mask")
        return places.argsort().argsort() >= hidden_classes(ctx.progress, self.eps, self.num_classes)

    def seen(self, output: Output, ctx: Context) -> dict[str, Tensor]:
        """Unimodal logits with this step's mask on those of dependent modalities."""
        mask, own = self.mask(ctx), output.unimodal_logits
        return {m: torch.where(self.dependent[i] & ~mask, 0.0, own[m]) for i, m in enumerate(self.modalities)}

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        seen = self.seen(output, ctx)
        own = {f"unimodal/{m}": self.loss(u, batch, ctx, m) for m, u in seen.items()}
        return super().losses(replace(output, logits=self.joint(seen)), batch, ctx) | own

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        super().on_gradients(output, batch, ctx)
        share = dependences(self.seen(output, ctx), batch, ctx)
        ctx.log(**{f"dependence/{m}": d for m, d in share.items()})
        self.dependent = torch.stack(list(share.values())) > self.sigma


def ramp(progress: float, eps: float) -> float:
    """p_t, 0 to 1: the share of classes that may be hidden at this ``progress``, 0 to 1, of the run; 1 from eps on."""
    return math.sin((math.pi / 2) * min(eps, progress) / eps)


def hidden_classes(progress: float, eps: float, classes: int) -> int:
    """N = floor(p_t C): how many of C classes are hidden."""
    return math.floor(ramp(progress, eps) * classes)


def dependences(unimodal_logits: Mapping[str, Tensor], batch: Batch, ctx: Context) -> dict[str, Tensor]:
    """modality -> its share, 0-dim, of the softmax over all modalities' logits (B, C) side by side.

    A mean over the samples of the global batch that have every modality; 0 for all if there is none.
    """
    rows = batch.have(unimodal_logits)
    side_by_side = torch.stack(list(unimodal_logits.values()), 1).detach().double()  # (B, M, C)
    mass = side_by_side.flatten(1).softmax(1).view_as(side_by_side).sum(2)
    sums = ctx.total(torch.cat([torch.where(rows[:, None], mass, 0.0).sum(0), rows.sum()[None]]))
    return dict(zip(unimodal_logits, (sums[:-1] / sums[-1].clamp_min(1)).unbind(), strict=True))
