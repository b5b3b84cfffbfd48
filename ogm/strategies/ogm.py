"""On-the-fly gradient modulation: slow down the modality that is ahead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from ogm.checks import check_complete
from ogm.context import Context
from ogm.strategy import Scope, Strategy, Target
from ogm.types import Batch, Output

Variant = Literal["paper", "acc", "journal"]


class OGM(Strategy):
    """Peng et al., CVPR 2022 (arXiv 2203.15332), eq. 8-10.

    With rho_m how far modality m is ahead, the gradient of its encoder is multiplied by k_m < 1 where rho_m > 1. Heads
    and fusion keep theirs. ``target="update"`` shortens the optimizer's step instead, for optimizers that undo a
    gradient's scale. ``multi`` says what "ahead" means among three or more: of the others on average (the authors'
    suggestion), or of the weakest. ``variant="acc"`` speeds the weak modality up instead (the PMR repository's);
    ``"journal"`` is the coefficient of the journal version (Wei et al., TPAMI 2024), continuous at rho = 1 and far
    gentler; read in two independent re-implementations, not in the text (spec methods_loss.md, section 10).

    The window is the released code's, epochs 0 to 50 of its 100, whatever the run's length: a run of 20 epochs is
    modulated to its end. ``end`` sets another; None is no end. The journal version's code has alpha 0.8 and epochs 6 to
    60 for Kinetics-Sounds: ``alpha=0.8, start=6, end=60``, there with the noise of ``ogm_ge``.

    Where paper and released code disagree, or crash: an exact tie slows nobody (the code slows the first modality); the
    scope is every weight, not only 4-d ones, as the authors say in their issue 22 (the same set on a ResNet); for
    fusions that do not add up the scores come from Shapley responses (the code stops with a shape error); a score that
    is not a number changes nothing and is counted in the curves (the code trains on NaN), or raises under ``debug``.
    """

    category = "gradient"
    paper = "Peng et al., CVPR 2022"
    touches = "weights"
    reads = ("unimodal_logits",)

    def __init__(
        self,
        alpha: float = 0.3,
        *,
        variant: Variant = "paper",
        multi: Literal["pairwise_mean", "min_ratio"] = "pairwise_mean",
        scope: Scope = "weights",
        target: Target = "grad",
        start: int = 0,
        end: int | None = 50,
    ) -> None:
        super().__init__(start=start, end=end)
        if not alpha >= 0:
            raise ValueError(f"alpha={alpha}: the strength of the modulation must be 0 or more")
        self.alpha, self.variant, self.multi, self.scope, self.target = alpha, variant, multi, scope, target
        self.needs_optimizer = target == "update"

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        check_complete(self, "unimodal_logits", output.unimodal_logits)
        rho = self.ratios(output, batch, ctx, self.multi)
        if not self.active(ctx):
            return
        k = usable(coefficients(rho, self.alpha, self.variant), ctx)
        ctx.log(**{f"coefficient/{m}": x for m, x in k.items()})
        for number, m, p in self.in_scope(self.scope):
            self.edit(p, k[m], number, batch, ctx)

    def edit(self, parameter: nn.Parameter, k: Tensor, number: int, batch: Batch, ctx: Context) -> None:
        """What happens to one parameter of an encoder; ``number`` is its place among all of them."""
        self.modulate(parameter, k, self.target)


def coefficients(rho: Mapping[str, Tensor], alpha: float, variant: Variant = "paper") -> dict[str, Tensor]:
    """k_m = 1 - tanh(alpha rho_m) where rho_m > 1, else 1; ``acc``: 1 + tanh(alpha / rho_m) where rho_m < 1, else 1.

    ``journal``: 1 - alpha tanh(rho_m - 1), at least 0, where rho_m > 1, else 1. NaN stays NaN.
    """
    if variant == "acc":
        return {m: torch.where(r >= 1, 1.0, 1 + torch.tanh(alpha / r)) for m, r in rho.items()}
    if variant == "journal":
        return {m: torch.where(r <= 1, 1.0, (1 - alpha * torch.tanh(r - 1)).clamp_min(0)) for m, r in rho.items()}
    return {m: torch.where(r <= 1, 1.0, 1 - torch.tanh(alpha * r)) for m, r in rho.items()}


def usable(k: Mapping[str, Tensor], ctx: Context) -> dict[str, Tensor]:
    """Coefficients with 1 in place of what is not finite; how many that were is logged, or an error under ``debug``."""
    bad = torch.stack([~torch.isfinite(x) for x in k.values()])
    if ctx.debug and bool(bad.any()):
        raise FloatingPointError(f"a coefficient is not finite at step {ctx.step}: {k}")
    ctx.log(coefficients_not_finite=bad.sum())
    return {m: torch.where(torch.isfinite(x), x, 1.0) for m, x in k.items()}
