"""Calibrated multimodal learning: taking a modality away must not make the prediction more confident."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from ogm.checks import check_complete
from ogm.context import Context, world_size
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class CML(Strategy):
    """Ma et al., ICML 2023 (spec methods_loss.md, section 7).

    Modalities are taken away one by one, in an order drawn anew every step, down to one. With x^(k) the logits without
    the first k, L = mean over k of CE(x^(k)) + lam sum over k and samples of max(0, confidence(x^(k)) -
    confidence(x^(k-1))). ``mask`` excuses a sample whose prediction the removal put right. The penalty is a sum over
    the batch, so lam means what it says at one batch size only (official: 10/100 at up to 200 samples).

    "Without" is one rule for all fusions: the fusion with those features at zero and every bias kept. For concat and
    sum that is x - u_m + b_m; it costs M - 1 evaluations of the fusion, none of an encoder. A sample counts for x^(k)
    if a modality it has is left. The hinge is per sample as in the official branches; BalanceBenchmark's is of the
    batch's sum, where a few large decreases hide many increases, and computes the mask without applying it.
    """

    category = "loss"
    paper = "Ma et al., ICML 2023"
    reads = ("features", "fusion")

    def __init__(self, lam: float = 0.1, *, mask: bool = True) -> None:
        super().__init__()
        if not lam >= 0:
            raise ValueError(f"lam={lam}: the weight of the penalty must be 0 or more")
        self.lam, self.mask = lam, mask

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        check_complete(self, "features", output.features)
        gone = sorted(self.modalities, key=lambda m: ctx.chance(f"cml/{m}"))[:-1]
        losses, before = {"fused": self.loss(output.logits, batch, ctx)}, output.logits
        reduced, penalty = [], []
        for k in range(1, len(self.modalities)):
            after = self.fusion(output.features, batch.present, drop=gone[:k])
            weight = still_seen(batch, set(self.modalities).difference(gone[:k]))
            reduced.append(ctx.mean(self.criterion(after, batch.label), weight))
            rise = rises(before, after, batch.label, self.mask).clamp_min(0)
            penalty.append(rise.sum() if weight is None else (rise * weight).sum())
            before = after
        losses["reduced"] = torch.stack(reduced).sum()
        losses = {name: loss / len(self.modalities) for name, loss in losses.items()}
        # ctx.backward weighs by share and averages over ranks: this way the sum over the global batch comes out.
        return losses | {"penalty": self.lam * torch.stack(penalty).sum() * world_size() / ctx.share}


def rises(before: Tensor, after: Tensor, label: Tensor, mask: bool = True) -> Tensor:
    """(B,) how much confidence rises from logits ``before`` (B, C) to ``after``; 0 where that put a wrong one right."""
    before, after = (x.float() if x.itemsize < 4 else x for x in (before, after))
    rise = after.softmax(1).amax(1) - before.softmax(1).amax(1)
    repaired = (after.argmax(1) == label) & (before.argmax(1) != label)
    return torch.where(repaired, 0.0, rise) if mask else rise


def still_seen(batch: Batch, kept: Collection[str]) -> Tensor | None:
    """(B,) how much each sample counts where only the modalities ``kept`` are looked at. None: all alike."""
    if not batch.present:
        return batch.weight
    return torch.stack([batch.have([m]) for m in kept]).any(0) * (1.0 if batch.weight is None else batch.weight)
