"""Late fusion of probabilities: a mixture of one classifier per modality."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.fusions.late import Late
from models.layers import full, presence_weights


class LateProb(Late):
    """As ``late``, but the mean is over probabilities: a mixture of classifiers.

    z = log mean_m softmax(W_m h_m + b_m) over the modalities that a sample has, computed by log-sum-exp. The fused
    logits are no sum of the unimodal ones.
    """

    is_additive = False

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Compute z (B, C), log-probabilities, from features (B, D_m)."""
        unimodal = torch.stack(list(self.unimodal_logits(features).values()))
        return mixture(unimodal, presence_weights(self.dims, present, unimodal[0]))


def mixture(logits: Tensor, weight: Tensor) -> Tensor:
    """Compute the log of the mean over modalities of softmax(logits).

    Args:
        logits: (M, B, C).
        weight: (M, B), 1 for the modalities that count in a sample and 0 for the others; in every sample at least one
            is 1.

    Returns:
        (B, C) log-probabilities, in float32 or better.
    """
    log_probs = full(logits).log_softmax(2).masked_fill(weight[..., None] == 0, -torch.inf)
    return log_probs.logsumexp(0) - weight.sum(0)[:, None].log()
