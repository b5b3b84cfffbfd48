"""Late fusion of probabilities: a mixture of one classifier per modality."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.fusion import full, votes
from models.fusions.late import Late


class LateProb(Late):
    """z = log mean_m softmax(W_m h_m + b_m) over the modalities a sample has (spec fusion.md, section 3).

    A mixture is no sum of logits, but each modality has a classifier of its own, which scores go by.
    """

    is_additive = False
    own_logits = True

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        said = torch.stack(list(self.unimodal_logits(features).values()))
        return mixture(said, votes(self.dims, present, said[0]))


def mixture(logits: Tensor, weight: Tensor) -> Tensor:
    """(B, C): log of the mean over modalities of softmax(logits (M, B, C)), over those whose weight (M, B) is not 0."""
    said = full(logits).log_softmax(2).masked_fill(weight[..., None] == 0, -torch.inf)
    return said.logsumexp(0) - weight.sum(0)[:, None].log()
