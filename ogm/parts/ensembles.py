"""Predictions that are put together from those of several modalities."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

import torch
from torch import Tensor

from ogm.losses import full
from ogm.types import Batch


def counted_modalities(modalities: Collection[str], batch: Batch, drop: Collection[str] = ()) -> Tensor:
    """Find which modalities count in the prediction of each sample.

    Args:
        modalities: Names of all M modalities.
        batch: Says which samples have which modality.
        drop: Modalities that are left out for all samples.

    Returns:
        (M, B) bool; all modalities for a sample that would have none.
    """
    present = torch.stack([batch.has_all([m]) & (m not in drop) for m in modalities])
    return present | ~present.any(0)


def summed_logits(logits: Mapping[str, Tensor], counted: Tensor) -> Tensor:
    """Add up the modalities' logits.

    Args:
        logits: Modality -> (B, C).
        counted: (M, B) bool, which modalities count for each sample.

    Returns:
        (B, C).
    """
    stacked = torch.stack(list(logits.values()))
    return (counted[..., None].to(stacked.dtype) * stacked).sum(0)


def average_predictions(
    unimodal_logits: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    rule: Literal["prob_mean", "logit_mean"],
    weights: Mapping[str, float] | None = None,
) -> Tensor:
    """Average the predictions of several models over the modalities that each sample has.

    Args:
        unimodal_logits: Modality -> logits (B, C).
        present: Modality -> (B,) bool, which samples have it.
        rule: ``"prob_mean"`` averages probabilities, ``"logit_mean"`` averages logits.
        weights: Modality -> weight, 0 or more; renormalised over the modalities of a sample. Default: equal weights.

    Returns:
        (B, C) log of the mean probabilities, or the mean logits. A sample without any modality of positive weight gets
        the plain mean over all modalities.
    """
    logits = full(torch.stack(list(unimodal_logits.values())))  # (M, B, C)
    weight = torch.tensor([1.0 if weights is None else weights[m] for m in unimodal_logits])
    counted = torch.stack([present[m] for m in unimodal_logits]) * weight.to(logits)[:, None]  # (M, B)
    counted = torch.where(counted.sum(0) > 0, counted, 1.0)
    share = (counted / counted.sum(0))[..., None]
    if rule == "logit_mean":
        return (share * logits).sum(0)
    return (logits.log_softmax(2) + share.log()).logsumexp(0)
