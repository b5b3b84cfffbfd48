"""Static learning rates: one constant learning-rate factor per modality, as a control for adaptive methods."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ogm.context import Context
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class StaticLR(Strategy):
    """Train each encoder with a constant learning-rate factor.

    An adaptive method that does no better than this control does not owe its gain to being adaptive.

    Each optimizer update of encoder m is multiplied by factors[m]: theta = theta_before + factors[m] (theta_after -
    theta_before), for all parameters of the encoder. This equals a smaller learning rate for any optimizer; weight
    decay is scaled too, as with a smaller learning rate.

    Args:
        factors: Modality -> factor, 0 or more. A modality that is not named has factor 1. Required.

    Differences:
        - None: the definition is this suite's own, as a control for OGM-GE (for example ``{"audio": 0.1}``).

    References:
        - This suite.
    """

    category = "control"
    title = "Constant learning-rate factors"
    paper = "this suite"
    touches = "nothing"
    needs_optimizer = True

    def __init__(self, factors: Mapping[str, float]) -> None:
        super().__init__()
        if not factors or any(not f >= 0 for f in factors.values()):
            raise ValueError(f"factors={dict(factors)}: give at least one modality a factor of 0 or more")
        self.factors = dict(factors)

    def setup(self) -> None:
        """Check the modalities in ``factors``."""
        unknown = self.factors.keys() - set(self.modalities)
        if unknown:
            raise ValueError(f"factors: there is no modality {sorted(unknown)}; there are {list(self.modalities)}")

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        """Scale the updates of the encoders."""
        super().on_gradients(output, batch, ctx)
        for m, parameters in self.in_scope("all").items():
            if self.factors.get(m, 1.0) != 1.0:
                self.modulate(parameters, self.factors[m], "update")
