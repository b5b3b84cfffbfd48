"""OPM in the forward pass and OGM in the backward pass of one step."""

from __future__ import annotations

from typing import Literal

import torch

from ogm.context import Context
from ogm.strategies.ogm import coefficients, usable
from ogm.strategies.ogm_ge import add_noise, deviation
from ogm.strategies.opm import OPM
from ogm.strategy import Scope, Target
from ogm.types import Batch, Output


class OPMOGM(OPM):
    """Wei et al., TPAMI 2024, which calls the two compatible (spec methods_loss.md, section 10).

    Features are hidden as in OPM, on p_exe of the steps; then the gradient of every encoder in ``scope`` is multiplied
    by k_m, on all steps from epoch ``start`` to ``ogm_end``. Both go by the same ratios, of features before hiding.
    ``cvpr`` is OGM's coefficient, which both repositories have; ``tpami`` the journal's, at the same ratio a far
    gentler one. The scope is every weight, as in OGM here (the code: 4-d ones, the same set on a ResNet).

    The released scripts run the two separately, so that this order in one step is the specification's; and what they
    run as OGM is OGM-GE, the default of the code's ``modulation``: ``noise=True`` adds its noise after scaling (see
    ``ogm_ge``). ``ogm_end`` is an epoch, whatever the run's length: one of 20 epochs is modulated to its end.
    """

    category = "feature"
    paper = "Wei et al., TPAMI 2024"
    needs_whole_batch = True

    def __init__(
        self,
        q_base: float = 0.5,
        lam: float = 0.5,
        p_exe: float = 0.7,
        alpha: float = 0.8,
        *,
        variant: Literal["cvpr", "tpami"] = "cvpr",
        scope: Scope = "weights",
        target: Target = "grad",
        noise: bool = False,
        rescale: bool = True,
        start: int = 6,
        end: int | None = None,
        ogm_end: int | None = 60,
    ) -> None:
        super().__init__(q_base, lam, p_exe, rescale=rescale, start=start, end=end)
        if not alpha >= 0:
            raise ValueError(f"alpha={alpha}: the strength of the modulation must be 0 or more")
        if ogm_end is not None and ogm_end < 0:
            raise ValueError(f"ogm_end={ogm_end}: the last epoch whose gradients are modulated must be 0 or more")
        self.alpha, self.variant, self.scope, self.target, self.ogm_end = alpha, variant, scope, target, ogm_end
        self.needs_optimizer = target == "update"
        self.noise = noise

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        super().on_gradients(output, batch, ctx)
        if not self.active(ctx) or (self.ogm_end is not None and ctx.epoch > self.ogm_end):
            return
        k = usable(coefficients(self._rho, self.alpha, "paper" if self.variant == "cvpr" else "journal"), ctx)
        ctx.log(**{f"coefficient/{m}": x for m, x in k.items()})
        for number, m, p in self.in_scope(self.scope):
            assert p.grad is not None
            sigma = deviation(p.grad) if self.noise else None
            self.modulate(p, k[m], self.target)
            if sigma is not None:
                add_noise(p.grad, sigma, number, batch, self.modalities, ctx)
