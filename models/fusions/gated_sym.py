"""Symmetric gated fusion: every modality is opened and closed by the others, then all are concatenated."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.fusion import Fusion, full, linear


class GatedSym(Fusion):
    """MMCosine's form of the gate (spec fusion.md, section 5).

    a_m = P_m h_m + p_m, f_m = sigmoid(mean of the other a_k) * a_m, z = W [f_1; ...; f_M] + b. ``width`` is that of
    every a_m (default: the last modality's own). With more than two modalities the mean is ours.
    """

    source = "MMCosine (Xu et al., 2023)"

    def __init__(self, dims: Mapping[str, int], num_classes: int, *, width: int | None = None) -> None:
        super().__init__(dims, num_classes)
        width = list(self.dims.values())[-1] if width is None else width
        if width < 1:
            raise ValueError(f"width={width}: must be 1 or more")
        self.projections = nn.ModuleDict({m: linear(d, width) for m, d in self.dims.items()})
        self.head = linear(width * len(self.dims), num_classes)

    def gated(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """modality -> f_m (B, width), what the head sees: the features of methods that need an additive head."""
        projected = {m: project(features[m]) for m, project in self.projections.items()}
        found = {}
        for m, a in projected.items():
            others = torch.stack([full(projected[k]) for k in projected if k != m])
            found[m] = torch.sigmoid(others.mean(0)) * a
        return found

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        logits: Tensor = self.head(torch.cat(list(self.gated(features).values()), dim=1))
        return logits
