"""MMCosine: every modality is scored by the cosine between its feature and each class, so no norm can dominate."""

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
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class MMCosine(Strategy):
    """Xu et al., ICASSP 2023 (spec methods_loss.md, section 3): u_m = s cos(h_m, W_m), z = sum_m u_m, L = CE(z).

    W_m are the concat head's columns of modality m; its bias is not used. Each modality's block is normalised by
    itself, never the whole vector, and gradients flow through both norms. A feature or a weight row of zeros has
    cosine 0 and no gradient (dividing by a norm held at 1e-12 would send one of 1e12). Weight decay changes norms, so
    only the effective learning rate, and is left as configured. Evaluation goes by the cosines, too; the released
    script ranks by the linear head with its bias, which no loss ever trains.
    """

    category = "loss"
    paper = "Xu et al., ICASSP 2023"
    reads = ("features",)
    needs_concat = True

    def __init__(self, s: float = 10.0) -> None:
        super().__init__()
        if not s > 0:
            raise ValueError(f"s={s}: the scale of the cosines must be above 0")
        self.s = s

    def setup(self) -> None:
        if self.num_classes > 1 and self.s < least_scale(self.num_classes, len(self.modalities)):
            floor = least_scale(self.num_classes, len(self.modalities))
            warnings.warn(
                f"MMCosine: s={self.s} is too small for {self.num_classes} classes: the cross-entropy cannot reach "
                f"0.01; use s={floor:.1f} or more",
                stacklevel=2,
            )

    def read(self, output: Output) -> Output:
        check_complete(self, "features", output.features)
        own = cosines({m: output.features[m] for m in self.modalities}, self.fusion.head.weight, self.s)
        return replace(output, logits=torch.stack(list(own.values())).sum(0), unimodal_logits=own)

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        output = super().forward(model, batch, drop)
        kept = [torch.zeros_like(u) if m in drop else u for m, u in output.unimodal_logits.items()]
        return replace(output, logits=torch.stack(kept).sum(0))


def cosines(features: Mapping[str, Tensor], weight: Tensor, s: float, eps: float = 1e-12) -> dict[str, Tensor]:
    """modality -> (B, C) s times the cosine of each feature (B, D_m) and its columns of ``weight`` (C, sum of D_m)."""
    columns = torch.split(weight, [f.shape[1] for f in features.values()], dim=1)
    return {m: s * unit(f, eps) @ unit(w, eps).T for (m, f), w in zip(features.items(), columns, strict=True)}


def unit(x: Tensor, eps: float) -> Tensor:
    """Rows (N, D) over their norms, in float32 or better; a row of norm eps or less becomes, and stays, zero."""
    x = x.float() if x.itemsize < 4 else x
    return torch.where(torch.linalg.vector_norm(x, dim=1, keepdim=True) > eps, F.normalize(x, dim=1, eps=eps), 0.0)


def least_scale(classes: int, modalities: int, reach: float = 0.01) -> float:
    """The s below which no features make the cross-entropy as small as ``reach``."""
    return math.log((classes - 1) / math.expm1(reach)) * (classes - 1) / (classes * modalities)
