"""Uni-modal teacher (UMT): each encoder imitates the feature of an encoder that was trained alone."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ogm.context import Context
from ogm.parts.teachers import check_teacher_widths, feature_distance, run_teachers, unimodal_prerequisites
from ogm.strategy import Strategy
from ogm.types import Batch, Output, Passes, Prerequisite


class UMT(Strategy):
    """Distil the features of unimodal teachers, so that each encoder stays as good as it would be alone.

    1. Train one ``unimodal`` model per modality (the teachers). Keep each at its best validation epoch, frozen and in
       evaluation mode.
    2. Train the joint model (the student) from scratch on L = CE(z, y) + lam sum_m MSE(h_m, t_m). h_m and t_m (B, D_m)
       are the features of student and teacher just before the fusion, for the same augmented inputs. MSE is the mean
       over samples and coordinates. The teachers receive no gradient.

    A sample that lacks a modality is left out of its term.

    Args:
        lam: Weight of the distillation terms, 0 or more. Default 10: BalanceBenchmark's; the values of the paper could
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
    title = "Uni-Modal Teacher"
    paper = "Du et al., ICML 2023"
    stages = "one unimodal run per modality first: the teachers"
    reads = ("features", "inputs")

    def __init__(self, lam: float = 10.0) -> None:
        super().__init__()
        if not lam >= 0:
            raise ValueError(f"lam={lam}: the weight of the distillation terms must be 0 or more")
        self.lam = lam

    def prerequisites(self, modalities: Sequence[str]) -> dict[str, Prerequisite]:
        """Name one ``unimodal`` run per modality, the teachers."""
        return unimodal_prerequisites(modalities)

    def passes(self, modalities: int) -> Passes:
        """Return (2 M, 1): the teachers' encoders run, too."""
        return Passes(2 * modalities, 1)  # the student's encoders and the teachers'

    def setup(self) -> None:
        """Check that teachers' features are as wide as the student's."""
        check_teacher_widths(self)

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the CE, and the distance of each feature to its teacher's."""
        teacher_outputs = run_teachers(self._trained, self.modalities, batch)
        gap = {m: feature_distance(output.features[m], teacher_outputs[m].features[m]) for m in self.modalities}
        distillation = {f"teacher/{m}": self.lam * ctx.mean(values, batch.weights([m])) for m, values in gap.items()}
        return super().losses(output, batch, ctx) | distillation
