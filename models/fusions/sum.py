"""Sum: one linear classifier per modality, added up."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.fusion import Fusion, linear


class Sum(Fusion):
    """z = sum_m (W_m h_m + b_m), unimodal W_m h_m + b_m with the whole bias (spec fusion.md, section 2).

    The released OGM-GE code halves the bias in evaluation, where the parts then do not add up; we do not.
    """

    source = "common use"
    is_additive = True

    def __init__(self, dims: Mapping[str, int], num_classes: int) -> None:
        super().__init__(dims, num_classes)
        self.head = nn.ModuleDict({m: linear(d, num_classes) for m, d in self.dims.items()})

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        return torch.stack(list(self.unimodal_logits(features).values())).sum(0)

    def unimodal_logits(self, features: Mapping[str, Tensor], *, detach: bool = False) -> dict[str, Tensor]:
        said = {m: self.head[m](f) for m, f in features.items()}
        return {m: z.detach() for m, z in said.items()} if detach else said
