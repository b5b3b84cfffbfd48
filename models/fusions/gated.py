"""Gated: one modality opens and closes the others."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.fusion import Fusion, full, linear, role


class Gated(Fusion):
    """After Kiela et al., 2018, as in OGM-GE (spec fusion.md, section 5); the paper's "Baseline" fusion.

    a = P h_gate + p, v = Q h_value + q, f = sigmoid(a) * v, z = W f + b. ``value`` (default: the last modality)
    is gated by all the others, concatenated; ``width`` is that of a and v (default: the value's own).
    """

    source = "Kiela et al., 2018, as in OGM-GE"

    def __init__(
        self, dims: Mapping[str, int], num_classes: int, *, value: str | None = None, width: int | None = None
    ) -> None:
        super().__init__(dims, num_classes)
        self.value = role(value, self.dims, "value")
        width = self.dims[self.value] if width is None else width
        if width < 1:
            raise ValueError(f"width={width}: must be 1 or more")
        self.project_gate = linear(sum(d for m, d in self.dims.items() if m != self.value), width)
        self.project_value = linear(self.dims[self.value], width)
        self.head = linear(width, num_classes)

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        gate = torch.cat([f for m, f in features.items() if m != self.value], dim=1)
        opened = torch.sigmoid(full(self.project_gate(gate)))
        logits: Tensor = self.head(opened * self.project_value(features[self.value]))
        return logits
