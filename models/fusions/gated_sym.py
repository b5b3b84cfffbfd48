"""Symmetric gated fusion: every modality is opened and closed by the others, then all are concatenated."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.fusion import Fusion
from models.layers import full, linear, linear_per_modality


class GatedSym(Fusion):
    """Gates in both directions, as MMCosine uses them.

    a_m = P_m h_m + p_m, f_m = sigmoid(mean of a_k over the other modalities k) * a_m and z = W [f_1; ...; f_M] + b.

    Args:
        dims: Modality -> width D_m of its feature, in configured order.
        num_classes: Number of classes, C.
        width: Width of every a_m; by default that of the last modality's feature.

    Raises:
        ValueError: For a width below 1.

    Differences:
        - Released MMCosine code: takes two modalities. Ours: the mean over the others when there are more than two.

    References:
        - Kiela et al., "Efficient Large-Scale Multi-Modal Classification", AAAI 2018.
        - Xu et al., "MMCosine: Multi-Modal Cosine Loss Towards Balanced Audio-Visual Fine-Grained Learning", ICASSP
          2023; GeWu-Lab/MMCosine_ICASSP23@eb3a540, models/fusion_modules.py, ``GatedFusion``.
    """

    source = "MMCosine (Xu et al., 2023)"
    head: nn.Linear

    def __init__(self, dims: Mapping[str, int], num_classes: int, *, width: int | None = None) -> None:
        super().__init__(dims, num_classes)
        width = list(self.dims.values())[-1] if width is None else width
        if width < 1:
            raise ValueError(f"width={width}: must be 1 or more")
        self.projections = linear_per_modality(self.dims, width)
        self.head = linear(width * len(self.dims), num_classes)

    def gated(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Project every feature and gate it by the others.

        Args:
            features: Modality -> h_m (B, D_m).

        Returns:
            Modality -> f_m (B, width), which the head reads. They are the features for methods that need an additive
            head.
        """
        projected = {m: project(features[m]) for m, project in self.projections.items()}
        gated = {}
        for m, a in projected.items():
            others = torch.stack([full(projected[k]) for k in projected if k != m])
            gated[m] = torch.sigmoid(others.mean(0)) * a
        return gated

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Compute z (B, C) from features (B, D_m); the gates in float32 or better."""
        logits: Tensor = self.head(torch.cat(list(self.gated(features).values()), dim=1))
        return logits
