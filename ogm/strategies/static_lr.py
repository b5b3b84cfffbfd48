"""A control: one constant learning-rate factor per modality. What it also reaches is not owed to adaptivity."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ogm.context import Context
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class StaticLR(Strategy):
    """This suite's control for OGM-GE (spec synthav.md, section 3): "audio-encoder lr x 0.1".

    ``factors`` maps a modality to its factor; a modality that is not named keeps 1. The factor shortens the optimizer's
    update of *every* parameter of that encoder, which is a smaller learning rate whatever the optimizer (with SGD the
    weight decay is scaled along, as with a smaller learning rate).
    """

    category = "control"
    paper = "this suite"
    touches = "nothing"
    needs_optimizer = True

    def __init__(self, factors: Mapping[str, float]) -> None:
        super().__init__()
        if not factors or any(not f >= 0 for f in factors.values()):
            raise ValueError(f"factors={dict(factors)}: give each modality to be slowed a factor of 0 or more")
        self.factors = dict(factors)

    def setup(self) -> None:
        unknown = self.factors.keys() - set(self.modalities)
        if unknown:
            raise ValueError(f"factors: no modality {sorted(unknown)}; there are {list(self.modalities)}")

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        super().on_gradients(output, batch, ctx)
        for _, m, p in self.in_scope("all"):
            if self.factors.get(m, 1.0) != 1.0:
                self.modulate(p, self.factors[m], "update")
