"""A control: OGM-GE's noise without its modulation. What is gained by noise alone is not gained by balance."""

from __future__ import annotations

import torch

from ogm.context import Context
from ogm.strategies.ogm_ge import add_noise, deviation
from ogm.strategy import Scope, Strategy
from ogm.types import Batch, Output


class GENoise(Strategy):
    """OGM-GE (CVPR 2022) with k = 1 throughout; the "GE only" row of the paper's table 7. The window is OGM's."""

    category = "control"
    paper = "Peng et al., CVPR 2022, table 7"
    touches = "weights"

    def __init__(self, *, scope: Scope = "weights", start: int = 0, end: int | None = 50) -> None:
        super().__init__(start=start, end=end)
        self.scope: Scope = scope

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        super().on_gradients(output, batch, ctx)
        if not self.active(ctx):
            return
        for number, _, p in self.in_scope(self.scope):
            assert p.grad is not None
            add_noise(p.grad, deviation(p.grad), number, batch, self.modalities, ctx)
