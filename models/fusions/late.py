"""Late fusion: one linear classifier per modality, averaged."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.fusion import Fusion, linear, votes


class Late(Fusion):
    """z = mean_m (W_m h_m + b_m) over the modalities a sample has, trained jointly (spec fusion.md, section 3).

    A dropped modality is not an absent one: its feature is zero, and its bias still votes. Each branch gets 1/M of the
    gradient that ``sum`` would give it: learning rates do not carry over.
    """

    source = "common use; G2D, LFM"
    is_additive = True

    def __init__(self, dims: Mapping[str, int], num_classes: int) -> None:
        super().__init__(dims, num_classes)
        self.head = nn.ModuleDict({m: linear(d, num_classes) for m, d in self.dims.items()})

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        said = torch.stack(list(self.unimodal_logits(features).values()))
        return average(said, votes(self.dims, present, said[0]))

    def unimodal_logits(self, features: Mapping[str, Tensor], *, detach: bool = False) -> dict[str, Tensor]:
        said = {m: self.head[m](f) for m, f in features.items()}
        return {m: z.detach() for m, z in said.items()} if detach else said


def average(logits: Tensor, weight: Tensor) -> Tensor:
    """(B, C): the mean of logits (M, B, C) over modalities, weighted by (M, B)."""
    return (weight[..., None] * logits).sum(0) / weight.sum(0)[:, None]
