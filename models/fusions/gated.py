"""Gated: one modality opens and closes the others."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.fusion import Fusion, choose_modality
from models.layers import full, linear


class Gated(Fusion):
    """One modality's projected feature is multiplied by a gate computed from the others.

    a = P h_gate + p, v = Q h_value + q, f = sigmoid(a) * v and z = W f + b.

    Args:
        dims: Modality -> width D_m of its feature, in configured order.
        num_classes: Number of classes, C.
        value: The modality that passes the gate; by default the last.
        width: Width of a and v; by default that of the value's feature.

    Raises:
        ValueError: For a modality that is not there, or a width below 1.

    Differences:
        - Released OGM-GE code: takes two modalities. Ours: with more than two, h_gate is the concatenation of all but
          the value's.
        - Released OGM-GE code: returns a and v in the place of features, and cannot train this fusion, for the reason
          given at ``film``. Ours: features are those of the encoders, and unimodal logits are the logits with the other
          features at zero.

    References:
        - Kiela et al., "Efficient Large-Scale Multi-Modal Classification", AAAI 2018.
        - GeWu-Lab/OGM-GE_CVPR2022@343dc1d, models/fusion_modules.py, ``GatedFusion``.
    """

    source = "Kiela et al., 2018, as in OGM-GE"
    head: nn.Linear

    def __init__(
        self, dims: Mapping[str, int], num_classes: int, *, value: str | None = None, width: int | None = None
    ) -> None:
        super().__init__(dims, num_classes)
        self.value = choose_modality(value, self.dims, "value")
        width = self.dims[self.value] if width is None else width
        if width < 1:
            raise ValueError(f"width={width}: must be 1 or more")
        self.project_gate = linear(sum(d for m, d in self.dims.items() if m != self.value), width)
        self.project_value = linear(self.dims[self.value], width)
        self.head = linear(width, num_classes)

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Compute z (B, C) from features (B, D_m); the gate in float32 or better."""
        others = torch.cat([f for m, f in features.items() if m != self.value], dim=1)
        gate = torch.sigmoid(full(self.project_gate(others)))
        logits: Tensor = self.head(gate * self.project_value(features[self.value]))
        return logits
