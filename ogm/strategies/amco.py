"""Adaptive mask co-optimisation (AMCo): mask a growing share of the dominant modality's class logits."""

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
    """Mask part of the logits of the modality that the prediction depends on, and add unimodal losses.

    In each step:
    1. Progress p in [0, 1] of the run; N = floor(C sin(pi/2 min(eps, p) / eps)).
    2. Draw a mask (C,) that hides N random classes. Set the hidden classes of u_m (B, C) to 0 for every modality m that
       is flagged as dependent.
    3. z = A(sum_m u_m), A being a linear layer (C -> C) that starts as the identity. L = CE(z, y) + sum_m CE(u_m, y),
       with the masked u_m.
    4. Flags for the next step: D_m = mean share of modality m in the softmax over all M C logits [u_1 .. u_M], over
       samples that have every modality. Modality m is dependent if D_m > sigma. At the start no modality is.

    Evaluation uses A and no mask, and sums the modalities that are not dropped. From progress eps on all classes are
    hidden: the loss of a dependent modality is then the constant log C, without gradient. Both defaults are
    BalanceBenchmark's.

    Args:
        sigma: Threshold of the share D_m, in [0, 1].
        eps: Progress at which all classes are hidden, in (0, 1].

    Differences:
        - Paper: its formulas were not available. Ours follows BalanceBenchmark, with the corrections below.
        - BalanceBenchmark is described as masking features, but its code masks class logits. Ours masks class logits.
        - BalanceBenchmark: the mask works only on two devices with one row each, progress restarts in every epoch, A
          starts at random values, and evaluation leaves A out. Ours does none of these.

    References:
        - Paper: Zhou et al., ICASSP 2023.
        - Code: GeWu-Lab/BalanceBenchmark at 4c1482f.
    """

    category = "feature"
    title = "Adaptive Mask Co-optimization"
    paper = "Zhou et al., ICASSP 2023"
    prediction = "linear layer on the sum of the branches"
    reads = ("unimodal_logits",)
    needs_additive = True
    dependent: Tensor

    def __init__(self, sigma: float = 0.5, eps: float = 0.3) -> None:
        super().__init__()
        if not (0 <= sigma <= 1 and 0 < eps <= 1):
            raise ValueError(f"sigma={sigma}, eps={eps}: choose 0 <= sigma <= 1 and 0 < eps <= 1")
        self.sigma, self.eps = sigma, eps

    def setup(self) -> None:
        """Create the linear layer A, as the identity, and the flags of dependent modalities."""
        if not self.num_classes:
            raise ValueError("AMCo has a linear layer over the classes: pass num_classes= to attach")
        self.linear_star = nn.Linear(self.num_classes, self.num_classes)
        nn.init.eye_(self.linear_star.weight)
        nn.init.zeros_(self.linear_star.bias)
        self.register_buffer("dependent", torch.zeros(len(self.modalities), dtype=torch.bool))

    def replace_unimodal_logits(self, output: Output) -> Output:
        """Replace the fused logits by A(sum_m u_m)."""
        return replace(output, logits=self.joint(output.unimodal_logits))

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        """Predict with A and without a mask; dropped modalities are left out of the sum."""
        output = super().forward(model, batch, drop)
        kept = {m: torch.zeros_like(u) if m in drop else u for m, u in output.unimodal_logits.items()}
        return replace(output, logits=self.joint(kept))

    def joint(self, unimodal_logits: Mapping[str, Tensor]) -> Tensor:
        """Compute the fused logits A(sum_m u_m).

        Args:
            unimodal_logits: Modality -> (B, C).

        Returns:
            (B, C).
        """
        check_complete(self, "unimodal_logits", unimodal_logits)
        logits: Tensor = self.linear_star(torch.stack(list(unimodal_logits.values())).sum(0))
        return logits

    def mask(self, ctx: Context) -> Tensor:
        """Draw which classes are visible in this step.

        Args:
            ctx: Step, seed and progress of the run.

        Returns:
            (C,) bool, equal on all ranks.
        """
        order = ctx.uniform(torch.arange(self.num_classes, device=self.dependent.device), "amco/mask")
        return order.argsort().argsort() >= hidden_classes(ctx.progress, self.eps, self.num_classes)

    def masked_logits(self, output: Output, ctx: Context) -> dict[str, Tensor]:
        """Set the hidden classes of dependent modalities to 0.

        Args:
            output: Output of the step.
            ctx: Step, seed and progress of the run.

        Returns:
            Modality -> (B, C).
        """
        mask, unimodal_logits = self.mask(ctx), output.unimodal_logits
        return {
            m: torch.where(self.dependent[i] & ~mask, 0.0, unimodal_logits[m]) for i, m in enumerate(self.modalities)
        }

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the CE of the fused logits and of every unimodal logits, all masked."""
        masked = self.masked_logits(output, ctx)
        unimodal_losses = {f"unimodal/{m}": self.loss(u, batch, ctx, m) for m, u in masked.items()}
        return super().losses(replace(output, logits=self.joint(masked)), batch, ctx) | unimodal_losses

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        """Find the dependent modalities for the next step (step 4)."""
        super().on_gradients(output, batch, ctx)
        share = prediction_shares(self.masked_logits(output, ctx), batch, ctx)
        ctx.log(**{f"dependence/{m}": d for m, d in share.items()})
        self.dependent = torch.stack(list(share.values())) > self.sigma


def ramp(progress: float, eps: float) -> float:
    """Share of the classes that are hidden.

    Args:
        progress: Progress of the run, in [0, 1].
        eps: Progress at which all classes are hidden.

    Returns:
        sin(pi/2 min(eps, progress) / eps), in [0, 1].
    """
    return math.sin((math.pi / 2) * min(eps, progress) / eps)


def hidden_classes(progress: float, eps: float, classes: int) -> int:
    """Number of hidden classes.

    Args:
        progress: Progress of the run, in [0, 1].
        eps: Progress at which all classes are hidden.
        classes: Number of classes C.

    Returns:
        floor(ramp(progress, eps) C).
    """
    return math.floor(ramp(progress, eps) * classes)


def prediction_shares(unimodal_logits: Mapping[str, Tensor], batch: Batch, ctx: Context) -> dict[str, Tensor]:
    """Share of each modality in the prediction.

    Args:
        unimodal_logits: Modality -> logits (B, C).
        batch: The batch, which says which samples have every modality.
        ctx: Communication between ranks.

    Returns:
        Modality -> 0-dim mean, over the samples of the global batch with every modality, of its share in the softmax
        over the logits of all modalities side by side; 0 for all if there is no such sample.
    """
    complete = batch.has_all(unimodal_logits)
    side_by_side = torch.stack(list(unimodal_logits.values()), 1).detach().double()  # (B, M, C)
    mass = side_by_side.flatten(1).softmax(1).view_as(side_by_side).sum(2)
    sums = ctx.total(torch.cat([torch.where(complete[:, None], mass, 0.0).sum(0), complete.sum()[None]]))
    return dict(zip(unimodal_logits, (sums[:-1] / sums[-1].clamp_min(1)).unbind(), strict=True))
