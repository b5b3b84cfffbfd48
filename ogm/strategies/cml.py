"""Calibrated multimodal learning: taking a modality away must not make the prediction more confident."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

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

    The official code has two branches, for two generative backbones that take inputs away rather than features.
    ``variant="cpm"`` has the penalty of its CPM-Nets branch, and one order for all samples of a step. ``"miwae"`` has
    that of its MIWAE branch: the order is drawn for each sample of each step, and where both predictions are wrong the
    confidence before the removal has no gradient, so that it is never raised there ("trick 2" of its code).
    """

    category = "loss"
    paper = "Ma et al., ICML 2023"
    reads = ("features", "fusion")

    def __init__(self, lam: float = 0.1, *, mask: bool = True, variant: Literal["cpm", "miwae"] = "cpm") -> None:
        super().__init__()
        if not lam >= 0:
            raise ValueError(f"lam={lam}: the weight of the penalty must be 0 or more")
        self.lam, self.mask, self.variant = lam, mask, variant

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        check_complete(self, "features", output.features)
        losses, before = {"fused": self.loss(output.logits, batch, ctx)}, output.logits
        reduced, penalty = [], []
        for k in range(1, len(self.modalities)):
            after, weight = self.without(k, output, batch, ctx)
            reduced.append(ctx.mean(self.criterion(after, batch.label), weight))
            rise = rises(before, after, batch.label, self.mask, trick_2=self.variant == "miwae").clamp_min(0)
            penalty.append(rise.sum() if weight is None else (rise * weight).sum())
            before = after
        losses["reduced"] = torch.stack(reduced).sum()
        losses = {name: loss / len(self.modalities) for name, loss in losses.items()}
        # ctx.backward weighs by share and averages over ranks: this way the sum over the global batch comes out.
        return losses | {"penalty": self.lam * torch.stack(penalty).sum() * world_size() / ctx.share}

    def without(self, k: int, output: Output, batch: Batch, ctx: Context) -> tuple[Tensor, Tensor | None]:
        """Logits (B, C) without the first k modalities of an order, and how much each sample counts there."""
        if self.variant == "miwae":
            drawn = torch.stack([ctx.uniform(batch.index, f"cml/{m}") for m in self.modalities])
            seen = {m: place >= k for m, place in zip(self.modalities, drawn.argsort(0).argsort(0), strict=True)}
            left = {m: f * seen[m][:, None].to(f.dtype) for m, f in output.features.items()}
            return self.fusion(left, batch.present), still_seen(batch, seen)
        order = sorted(self.modalities, key=lambda m: ctx.chance(f"cml/{m}"))
        return self.fusion(output.features, batch.present, drop=order[:k]), still_seen(batch, dict.fromkeys(order[k:]))


def rises(before: Tensor, after: Tensor, label: Tensor, mask: bool = True, trick_2: bool = False) -> Tensor:
    """(B,) how much confidence rises from logits ``before`` (B, C) to ``after``; 0 where that put a wrong one right.

    ``trick_2``: where both are wrong, no gradient reaches ``before``.
    """
    before, after = (x.float() if x.itemsize < 4 else x for x in (before, after))
    first, second = before.softmax(1).amax(1), after.softmax(1).amax(1)
    wrong, right = before.argmax(1) != label, after.argmax(1) == label
    if trick_2:
        first = torch.where(wrong & ~right, first.detach(), first)
    return torch.where(wrong & right, 0.0, second - first) if mask else second - first


def still_seen(batch: Batch, seen: Mapping[str, Tensor | None]) -> Tensor | None:
    """(B,) how much each sample counts where only the modalities ``seen`` are looked at. None: all alike.

    ``seen[m]`` (B,) bool says in which samples m is; None in all.
    """
    if not batch.present:
        return batch.weight
    there = [batch.have([m]) if mine is None else batch.have([m]) & mine for m, mine in seen.items()]
    return torch.stack(there).any(0) * (1.0 if batch.weight is None else batch.weight)
