"""Uncertainty weighting: the weights of the joint and the unimodal losses are learned."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.strategies.equal_weight_multiloss import EqualWeightMultiloss
from ogm.types import Batch, Output

LossForm = Literal["classification", "regression_half", "unit"]


class UncertaintyWeighting(EqualWeightMultiloss):
    """Learn the weights of the joint loss and of one loss per modality from their homoscedastic uncertainties.

    L = sum_k [exp(-s_k) CE_k + s_k / 2], k in {joint, 1..M}, s_k = log sigma_k^2. The joint loss is that of the fused
    logits; each unimodal loss is that of a linear head on the modality's feature. The scalars s_k are trained by the
    run's optimizer, without weight decay and outside gradient clipping. For fixed losses the minimum is at s_k = log(2
    CE_k).

    The easiest modality gets the largest weight, which is the opposite of balancing. The loss can be negative.

    Args:
        kind: The term of one loss: ``"classification"`` (exp(-s) CE + s / 2, the paper's for classification),
            ``"regression_half"`` (exp(-s) CE / 2 + s / 2) or ``"unit"`` (exp(-s) CE + s). At the minimum the weights
            are 1/(2 CE), 1/(2 CE) and 1/CE.
        s_init: Initial value of every s_k, between -bound and bound.
        bound: s_k is kept in [-bound, bound], above 0. Without it the weight of a loss close to 0 would grow without
            limit.

    Differences:
        - Paper: ``"classification"`` for classification losses (read in secondary sources, not in the paper's text).
          LibMTL uses ``"regression_half"`` for them too, with s_init = -0.5; the author's notebook uses ``"unit"``.
          Ours: the paper's form.
        - The bound on s_k is ours.

    References:
        - Paper: Kendall, Gal and Cipolla, CVPR 2018.
        - Code: yaringal/multi-task-learning-example at 86e2c88 (the author's notebook, of regression).
    """

    category = "loss"
    title = "Loss weights from homoscedastic uncertainty"
    paper = "Kendall, Gal and Cipolla, CVPR 2018"

    def __init__(self, kind: LossForm = "classification", *, s_init: float = 0.0, bound: float = 5.0) -> None:
        super().__init__()
        if not (bound > 0 and abs(s_init) <= bound):
            raise ValueError(
                f"s_init={s_init}, bound={bound}: bound must be above 0, and s_init between -bound and bound"
            )
        self.kind, self.s_init, self.bound = kind, s_init, bound

    def setup(self) -> None:
        """Create heads, and one scalar s_k per loss."""
        super().setup()
        names = ("fused", *(f"unimodal/{m}" for m in self.modalities))
        self.names = dict(zip(names, ("fused", *self.modalities), strict=True))
        self.log_variance = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(float(self.s_init))) for name in self.names.values()}
        )

    def param_groups(self) -> list[dict[str, Any]]:
        """Train heads and scalars; scalars have no weight decay and are not clipped."""
        scalars = list(self.log_variance.parameters())
        return [{"params": list(self.heads.parameters())}, {"params": scalars, "weight_decay": 0.0, "clip": False}]

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Weight the joint and the unimodal losses by the scalars s_k, kept within their bounds."""
        with torch.no_grad():  # the last update may have moved s out of its bounds
            clamped = torch.stack([s.abs() > self.bound for s in self.log_variance.values()]).sum()
            for s in self.log_variance.values():
                s.clamp_(-self.bound, self.bound)
        ctx.log(bounded=clamped, **{f"weight/{n}": torch.exp(-s) for n, s in self.log_variance.items()})
        return {
            name: weighted_loss(loss, self.log_variance[self.names[name]], self.kind) if name in self.names else loss
            for name, loss in super().losses(output, batch, ctx).items()
        }


def weighted_loss(loss: Tensor, s: Tensor, kind: LossForm = "classification") -> Tensor:
    """One term of the loss.

    Args:
        loss: 0-dim loss.
        s: 0-dim s = log sigma^2.
        kind: The form of the term, see ``UncertaintyWeighting``.

    Returns:
        0-dim: ``"classification"``: exp(-s) loss + s / 2; ``"regression_half"``: (exp(-s) loss + s) / 2; ``"unit"``:
        exp(-s) loss + s.
    """
    loss_factor = 0.5 if kind == "regression_half" else 1.0
    s_factor = 1.0 if kind == "unit" else 0.5
    return loss_factor * torch.exp(-s) * loss + s_factor * s
