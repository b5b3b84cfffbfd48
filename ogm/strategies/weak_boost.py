"""Weak-modality boost: enlarge the gradient of the weak modality, and leave the strong one unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from ogm.checks import check_complete
from ogm.context import Context
from ogm.imbalance import TINY, lag_ratios
from ogm.parts.gradients import finite_or_one, gradients_of, squared_norms
from ogm.strategy import Strategy
from ogm.types import Batch, Output, Scope, Target


class WeakBoost(Strategy):
    """Enlarge the gradient of the weak modality instead of slowing the strong one down.

    This is this suite's own combination; we do not claim that it beats OGM-GE.

    After the backward pass, inside the epoch window:
    1. s_m = sum over the global batch of softmax(u_m)[y], from the unimodal logits u_m (B, C).
    2. rho_m = mean_{k != m} s_k / s_m, at most rho_max. Modality m is weak if rho_m > 1 + dead_band.
    3. For a weak modality k_m = 1 + tanh(alpha rho_m) (``"step"``) or 1 + tanh(alpha (rho_m - 1)) (``"smooth"``), at
       most k_max; otherwise k_m = 1.
    4. With ``parity`` = c: k_m <- min(k_m, max(1, c G / ||g_m||)), G being the largest gradient norm among the encoders
       that are not weak.
    5. g <- k_m g for every parameter in scope of encoder m.

    A mini-batch gradient is the true gradient plus noise. k_m > 1 enlarges both, so no artificial noise is added.

    Args:
        alpha: Strength of the boost, 0 or more.
        form: ``"step"`` jumps at rho_m = 1 + dead_band; ``"smooth"`` is continuous at balance.
        rho_max: Upper limit of rho_m, above 1.
        k_max: Upper limit of k_m, between 1 and 2.
        dead_band: How far rho_m must exceed 1 before anything is boosted, 0 or more.
        parity: Limit of a boosted gradient's norm in units of the strong encoders' largest norm, above 0; None: no
            limit.
        scope: Which parameters are boosted: ``"weights"`` (two or more dimensions), ``"conv4d"`` (exactly four) or
            ``"all"``.
        target: Scale the gradient (``"grad"``) or the optimizer's update (``"update"``); ``"auto"``: the update for
            Adam and AdamW, which undo a constant scale of the gradient, and the gradient for all others.
        start: First epoch of the window, counted from 0.
        end: Last epoch of the window (inclusive), whatever the run's length; None: until the end of the run. Default
            50, as in ``OGM``: a run of 20 epochs is boosted to its end.

    Differences:
        - The coefficient 1 + tanh(alpha rho) exists as the ``Acc`` ablation in PMR's repository and as a commented line
          in that of the journal version of OGM. The limits, the smooth form, the rule for three or more modalities and
          ``target`` are ours.

    References:
        - This suite.
        - Code of the coefficient: fanyunfeng-bit/Modal-Imbalance-PMR at 3615e48; GeWu-Lab/BML_TPAMI2024 at 4b3aa4f.
    """

    category = "gradient"
    title = "Larger gradients for the weak modality"
    paper = "this suite"
    touches = "weights"
    reads = ("unimodal_logits",)

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
                f"alpha={alpha}, rho_max={rho_max}, k_max={k_max}, dead_band={dead_band}, parity={parity}: choose "
                "alpha >= 0, rho_max > 1, 1 <= k_max <= 2, dead_band >= 0 and parity > 0"
            )
        self.alpha, self.form, self.rho_max, self.k_max = alpha, form, rho_max, k_max
        self.dead_band, self.parity, self.scope, self.target = dead_band, parity, scope, target
        self.needs_optimizer = target != "grad"

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        """Multiply the gradients of weak modalities' encoders by k_m, inside the epoch window."""
        check_complete(self, "unimodal_logits", output.unimodal_logits)
        scores = self.scores(output, batch, ctx)
        self.log_ratios(scores, ctx)
        if not self.in_window(ctx):
            return
        rho = lag_ratios(scores, self.rho_max)
        factors = finite_or_one(boost_factors(rho, self.alpha, self.form, self.k_max, self.dead_band), ctx)
        k = dict(zip(rho, factors.unbind(), strict=True))
        inside = self.in_scope(self.scope)
        if self.parity is not None:
            k = limit_norms(k, {m: joint_norm(gradients_of(inside[m])) for m in self.modalities}, self.parity)
        ctx.log(**{f"coefficient/{m}": coefficient for m, coefficient in k.items()})
        adaptive = isinstance(ctx.optimizer, torch.optim.Adam)  # AdamW is one, too
        target: Target = self.target if self.target != "auto" else "update" if adaptive else "grad"
        for m, parameters in inside.items():
            self.modulate(parameters, k[m], target)


def boost_factors(
    rho: Mapping[str, Tensor], alpha: float, form: Literal["step", "smooth"], k_max: float, dead_band: float = 0.0
) -> Tensor:
    """Coefficients of the gradients.

    Args:
        rho: Modality -> 0-dim ratio, see ``lag_ratios``.
        alpha: Strength of the boost.
        form: ``"step"`` or ``"smooth"``.
        k_max: Upper limit of the coefficients.
        dead_band: How far rho must exceed 1.

    Returns:
        (M,) k_m = 1 + tanh(alpha rho_m), or 1 + tanh(alpha (rho_m - 1)) for ``"smooth"``, at most k_max, where rho_m >
        1 + dead_band; else 1. In the order of the modalities.
    """
    r = torch.stack(list(rho.values()))
    boost = 1 + torch.tanh(alpha * (r - 1 if form == "smooth" else r))
    return boost.clamp_max(k_max).masked_fill(r <= 1 + dead_band, 1.0)


def limit_norms(k: Mapping[str, Tensor], norms: Mapping[str, Tensor], parity: float) -> dict[str, Tensor]:
    """Limit the coefficients so that no boosted gradient exceeds ``parity`` times the largest gradient of the others.

    Args:
        k: Modality -> 0-dim coefficient, 1 or more.
        norms: Modality -> 0-dim norm of the encoder's gradient.
        parity: The limit, above 0.

    Returns:
        Modality -> 0-dim min(k_m, max(1, parity G / norm_m)), G the largest norm among modalities with k = 1.
    """
    largest = torch.stack([torch.where(k[m] > 1, 0.0, norms[m]) for m in k]).amax()
    return {m: torch.minimum(x, (parity * largest / norms[m].clamp_min(TINY)).clamp_min(1.0)) for m, x in k.items()}


def joint_norm(gradients: list[Tensor]) -> Tensor:
    """Euclidean norm of several tensors taken together as one vector.

    Args:
        gradients: Tensors of any shape.

    Returns:
        0-dim float64 norm; 0 if there is no tensor.
    """
    return squared_norms(gradients).sum().sqrt() if gradients else torch.zeros(())
