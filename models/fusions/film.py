"""FiLM: one modality scales and shifts the features of another."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.fusion import Fusion, linear, role


class FiLM(Fusion):
    """Perez et al., 2018, in the vector form of the OGM-GE paper (spec fusion.md, section 4).

    [gamma; beta] = G c + g from the conditioner's feature c, f = gamma * h + beta, z = W f + b. The scale is used raw:
    with a zero bias g the path of the target starts nearly closed. Unlike the released code, every strategy trains with
    it. ``target`` (default: the last modality) is conditioned by all the others, concatenated.
    """

    source = "Perez et al., 2018, as in OGM-GE"

    def __init__(self, dims: Mapping[str, int], num_classes: int, *, target: str | None = None) -> None:
        super().__init__(dims, num_classes)
        self.target = role(target, self.dims, "target")
        width = self.dims[self.target]
        self.generator = linear(sum(d for m, d in self.dims.items() if m != self.target), 2 * width)
        self.head = linear(width, num_classes)

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        condition = torch.cat([f for m, f in features.items() if m != self.target], dim=1)
        gamma, beta = self.generator(condition).chunk(2, dim=1)
        logits: Tensor = self.head(gamma * features[self.target] + beta)
        return logits
