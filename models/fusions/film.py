"""FiLM: one modality scales and shifts the features of another."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.fusion import Fusion, choose_modality
from models.layers import linear


class FiLM(Fusion):
    """One modality's feature is scaled and shifted by values computed from the others.

    [gamma; beta] = G c + g from the conditioning feature c, f = gamma * h + beta with the target's feature h, and
    z = W f + b. The scale is used as it is, without adding 1: as g starts at zero, the path of the target starts nearly
    closed.

    Args:
        dims: Modality -> width D_m of its feature, in configured order.
        num_classes: Number of classes, C.
        target: The modality that is scaled and shifted; by default the last.

    Differences:
        - Paper: conditions convolutional maps channel by channel, after a normalisation layer. Released OGM-GE code and
          ours: conditions the feature vector.
        - Released OGM-GE code: takes two modalities. Ours: with more than two, c is the concatenation of all but the
          target.
        - Released OGM-GE code: cannot train this fusion; its training script multiplies half of W with a whole feature,
          which is a shape error. Ours: unimodal logits are the logits with the other features at zero.

    References:
        - Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer", AAAI 2018.
        - GeWu-Lab/OGM-GE_CVPR2022@343dc1d, models/fusion_modules.py, ``FiLM``.
    """

    source = "Perez et al., 2018, as in OGM-GE"
    head: nn.Linear

    def __init__(self, dims: Mapping[str, int], num_classes: int, *, target: str | None = None) -> None:
        super().__init__(dims, num_classes)
        self.target = choose_modality(target, self.dims, "target")
        width = self.dims[self.target]
        self.generator = linear(sum(d for m, d in self.dims.items() if m != self.target), 2 * width)
        self.head = linear(width, num_classes)

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Compute z (B, C) from features (B, D_m)."""
        condition = torch.cat([f for m, f in features.items() if m != self.target], dim=1)
        gamma, beta = self.generator(condition).chunk(2, dim=1)
        logits: Tensor = self.head(gamma * features[self.target] + beta)
        return logits
