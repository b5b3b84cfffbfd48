"""On-the-fly prediction modulation (OPM): drop the feature of the leading modality at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ogm.context import Context
from ogm.imbalance import discrepancy_ratios, true_class_scores
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class OPM(Strategy):
    """Drop the feature of the dominant modality with a probability that grows with its dominance.

    In each step, inside the epoch window:
    1. s_m = sum over the global batch of softmax(u_m)[y], from the unimodal logits u_m (B, C) before anything is
       dropped; rho_m = mean_{k != m} s_m / s_k.
    2. q_m = q_base (1 + lam tanh(rho_m - 1)), in [0, 1], where rho_m > 1; else 0.
    3. With probability 1 - p_exe, one draw per step, nothing is dropped.
    4. Otherwise modality m is dropped from each sample independently with probability q_m, and with ``rescale`` the
       features of all modalities are divided by 1 - theta, theta = sum_m D_m q_m / sum_m D_m.
    5. L = CE of the fused logits, averaged over the samples that keep at least one modality.

    Nothing is dropped at evaluation. If no sample of a batch keeps a modality, the loss is 0 and only momentum moves
    the weights; to skip the step the program would have to wait for the device. All defaults are those of the released
    script for Kinetics-Sounds.

    Args:
        q_base: Drop probability at balance, in [0, 1].
        lam: How much the probability grows with dominance, 0 or more.
        p_exe: Probability of dropping anything in a step, in [0, 1].
        rescale: Divide the features by 1 - theta.
        start: First epoch in which features are dropped, from 0. Default 6, as released.
        end: Last such epoch (inclusive); None: until the end of the run.

    Differences:
        - Paper (as third parties read it): q_m of the previous step. Released code and ours: of this step.
        - Released code: q_m and theta keep their graphs, which leaks a gradient into the encoders that does not depend
          on the loss. Ours: both are constants.
        - Released code: a stray bracket prevents the classifier file from running. Ours follows its formulas.
        - BalanceBenchmark: divides the scores in place, so the second ratio is computed from a changed score. Ours does
          not.

    References:
        - Paper: Wei et al., TPAMI 2024.
        - Code: GeWu-Lab/BML_TPAMI2024 at 4b3aa4f; GeWu-Lab/BalanceBenchmark at 4c1482f.
    """

    category = "feature"
    title = "On-the-fly Prediction Modulation"
    paper = "Wei et al., TPAMI 2024"
    reads = ("fusion",)
    needs_whole_batch = True

    def __init__(
        self,
        q_base: float = 0.5,
        lam: float = 0.5,
        p_exe: float = 0.7,
        *,
        rescale: bool = True,
        start: int = 6,
        end: int | None = None,
    ) -> None:
        super().__init__(start=start, end=end)
        if not (0 <= q_base <= 1 and lam >= 0 and 0 <= p_exe <= 1):
            raise ValueError(
                f"q_base={q_base}, lam={lam}, p_exe={p_exe}: choose q_base and p_exe in [0, 1] and lam >= 0"
            )
        self.q_base, self.lam, self.p_exe, self.rescale = q_base, lam, p_exe, rescale
        self._rho: dict[str, Tensor] = {}  # ratios of this step, before anything is dropped

    def on_features(self, features: dict[str, Tensor], batch: Batch, ctx: Context) -> tuple[dict[str, Tensor], Batch]:
        """Drop features of leading modalities (steps 1 to 4), and exclude samples that keep none."""
        unimodal_logits = self.fusion.unimodal_logits(features, detach=True)
        self._rho = discrepancy_ratios(true_class_scores(unimodal_logits, batch, ctx))
        if not self.in_window(ctx) or ctx.chance("opm/execute") >= self.p_exe:
            return features, batch
        q = drop_rates(self._rho, self.q_base, self.lam)
        ctx.log(**{f"drop_rate/{m}": rate for m, rate in q.items()})
        keep = {m: (ctx.uniform(batch.index, f"opm/{m}") >= q[m]) & batch.has_all([m]) for m in features}
        theta = dropped_share(q, {m: f.shape[1] for m, f in features.items()}) if self.rescale else 0.0
        visible = torch.stack(list(keep.values())).any(0)
        weight = visible * (1.0 if batch.weight is None else batch.weight)
        return drop_features(features, keep, theta), replace(batch, weight=weight)

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        """Log the ratios from before anything was dropped."""
        bad = torch.stack([~torch.isfinite(r) for r in self._rho.values()]).any()
        ctx.log(ratios_not_finite=bad, **{f"discrepancy_ratio/{m}": r for m, r in self._rho.items()})


def drop_rates(rho: Mapping[str, Tensor], q_base: float, lam: float) -> dict[str, Tensor]:
    """Drop probabilities of the modalities.

    Args:
        rho: Modality -> 0-dim ratio; above 1 for a modality that leads.
        q_base: Probability at balance.
        lam: How much it grows with dominance.

    Returns:
        Modality -> 0-dim q_m = q_base (1 + lam tanh(rho_m - 1)), in [0, 1], where rho_m > 1; else 0, also where rho_m
        is NaN. Detached.
    """
    return {
        m: torch.where(r > 1, (q_base * (1 + lam * torch.tanh(r - 1))).clamp(0, 1), 0.0).detach()
        for m, r in rho.items()
    }


def dropped_share(q: Mapping[str, Tensor], widths: Mapping[str, int]) -> Tensor:
    """Expected share of feature coordinates that are dropped.

    Args:
        q: Modality -> 0-dim drop probability.
        widths: Modality -> feature width D_m.

    Returns:
        0-dim theta = sum_m D_m q_m / sum_m D_m.
    """
    return torch.stack([widths[m] * x for m, x in q.items()]).sum() / sum(widths.values())


def drop_features(
    features: Mapping[str, Tensor], keep: Mapping[str, Tensor], theta: Tensor | float = 0.0
) -> dict[str, Tensor]:
    """Drop features, and rescale what remains.

    Args:
        features: Modality -> (B, D_m).
        keep: Modality -> (B,) bool, which samples keep it.
        theta: Expected share of dropped coordinates.

    Returns:
        Modality -> (B, D_m) feature keep / (1 - theta). Modalities that are never dropped are rescaled too.
    """
    return {m: f * (keep[m][:, None] / (1 - theta)).to(f.dtype) for m, f in features.items()}
