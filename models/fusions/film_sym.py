"""Symmetric FiLM: every modality is scaled and shifted by the others, then all are concatenated."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.fusion import Fusion, linear


class FiLMSym(Fusion):
    """MMCosine's form of FiLM (spec fusion.md, section 4): f_m = gamma_m * h_m + beta_m, z = W [f_1; ...; f_M] + b.

    [gamma; beta] of a modality is the mean over the other modalities k of G_km h_k + g_km, raw as in ``film``. The
    released MMCosine class reads an undefined name and cannot be made; with more than two modalities the mean is ours.
    """

    source = "MMCosine (Xu et al., 2023)"

    def __init__(self, dims: Mapping[str, int], num_classes: int) -> None:
        super().__init__(dims, num_classes)
        self.generators = nn.ModuleDict(
            {
                m: nn.ModuleDict({k: linear(d, 2 * width) for k, d in self.dims.items() if k != m})
                for m, width in self.dims.items()
            }
        )
        self.head = linear(sum(self.dims.values()), num_classes)

    def modulated(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """modality -> f_m (B, D_m), what the head sees: the features of methods that need an additive head."""
        found = {}
        for m, generators in self.generators.items():
            said = torch.stack([generate(features[k]) for k, generate in generators.items()]).mean(0)
            gamma, beta = said.chunk(2, dim=1)
            found[m] = gamma * features[m] + beta
        return found

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        logits: Tensor = self.head(torch.cat(list(self.modulated(features).values()), dim=1))
        return logits
