"""Uni-modal teacher (UMT): each encoder imitates the feature of an encoder that was trained alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.losses import full
from ogm.strategy import Passes, Strategy
from ogm.types import Batch, Need, Output


class UMT(Strategy):
    """Distil the features of unimodal teachers, so that each encoder stays as good as it would be alone.

    1. Train one ``unimodal`` model per modality (the teachers). Keep each at its best validation epoch, frozen and in
       evaluation mode.
    2. Train the joint model (the student) from scratch on L = CE(z, y) + lam sum_m MSE(h_m, t_m). h_m and t_m (B, D_m)
       are the features of student and teacher just before the fusion, for the same augmented inputs. MSE is the mean
       over samples and coordinates. The teachers receive no gradient.

    A sample that lacks a modality is left out of its term.

    Args:
        lam: weight of the distillation terms, 0 or more. Default 10: BalanceBenchmark's; the values of the paper could
            not be verified.

    Differences:
        - No official code was found. Ours follows the paper's abstract and BalanceBenchmark.
        - BalanceBenchmark never switches the teachers to evaluation mode, so their batch-norm statistics drift. Ours
          does.

    References:
        - Paper: Du et al., ICML 2023.
        - Code: GeWu-Lab/BalanceBenchmark at 4c1482f.
    """

    category = "loss"
    paper = "Du et al., ICML 2023"
    stages = "one unimodal run per modality first: the teachers"
    reads = ("features", "inputs")

    def __init__(self, lam: float = 10.0) -> None:
        super().__init__()
        if not lam >= 0:
            raise ValueError(f"lam={lam}: the weight of the distillation terms must be 0 or more")
        self.lam = lam

    def needs(self, modalities: Sequence[str]) -> dict[str, Need]:
        return teachers(modalities)

    def passes(self, modalities: int) -> Passes:
        return Passes(2 * modalities, 1)  # the student's encoders and the teachers'

    def setup(self) -> None:
        same_width(self)

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        teacher_outputs = teach(self._trained, self.modalities, batch)
        gap = {m: feature_gap(output.features[m], teacher_outputs[m].features[m]) for m in self.modalities}
        distillation = {f"teacher/{m}": self.lam * ctx.mean(values, batch.weights([m])) for m, values in gap.items()}
        return super().losses(output, batch, ctx) | distillation


def teachers(modalities: Sequence[str]) -> dict[str, Need]:
    """The prerequisite runs of a method with unimodal teachers.

    Args:
        modalities: names of all modalities.

    Returns:
        modality -> a ``unimodal`` run, taken as it was after its best validation epoch.
    """
    return {m: Need("unimodal", {"modality": m}, "val_best") for m in modalities}


def same_width(strategy: Strategy) -> None:
    """Check that the features of teachers and student can be compared.

    Args:
        strategy: a strategy that has been attached, with its teachers.

    Raises:
        ValueError: if a teacher's feature is not as wide as the student's.
    """
    for m, branch in strategy._trained.items():
        width = getattr(getattr(branch, "classifier", None), "in_features", None)
        if width is not None and m in strategy.dims and width != strategy.dims[m]:
            raise ValueError(
                f"{type(strategy).__name__} compares the features of teacher and student. {m}: the teacher's feature "
                f"is {width} wide, the student's, just before the fusion, {strategy.dims[m]}. Choose a fusion that "
                "takes the encoders' features as they are, such as concat"
            )


@torch.no_grad()
def teach(trained: Mapping[str, nn.Module], modalities: Sequence[str], batch: Batch) -> dict[str, Output]:
    """Run the frozen teachers on a batch.

    Args:
        trained: modality -> its unimodal model.
        modalities: the modalities whose teachers are run.
        batch: the batch that the student sees.

    Returns:
        modality -> the teacher's output: logits (B, C) and feature (B, D_m), without a graph.
    """
    return {m: trained[m](batch.inputs[m]) for m in modalities}


def feature_gap(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of two features, in float32 or better.

    Args:
        student: (B, D) features.
        teacher: (B, D) features.

    Returns:
        (B,) mean over the D coordinates, so that wide features do not weigh more than narrow ones.
    """
    return (full(student) - full(teacher)).square().mean(1)
