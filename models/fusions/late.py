"""Late fusion: one linear classifier per modality, averaged."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.fusion import Fusion
from models.layers import detach_if, linear_per_modality, presence_weights, weighted_mean


class Late(Fusion):
    """The mean of one linear classifier per modality, trained jointly on the cross-entropy of the mean.

    z = mean_m u_m over the modalities that a sample has, with the unimodal logits u_m = W_m h_m + b_m. A dropped
    modality is not an absent one: its feature is zero, and its bias still counts in the mean. Each branch gets 1/M of
    the gradient that ``sum`` would give it, so learning rates do not carry over from there.

    References:
        - The student network of G2D (rAIson-Lab/G2D@95969d8) and the released code of LFM fuse like this.
    """

    source = "common use; G2D, LFM"
    is_additive = True
    is_mean = True
    has_unimodal_heads = True
    head: nn.ModuleDict

    def __init__(self, dims: Mapping[str, int], num_classes: int) -> None:
        super().__init__(dims, num_classes)
        self.head = linear_per_modality(self.dims, num_classes)

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Compute z (B, C) from features (B, D_m)."""
        unimodal = torch.stack(list(self.unimodal_logits(features).values()))
        return weighted_mean(unimodal, presence_weights(self.dims, present, unimodal[0]))

    def unimodal_logits(self, features: Mapping[str, Tensor], *, detach: bool = False) -> dict[str, Tensor]:
        """Compute u_m (B, C) for each modality in ``features``."""
        return detach_if(detach, {m: self.head[m](f) for m, f in features.items()})
