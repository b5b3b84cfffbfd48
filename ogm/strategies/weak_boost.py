"""Weak-modality boost: enlarge the gradient of the modality that lags, and leave the strong one alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

from ogm.coalitions import responses
from ogm.context import Context
from ogm.scores import TINY, true_class_scores
from ogm.strategies.ogm import usable
from ogm.strategy import Scope, Strategy, Target
from ogm.types import Batch, Output


class WeakBoost(Strategy):
    """This suite's own combination (spec methods_gradient.md, 3.5); no claim that it beats OGM-GE is made.

    A mini-batch gradient is the true one plus noise, so k > 1 amplifies both: the enhancement is the data's own noise,
    and none is added. The bare coefficient 1 + tanh(alpha rho) stands in the PMR repository as ``Acc``; the bounds, the
    smooth form, the rule for three or more modalities and the target are ours. ``parity``: a boosted gradient's norm
    does not exceed this many times the largest norm among the others. ``target="auto"``: the update for Adam and
    AdamW, else the gradient. The window is OGM's: it does not end in a run of 20 epochs.
    """

    category = "gradient"
    paper = "this suite"
    touches = "weights"

    def __init__(
        self,
        alpha: float = 0.3,
        *,
        form: Literal["step", "smooth"] = "step",
        rho_max: float = 10.0,
        k_max: float = 2.0,
        dead_band: float = 0.0,
        parity: float | None = None,
        scope: Scope = "weights",
        target: Literal["auto", "grad", "update"] = "auto",
        start: int = 0,
        end: int | None = 50,
    ) -> None:
        super().__init__(start=start, end=end)
        if not (alpha >= 0 and rho_max > 1 and 1 <= k_max <= 2 and dead_band >= 0 and (parity is None or parity > 0)):
            raise ValueError(
                f"alpha={alpha}, rho_max={rho_max}, k_max={k_max}, dead_band={dead_band}, parity={parity}: needs "
                "alpha >= 0, rho_max > 1, 1 <= k_max <= 2, dead_band >= 0, parity > 0"
            )
        self.alpha, self.form, self.rho_max, self.k_max = alpha, form, rho_max, k_max
        self.dead_band, self.parity, self.scope, self.target = dead_band, parity, scope, target

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        if len(output.unimodal_logits) < 2:
            raise ValueError("WeakBoost compares modalities: the output needs the unimodal_logits of each")
        super().on_gradients(output, batch, ctx)
        if not self.active(ctx):
            return
        rho = lag_ratios(true_class_scores(responses(output, batch, ctx), batch, ctx), self.rho_max)
        k = usable(boosts(rho, self.alpha, self.form, self.k_max, self.dead_band), ctx)
        found = [(m, p) for _, m, p in self.in_scope(self.scope)]
        if self.parity is not None:
            k = bounded(k, {m: norm(p.grad for n, p in found if n == m) for m in self.modalities}, self.parity)
        ctx.log(**{f"coefficient/{m}": x for m, x in k.items()})
        adaptive = isinstance(ctx.optimizer, torch.optim.Adam)  # AdamW is one, too
        target: Target = self.target if self.target != "auto" else "update" if adaptive else "grad"
        for m, p in found:
            self.modulate(p, k[m], target)


def lag_ratios(scores: Mapping[str, Tensor], rho_max: float) -> dict[str, Tensor]:
    """rho_m = mean over the other modalities of score_k / score_m, at most rho_max; above 1 means behind."""
    tie = torch.stack(list(scores.values())).amax() <= TINY
    rho = {m: torch.stack([scores[k] for k in scores if k != m]).mean() / s.clamp_min(TINY) for m, s in scores.items()}
    return {m: torch.where(tie, 1.0, r.clamp(0, rho_max)) for m, r in rho.items()}


def boosts(
    rho: Mapping[str, Tensor], alpha: float, form: Literal["step", "smooth"], k_max: float, dead_band: float = 0.0
) -> dict[str, Tensor]:
    """k_m = 1 + tanh(alpha rho_m), or for ``smooth`` 1 + tanh(alpha (rho_m - 1)), where rho_m > 1 + dead_band; or 1."""
    shift = 1.0 if form == "smooth" else 0.0
    return {
        m: torch.where(r <= 1 + dead_band, 1.0, (1 + torch.tanh(alpha * (r - shift))).clamp_max(k_max))
        for m, r in rho.items()
    }


def bounded(k: Mapping[str, Tensor], norms: Mapping[str, Tensor], parity: float) -> dict[str, Tensor]:
    """A boost that would lift a gradient above parity times the largest norm of those not boosted stops there."""
    calm = torch.stack([torch.where(k[m] > 1, 0.0, norms[m]) for m in k]).amax()
    return {m: torch.minimum(x, (parity * calm / norms[m].clamp_min(TINY)).clamp_min(1.0)) for m, x in k.items()}


def norm(grads: Iterable[Tensor | None]) -> Tensor:
    """Euclidean norm of several tensors together."""
    norms = [torch.linalg.vector_norm(g, dtype=torch.float64) for g in grads if g is not None]
    return torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros(())
