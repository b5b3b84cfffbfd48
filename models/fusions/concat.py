"""Concatenation: one linear layer over all features, which splits exactly into one part per modality."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.fusion import Fusion, linear
from ogm.heads import split_linear


class Concat(Fusion):
    """z = W [h_1; ...; h_M] + b, unimodal W_m h_m + b / M (spec fusion.md, section 1). Widths may differ."""

    source = "common use"
    is_additive = True

    def __init__(self, dims: Mapping[str, int], num_classes: int) -> None:
        super().__init__(dims, num_classes)
        self.head = linear(sum(self.dims.values()), num_classes)

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        logits: Tensor = self.head(torch.cat(list(features.values()), dim=1))
        return logits

    def unimodal_logits(self, features: Mapping[str, Tensor], *, detach: bool = False) -> dict[str, Tensor]:
        own = split_linear(self.head, features, dims=self.dims)
        return {m: z.detach() for m, z in own.items()} if detach else own
