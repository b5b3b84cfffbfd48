"""Uni-modal teacher: keep each encoder as good as it is alone, by imitating the feature of one trained alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.losses import full
from ogm.strategy import Passes, Strategy
from ogm.types import Batch, Need, Output


class UMT(Strategy):
    """Du et al., ICML 2023 (spec methods_loss.md, section 4): L = CE(z) + lam sum_m MSE(h_m, t_m).

    t_m is what the encoder of a ``unimodal`` run says about the same augmented inputs, at the end of that run's best
    validation epoch, in evaluation mode and without a gradient; h_m is the student's, at the same place just before the
    fusion. The student starts from scratch. No official code was found; the BalanceBenchmark port never switches its
    teachers to evaluation mode, so that their batch-norm statistics drift. ``lam`` is theirs; the paper's values could
    not be verified.
    """

    category = "loss"
    paper = "Du et al., ICML 2023"
    stages = "one unimodal run per modality first: the teachers"
    reads = ("features", "inputs")

    def __init__(self, lam: float = 10.0) -> None:
        super().__init__()
        if not lam >= 0:
            raise ValueError(f"lam={lam}: the weight of the teachers must be 0 or more")
        self.lam = lam

    def needs(self, modalities: Sequence[str]) -> dict[str, Need]:
        return teachers(modalities)

    def passes(self, modalities: int) -> Passes:
        return Passes(2 * modalities, 1)  # the students' and the teachers'

    def setup(self) -> None:
        same_width(self)

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        taught = teach(self._trained, self.modalities, batch)
        gap = {m: feature_gap(output.features[m], taught[m].features[m]) for m in self.modalities}
        own = {f"teacher/{m}": self.lam * ctx.mean(x, batch.weights([m])) for m, x in gap.items()}
        return super().losses(output, batch, ctx) | own


def teachers(modalities: Sequence[str]) -> dict[str, Need]:
    """One ``unimodal`` run per modality, as it was after its best validation epoch."""
    return {m: Need("unimodal", {"modality": m}, "val_best") for m in modalities}


def same_width(strategy: Strategy) -> None:
    """Raises ValueError where a teacher's feature cannot be compared with the student's."""
    for m, branch in strategy._trained.items():
        width = getattr(getattr(branch, "classifier", None), "in_features", None)
        if width is not None and m in strategy.dims and width != strategy.dims[m]:
            raise ValueError(
                f"{type(strategy).__name__} compares features: {m}: the teacher's is {width} wide, the student's, just "
                f"before the fusion, {strategy.dims[m]}; take a fusion of what the encoders emit, such as concat"
            )


@torch.no_grad()
def teach(trained: Mapping[str, nn.Module], modalities: Sequence[str], batch: Batch) -> dict[str, Output]:
    """modality -> what its teacher says about its input: logits (B, C) and feature (B, D_m)."""
    return {m: trained[m](batch.inputs[m]) for m in modalities}


def feature_gap(student: Tensor, teacher: Tensor) -> Tensor:
    """(B,) mean over coordinates of the squared difference of two features (B, D): wide ones do not weigh more."""
    return (full(student) - full(teacher)).square().mean(1)
