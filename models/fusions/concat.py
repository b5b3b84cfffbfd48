"""Concatenation: one linear layer over all features, which splits exactly into one part per modality."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.fusion import Fusion
from models.layers import detach_if, linear
from ogm.parts.heads import split_linear


class Concat(Fusion):
    """One linear layer over all features side by side. Widths may differ.

    z = W [h_1; ...; h_M] + b, with the unimodal logits u_m = W_m h_m + b / M, where W_m are the columns of W that
    belong to modality m: sum_m u_m = z.

    Differences:
        - The released OGM-GE code takes the two halves of W for two modalities; here each has as many columns as its
          feature is wide.

    References:
        - Peng et al., "Balanced Multimodal Learning via On-the-fly Gradient Modulation", CVPR 2022, where it is the
          concatenation; GeWu-Lab/OGM-GE_CVPR2022@343dc1d, models/fusion_modules.py, ``ConcatFusion``.
    """

    source = "common use"
    is_additive = True
    has_unimodal_heads = True
    head: nn.Linear

    def __init__(self, dims: Mapping[str, int], num_classes: int) -> None:
        super().__init__(dims, num_classes)
        self.head = linear(sum(self.dims.values()), num_classes)

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Compute z (B, C) from features (B, D_m)."""
        logits: Tensor = self.head(torch.cat(list(features.values()), dim=1))
        return logits

    def unimodal_logits(self, features: Mapping[str, Tensor], *, detach: bool = False) -> dict[str, Tensor]:
        """Compute u_m (B, C) for each modality in ``features``; they add up to the fused logits."""
        return detach_if(detach, split_linear(self.head, features, dims=self.dims))
