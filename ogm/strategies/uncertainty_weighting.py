"""Learned weights for the joint and the unimodal losses."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.strategies.equal_weight_multiloss import EqualWeightMultiloss
from ogm.types import Batch, Output

Kind = Literal["classification", "regression_half", "unit"]


class UncertaintyWeighting(EqualWeightMultiloss):
    """Kendall, Gal and Cipolla, CVPR 2018 (spec methods_loss.md, section 2), on joint training and a head per modality.

    L = sum_k [exp(-s_k) CE_k + s_k / 2], k being the joint loss and each modality's; the s_k = log sigma_k^2 are
    trained along, without weight decay or clipping. This is the paper's term for classification; LibMTL uses the one
    for regression, exp(-s) CE / 2 + s / 2, for classification too (``regression_half``), the author's notebook
    exp(-s) CE + s (``unit``). They differ at their minimum by a constant: weights of 1/(2 CE), 1/(2 CE) and 1/CE.

    The easiest modality gets the largest weight, the opposite of balancing: that is the method. The loss may be below
    zero. s is kept within ``bound``, or the weight of a training loss near 0 would grow without end.
    """

    category = "loss"
    paper = "Kendall, Gal and Cipolla, CVPR 2018"

    def __init__(self, kind: Kind = "classification", *, s_init: float = 0.0, bound: float = 5.0) -> None:
        super().__init__()
        if not (bound > 0 and abs(s_init) <= bound):
            raise ValueError(f"s_init={s_init}, bound={bound}: needs bound > 0 and s_init within it")
        self.kind, self.s_init, self.bound = kind, s_init, bound

    def setup(self) -> None:
        super().setup()
        names = ("fused", *(f"unimodal/{m}" for m in self.modalities))
        self.names = dict(zip(names, ("fused", *self.modalities), strict=True))
        self.log_variance = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(float(self.s_init))) for name in self.names.values()}
        )

    def param_groups(self) -> list[dict[str, Any]]:
        learned = list(self.log_variance.parameters())
        return [{"params": list(self.heads.parameters())}, {"params": learned, "weight_decay": 0.0, "clip": False}]

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        with torch.no_grad():  # after the last update, whoever made it
            outside = torch.stack([s.abs() > self.bound for s in self.log_variance.values()]).sum()
            for s in self.log_variance.values():
                s.clamp_(-self.bound, self.bound)
        ctx.log(bounded=outside, **{f"weight/{n}": torch.exp(-s) for n, s in self.log_variance.items()})
        return {
            name: weighted(loss, self.log_variance[self.names[name]], self.kind) if name in self.names else loss
            for name, loss in super().losses(output, batch, ctx).items()
        }


def weighted(loss: Tensor, s: Tensor, kind: Kind = "classification") -> Tensor:
    """A loss under its uncertainty s = log sigma^2."""
    share = 0.5 if kind == "regression_half" else 1.0
    price = 1.0 if kind == "unit" else 0.5
    return share * torch.exp(-s) * loss + price * s
