"""Symmetric FiLM: every modality is scaled and shifted by the others, then all are concatenated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from models.fusion import Fusion
from models.layers import linear


class FiLMSym(Fusion):
    """FiLM in both directions, as MMCosine uses it.

    f_m = gamma_m * h_m + beta_m and z = W [f_1; ...; f_M] + b, where [gamma_m; beta_m] is the mean over the other
    modalities k of G_km h_k + g_km. The scale is used as it is, as in ``film``.

    Differences:
        - Released MMCosine code: its class reads an undefined name and cannot be constructed. Ours: the same formula.
        - Released MMCosine code: two modalities, one generator each. Ours: the mean over the other modalities when
          there are more than two, and one generator per ordered pair, as widths may differ.

    References:
        - Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer", AAAI 2018.
        - Xu et al., "MMCosine: Multi-Modal Cosine Loss Towards Balanced Audio-Visual Fine-Grained Learning", ICASSP
          2023; GeWu-Lab/MMCosine_ICASSP23@eb3a540, models/fusion_modules.py, ``FiLM``.
    """

    source = "MMCosine (Xu et al., 2023)"
    head: nn.Linear

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
        """Scale and shift every feature by the others.

        Args:
            features: Modality -> h_m (B, D_m).

        Returns:
            Modality -> f_m (B, D_m), which the head reads. They are the features for methods that need an additive
            head.
        """
        modulated = {}
        for m, generators in self.generators.items():
            pairs = cast(nn.ModuleDict, generators).items()
            gamma, beta = torch.stack([generate(features[k]) for k, generate in pairs]).mean(0).chunk(2, dim=1)
            modulated[m] = gamma * features[m] + beta
        return modulated

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Compute z (B, C) from features (B, D_m)."""
        logits: Tensor = self.head(torch.cat(list(self.modulated(features).values()), dim=1))
        return logits
