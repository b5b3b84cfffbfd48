"""MMTM with a concat head."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.fusions.mmtm import MMTMLate
from models.layers import detach_if, linear
from ogm.parts.heads import split_linear


class MMTMConcat(MMTMLate):
    """As ``mmtm``, but with one linear layer over all final features.

    z = W [h_1; ...; h_M] + b, with the unimodal logits u_m = W_m h_m + b / M as in ``concat``. They add up to z only
    for the same features: those depend on all modalities.

    Differences:
        - Released code: its second kind of head is a linear layer over the concatenated predictions of the branches.
          Ours: over their features.
    """

    head: nn.Linear

    def build_head(self) -> nn.Module:
        """Make the classifier of the final features."""
        return linear(sum(self.dims.values()), self.num_classes)

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Compute z (B, C) from features (B, D_m)."""
        logits: Tensor = self.head(torch.cat(list(features.values()), dim=1))
        return logits

    def unimodal_logits(self, features: Mapping[str, Tensor], *, detach: bool = False) -> dict[str, Tensor]:
        """Compute u_m (B, C) for each modality in ``features``."""
        return detach_if(detach, split_linear(self.head, features, dims=self.dims))
