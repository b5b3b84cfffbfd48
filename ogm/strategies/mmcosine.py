"""MMCosine: each modality is scored by the cosine between its feature and the class weights."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ogm.checks import check_complete
from ogm.losses import full
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class MMCosine(Strategy):
    """Remove the imbalance of feature and weight norms by scoring every modality with scaled cosines.

    u_m[c] = s cos(h_m, W_m[c]); z = sum_m u_m; L = CE(z, y). W_m[c] is the row of class c in the weight of the concat
    head, restricted to the columns of modality m. The bias of the head is not used. Each modality's feature and columns
    are normalised by themselves, and gradients flow through both norms. The prediction is argmax z. Weight decay
    changes norms only, that is, the effective learning rate.

    Args:
        s: Scale of the cosines, above 0. Default 10, as released for CREMA-D and VoxCeleb2; BalanceBenchmark uses 15.
            It must grow with the number of classes: a warning says when it is too small.

    Differences:
        - Released code: the CREMA-D evaluation ranks classes by the linear head with its bias, which the loss never
          trains. BalanceBenchmark and ours: by the sum of cosines.
        - Released code: the script for CREMA-D gives its parser an unknown keyword, ``defult``, and cannot start. Ours
          follows its formulas.
        - A feature or weight row of norm 1e-12 or less has cosine 0 and no gradient. (Dividing by the norm, held at
          1e-12, would give a gradient of about 1e12.)

    References:
        - Paper: Xu et al., ICASSP 2023.
        - Code: GeWu-Lab/MMCosine_ICASSP23 at eb3a540; GeWu-Lab/BalanceBenchmark at 4c1482f.
    """

    category = "loss"
    title = "Multi-Modal Cosine loss"
    paper = "Xu et al., ICASSP 2023"
    prediction = "sum of the branches"
    reads = ("features",)
    needs_concat = True

    def __init__(self, s: float = 10.0) -> None:
        super().__init__()
        if not s > 0:
            raise ValueError(f"s={s}: the scale of the cosines must be above 0")
        self.s = s

    def setup(self) -> None:
        """Warn if ``s`` is too small for the number of classes."""
        if self.num_classes > 1 and self.s < smallest_scale(self.num_classes, len(self.modalities)):
            floor = smallest_scale(self.num_classes, len(self.modalities))
            warnings.warn(
                f"MMCosine: s={self.s} is too small for {self.num_classes} classes: the cross-entropy cannot reach "
                f"0.01; use s={floor:.1f} or more",
                stacklevel=2,
            )

    def replace_unimodal_logits(self, output: Output) -> Output:
        """Replace unimodal logits by scaled cosines, and fused ones by their sum."""
        check_complete(self, "features", output.features)
        unimodal_logits = scaled_cosines(
            {m: output.features[m] for m in self.modalities}, self.fusion.head.weight, self.s
        )
        return replace(
            output, logits=torch.stack(list(unimodal_logits.values())).sum(0), unimodal_logits=unimodal_logits
        )

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        """Predict with the sum of cosines over the modalities that are not dropped."""
        output = super().forward(model, batch, drop)
        kept = [torch.zeros_like(u) if m in drop else u for m, u in output.unimodal_logits.items()]
        return replace(output, logits=torch.stack(kept).sum(0))


def scaled_cosines(features: Mapping[str, Tensor], weight: Tensor, s: float, eps: float = 1e-12) -> dict[str, Tensor]:
    """Scaled cosines between features and class weights.

    Args:
        features: Modality -> (B, D_m), in the order of the columns.
        weight: (C, sum of D_m) weight of a linear layer over all features.
        s: Scale.
        eps: Norms up to this count as zero.

    Returns:
        Modality -> (B, C) s times the cosine of the feature and each row of the modality's columns.
    """
    columns = torch.split(weight, [f.shape[1] for f in features.values()], dim=1)
    return {m: s * unit_rows(f, eps) @ unit_rows(w, eps).T for (m, f), w in zip(features.items(), columns, strict=True)}


def unit_rows(x: Tensor, eps: float) -> Tensor:
    """Normalise rows, in float32 or better.

    Args:
        x: (N, D).
        eps: Norms up to this count as zero.

    Returns:
        (N, D) rows divided by their norms; a row of norm eps or less becomes zero, without gradient.
    """
    x = full(x)
    return torch.where(torch.linalg.vector_norm(x, dim=1, keepdim=True) > eps, F.normalize(x, dim=1, eps=eps), 0.0)


def smallest_scale(classes: int, modalities: int, reach: float = 0.01) -> float:
    """The scale below which no features can make the cross-entropy small.

    Args:
        classes: Number of classes C.
        modalities: Number of modalities M.
        reach: The cross-entropy to be reached.

    Returns:
        log((C - 1) / (exp(reach) - 1)) (C - 1) / (C M), for class weights at the vertices of a simplex.
    """
    return math.log((classes - 1) / math.expm1(reach)) * (classes - 1) / (classes * modalities)
