"""Calibrated multimodal learning (CML): removing a modality must not make the prediction more confident."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from ogm.checks import check_complete
from ogm.context import Context, world_size
from ogm.losses import full
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class CML(Strategy):
    """Penalise a prediction that becomes more confident when a modality is removed.

    In each step:
    1. Draw an order of the modalities. z^(k) (B, C) are the fused logits without the first k of them, k = 0 .. M - 1;
       c^(k) (B,) is their confidence, the largest class probability.
    2. R = sum over k = 1 .. M - 1 and over the samples of the global batch of e max(0, c^(k) - c^(k-1)). With ``mask``,
       e = 0 for a sample that removing the modality changed from wrong to right; otherwise e = 1.
    3. L = mean over k of CE(z^(k), y) + lam R. Gradients flow through both confidences.

    A modality is removed by setting its features to zero, with all biases kept; for a concat fusion with bias b this is
    z - u_m + b / M. It costs M - 1 evaluations of the fusion and none of the encoders. A sample counts for z^(k) if it
    has one of the remaining modalities. R is a sum over the batch, so ``lam`` holds for one batch size only. The
    prediction is argmax z.

    Args:
        lam: Weight of the penalty, 0 or more. BalanceBenchmark: 0.1. The released MIWAE script has 10/100 for batches
            of up to 200 samples.
        mask: Apply e of step 2; without it every sample counts.
        variant: ``"cpm"``: the penalty of the released CPM-Nets branch, and one order for all samples of a step.
            ``"miwae"``: that of the released MIWAE branch: an order per sample and step, and where both predictions are
            wrong c^(k-1) has no gradient, so that it is never raised there ("trick 2" of that code).

    Differences:
        - Released code: two branches, for two generative backbones, which remove inputs. Ours: any fusion, and features
          are removed.
        - BalanceBenchmark: takes max(0, .) of the batch sum, where a few large decreases hide many increases, and
          computes the mask without applying it. Ours, as in the released code: per sample, with the mask.
        - BalanceBenchmark: one order for a whole epoch. Ours: a new order in every step.

    References:
        - Paper: Ma et al., ICML 2023.
        - Code: GeWu-Lab/BalanceBenchmark at 4c1482f; the authors' CPM-Nets and MIWAE branches.
    """

    category = "loss"
    title = "Calibrating Multimodal Learning"
    paper = "Ma et al., ICML 2023"
    reads = ("features", "fusion")

    def __init__(self, lam: float = 0.1, *, mask: bool = True, variant: Literal["cpm", "miwae"] = "cpm") -> None:
        super().__init__()
        if not lam >= 0:
            raise ValueError(f"lam={lam}: the weight of the penalty must be 0 or more")
        self.lam, self.mask, self.variant = lam, mask, variant

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the mean CE over the M reduced predictions, and the penalty (steps 2 and 3)."""
        check_complete(self, "features", output.features)
        losses, before = {"fused": self.loss(output.logits, batch, ctx)}, output.logits
        reduced_losses, penalties = [], []
        for k in range(1, len(self.modalities)):
            after, weight = self.remove_first(k, output, batch, ctx)
            reduced_losses.append(ctx.mean(self.criterion(after, batch.label), weight))
            rise = confidence_rise(before, after, batch.label, self.mask, trick_2=self.variant == "miwae").clamp_min(0)
            penalties.append(rise.sum() if weight is None else (rise * weight).sum())
            before = after
        losses["reduced"] = torch.stack(reduced_losses).sum()
        losses = {name: loss / len(self.modalities) for name, loss in losses.items()}
        # ctx.backward weights by share and averages over ranks: so the result is the sum over the global batch.
        return losses | {"penalty": self.lam * torch.stack(penalties).sum() * world_size() / ctx.share}

    def remove_first(self, k: int, output: Output, batch: Batch, ctx: Context) -> tuple[Tensor, Tensor | None]:
        """Remove the first k modalities of the order of this step.

        Args:
            k: How many modalities are removed, 1 .. M - 1.
            output: Output of the model, with the features of all modalities.
            batch: The batch of this step.
            ctx: Seed and step number, from which the order is drawn.

        Returns:
            (B, C) fused logits, and the (B,) weights of the samples there (None: all equal).
        """
        if self.variant == "miwae":
            draws = torch.stack([ctx.uniform(batch.index, f"cml/{m}") for m in self.modalities])
            kept = {m: rank >= k for m, rank in zip(self.modalities, draws.argsort(0).argsort(0), strict=True)}
            features = {m: f * kept[m][:, None].to(f.dtype) for m, f in output.features.items()}
            return self.fusion(features, batch.present), remaining_weights(batch, kept)
        order = sorted(self.modalities, key=lambda m: ctx.chance(f"cml/{m}"))
        return self.fusion(output.features, batch.present, drop=order[:k]), remaining_weights(
            batch, dict.fromkeys(order[k:])
        )


def confidence_rise(before: Tensor, after: Tensor, label: Tensor, mask: bool = True, trick_2: bool = False) -> Tensor:
    """How much confidence rises when a modality is removed.

    Args:
        before: (B, C) logits before the removal.
        after: (B, C) logits after it.
        label: (B,) classes.
        mask: 0 for samples that the removal changed from wrong to right.
        trick_2: Where both predictions are wrong, ``before`` gets no gradient.

    Returns:
        (B,) rise of the largest class probability, between -1 and 1.
    """
    before, after = full(before), full(after)
    confidence_before, confidence_after = before.softmax(1).amax(1), after.softmax(1).amax(1)
    wrong_before, right_after = before.argmax(1) != label, after.argmax(1) == label
    if trick_2:
        confidence_before = torch.where(wrong_before & ~right_after, confidence_before.detach(), confidence_before)
    rise = confidence_after - confidence_before
    return torch.where(wrong_before & right_after, 0.0, rise) if mask else rise


def remaining_weights(batch: Batch, kept: Mapping[str, Tensor | None]) -> Tensor | None:
    """Weights of the samples when only some modalities are kept.

    Args:
        batch: Says which samples have which modality, and their weights.
        kept: Kept modality -> (B,) bool, in which samples it is kept; None: in all.

    Returns:
        (B,) weight of each sample, 0 where it has none of the kept modalities; None: all equal.
    """
    if not batch.present:
        return batch.weight
    visible = [batch.has_all([m]) if rows is None else batch.has_all([m]) & rows for m, rows in kept.items()]
    return torch.stack(visible).any(0) * (1.0 if batch.weight is None else batch.weight)
