"""Sum: one linear classifier per modality, added up."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.fusion import Fusion
from models.layers import detach_if, linear_per_modality


class Sum(Fusion):
    """The sum of one linear classifier per modality.

    z = sum_m u_m with the unimodal logits u_m = W_m h_m + b_m.

    Differences:
        - The released OGM-GE code takes all of b_m while it trains and half of it while it evaluates, and with half the
          parts do not add up to z. Here u_m has all of b_m always.

    References:
        - Peng et al., "Balanced Multimodal Learning via On-the-fly Gradient Modulation", CVPR 2022, where it is the
          summation; GeWu-Lab/OGM-GE_CVPR2022@343dc1d, models/fusion_modules.py, ``SumFusion``.
    """

    source = "common use"
    is_additive = True
    has_unimodal_heads = True
    head: nn.ModuleDict

    def __init__(self, dims: Mapping[str, int], num_classes: int) -> None:
        super().__init__(dims, num_classes)
        self.head = linear_per_modality(self.dims, num_classes)

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Compute z (B, C) from features (B, D_m)."""
        return torch.stack(list(self.unimodal_logits(features).values())).sum(0)

    def unimodal_logits(self, features: Mapping[str, Tensor], *, detach: bool = False) -> dict[str, Tensor]:
        """Compute u_m (B, C) for each modality in ``features``."""
        return detach_if(detach, {m: self.head[m](f) for m, f in features.items()})
