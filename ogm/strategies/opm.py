"""On-the-fly prediction modulation: hide the feature of the modality that is ahead, more often the further ahead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ogm.context import Context
from ogm.scores import discrepancy_ratios, true_class_scores
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class OPM(Strategy):
    """Wei et al., TPAMI 2024 (spec methods_loss.md, section 9).

    A modality with ratio rho_m > 1 is hidden from a sample with probability q_m = q_base (1 + lam tanh(rho_m - 1)),
    and all features are divided by 1 - theta, theta being the expected share of hidden coordinates. One step in
    1 - p_exe goes on untouched, and so do the first ``start`` epochs. A sample left with nothing does not count.

    The ratios are those of the fusion's own unimodal logits before anything is hidden, so they need the whole batch,
    and ``attach`` the fusion. Where paper and released code disagree: q comes from this step's ratios (the code; the
    paper's algorithm takes the last step's), and no gradient flows through q and theta (in the code theta's leaks into
    the encoders, whatever the loss). If every sample of a batch loses all it has (with two modalities only where some
    are missing) the loss is 0 and only momentum moves: to skip the step would be to wait for the device.
    """

    category = "feature"
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
                f"q_base={q_base}, lam={lam}, p_exe={p_exe}: q_base and p_exe are probabilities, lam is 0 or more"
            )
        self.q_base, self.lam, self.p_exe, self.rescale = q_base, lam, p_exe, rescale
        self._rho: dict[str, Tensor] = {}  # of this step, before anything was hidden

    def on_features(self, features: dict[str, Tensor], batch: Batch, ctx: Context) -> tuple[dict[str, Tensor], Batch]:
        said = self.fusion.unimodal_logits(features, detach=True)
        self._rho = discrepancy_ratios(true_class_scores(said, batch, ctx))
        if not self.active(ctx) or ctx.chance("opm/execute") >= self.p_exe:
            return features, batch
        q = rates(self._rho, self.q_base, self.lam)
        ctx.log(**{f"drop_rate/{m}": x for m, x in q.items()})
        keep = {m: (ctx.uniform(batch.index, f"opm/{m}") >= q[m]) & batch.have([m]) for m in features}
        theta = hidden_share(q, {m: f.shape[1] for m, f in features.items()}) if self.rescale else 0.0
        visible = torch.stack(list(keep.values())).any(0)
        weight = visible * (1.0 if batch.weight is None else batch.weight)
        return masked(features, keep, theta), replace(batch, weight=weight)

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        bad = torch.stack([~torch.isfinite(r) for r in self._rho.values()]).any()
        ctx.log(ratios_not_finite=bad, **{f"discrepancy_ratio/{m}": r for m, r in self._rho.items()})


def rates(rho: Mapping[str, Tensor], q_base: float, lam: float) -> dict[str, Tensor]:
    """q_m in [0, 1], 0-dim: how probable it is that modality m is hidden; 0 unless it is ahead (a NaN ratio is not)."""
    return {
        m: torch.where(r > 1, (q_base * (1 + lam * torch.tanh(r - 1))).clamp(0, 1), 0.0).detach()
        for m, r in rho.items()
    }


def hidden_share(q: Mapping[str, Tensor], widths: Mapping[str, int]) -> Tensor:
    """theta, 0-dim: the expected share of feature coordinates that are hidden."""
    return torch.stack([widths[m] * x for m, x in q.items()]).sum() / sum(widths.values())


def masked(
    features: Mapping[str, Tensor], keep: Mapping[str, Tensor], theta: Tensor | float = 0.0
) -> dict[str, Tensor]:
    """Features (B, D_m) times keep (B,), over 1 - theta: the modalities that nobody hides are enlarged too."""
    return {m: f * (keep[m][:, None] / (1 - theta)).to(f.dtype) for m, f in features.items()}
