"""GE noise only: the Gaussian noise of OGM-GE without its gradient modulation, as a control."""

from __future__ import annotations

import torch

from ogm.context import Context
from ogm.parts.gradients import add, gradient_noise, gradients_of
from ogm.strategy import Strategy
from ogm.types import Batch, Output, Scope


class GENoise(Strategy):
    """Add the noise of OGM-GE to the encoders' gradients and modulate nothing.

    What this control gains is due to noise alone.

    g <- g + eps for every gradient tensor g in scope of every encoder, eps ~ N(0, sigma^2) elementwise, sigma the
    standard deviation of the elements of g. This is OGM-GE with k_m = 1 for all modalities.

    Args:
        scope: Which parameters get noise: ``"weights"`` (two or more dimensions), ``"conv4d"`` (exactly four, as in the
            released code) or ``"all"``.
        start: First epoch with noise, counted from 0.
        end: Last epoch with noise (inclusive), whatever the run's length; None: until the end of the run. Default 50,
            as in ``OGM``: a run of 20 epochs has noise to its end.

    Differences:
        - Released code: 4-d tensors only. Ours: all tensors with two or more dimensions; on the paper's ResNet-18 these
          are the same.

    References:
        - Paper: Peng et al., CVPR 2022 (arXiv 2203.15332), "GE only" in table 7.
        - Code: GeWu-Lab/OGM-GE_CVPR2022 at 343dc1d.
    """

    category = "control"
    title = "Generalization Enhancement alone"
    paper = "Peng et al., CVPR 2022, table 7"
    touches = "weights"

    def __init__(self, *, scope: Scope = "weights", start: int = 0, end: int | None = 50) -> None:
        super().__init__(start=start, end=end)
        self.scope: Scope = scope

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        """Add noise to every gradient in scope, inside the epoch window."""
        super().on_gradients(output, batch, ctx)
        if not self.in_window(ctx):
            return
        inside = self.in_scope(self.scope)
        for m, noise in gradient_noise(inside, batch, ctx).items():
            add(gradients_of(inside[m]), noise)
