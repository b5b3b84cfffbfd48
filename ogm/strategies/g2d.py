"""Gradient-guided distillation (G2D): imitate unimodal teachers, and train the weak encoders alone first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ogm.context import Context, TrainingContext
from ogm.imbalance import true_class_scores
from ogm.losses import full, kl
from ogm.parts.teachers import check_teacher_widths, feature_distance, run_teachers, unimodal_prerequisites
from ogm.strategy import Strategy
from ogm.types import Batch, Output, Passes, Prerequisite


class G2D(Strategy):
    """Distil unimodal teachers into a joint model, and give weak encoders a phase in which only they are trained.

    1. Train one ``unimodal`` model per modality (the teachers), as in ``UMT``: t_m (B, D_m) are their features, l_m (B,
       C) their logits.
    2. L = w_ce CE(z, y) + sum_m [alpha MSE(h_m, t_m) + beta T^2 KL(softmax(l_m / T) || softmax(z / T))]. h_m are the
       features of the joint model; its fused logits z imitate each of the teachers.
    3. Sequential modality prioritisation: order the modalities by the mean true-class probability of their teachers on
       the training set, weakest first. In phase j = 1 .. M - 1, of tau[j - 1] epochs, only the encoder of the j-th
       weakest modality is trained, together with the fusion. Afterwards everything is trained.

    The prediction is argmax z.

    Args:
        alpha: Weight of the feature distillation, 0 or more.
        beta: Weight of the logit distillation, 0 or more.
        w_ce: Weight of the cross-entropy, 0 or more.
        temperature: T, above 0.
        tau: Epochs of each of the M - 1 phases. Default: half of the run in all, shared equally (paper, in a third
            party's reading: 150 of 300 epochs). The other defaults are those of the released code.

    Differences:
        - Released code: ranks the teachers in every batch, so the frozen encoder can change between batches, and raises
          an error on a tie. Ours: ranks once, on the training set; a tie keeps the order of the modalities.
        - Released code: sets the gradients of 4-d tensors to 0, so that norm layers and running statistics change, and
          weight decay and momentum go on. Ours: a frozen encoder does not change at all.
        - Released code: a phase includes epoch tau. Ours: it does not.
        - Released code: late fusion (mean of logits). Ours: the fusion of the run.

    References:
        - Paper: Rakib and Bagavathi, ICCV 2025.
        - Code: rAIson-Lab/G2D at 95969d8.
    """

    category = "schedule"
    title = "Gradient-Guided Distillation"
    paper = "Rakib and Bagavathi, ICCV 2025"
    stages = "one unimodal run per modality first: the teachers; within the run, the weakest encoders alone at first"
    needs_engine = True
    order: Tensor

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 1.0,
        w_ce: float = 1.0,
        temperature: float = 1.0,
        *,
        tau: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if not (alpha >= 0 and beta >= 0 and w_ce >= 0 and temperature > 0):
            raise ValueError(
                f"alpha={alpha}, beta={beta}, w_ce={w_ce}, temperature={temperature}: the weights must be 0 or "
                "more, the temperature above 0"
            )
        if tau is not None and any(t < 0 for t in tau):
            raise ValueError(f"tau={list(tau)}: the number of epochs of each phase must be 0 or more")
        self.alpha, self.beta, self.w_ce, self.temperature, self.tau = alpha, beta, w_ce, temperature, tau
        self._training: list[str] = []

    def prerequisites(self, modalities: Sequence[str]) -> dict[str, Prerequisite]:
        """Name one ``unimodal`` run per modality, the teachers."""
        return unimodal_prerequisites(modalities)

    def passes(self, modalities: int) -> Passes:
        """Return (2 M, 1): the teachers' encoders run, too."""
        return Passes(2 * modalities, 1)

    def setup(self) -> None:
        """Check the teachers' widths and ``tau``, and create the order of the modalities."""
        check_teacher_widths(self)
        phases = len(self.modalities) - 1
        if self.tau is not None and len(self.tau) != phases:
            raise ValueError(
                f"tau={list(self.tau)}: give the epochs of each modality but the strongest, {phases} in all"
            )
        self.register_buffer("order", torch.full((len(self.modalities),), -1))  # weakest first; -1: not known yet

    def on_epoch_start(self, engine: TrainingContext) -> None:
        """Rank the modalities once, and freeze the encoders that this phase does not train."""
        if int(self.order[0]) < 0:
            weakest_first = weak_to_strong(self._teachers_scores(engine))
            order = torch.tensor([self.modalities.index(m) for m in weakest_first], device=self.order.device)
            self.order.copy_(engine.decide(order))
        phases = len(self.modalities) - 1
        tau = [engine.epochs // (2 * phases)] * phases if self.tau is None else self.tau
        self._training = trained_modalities([self.modalities[k] for k in self.order.tolist()], engine.epoch, tau)
        engine.freeze(*(e for m, e in self._encoders.items() if m not in self._training))

    def _teachers_scores(self, engine: TrainingContext) -> dict[str, Tensor]:
        """Sums of the teachers' true-class probabilities over the training set, not augmented, by modality (0-dim)."""
        sums: dict[str, Tensor] = {}
        for batch in engine.loaders["train"].all():
            logits = {m: teacher.logits for m, teacher in run_teachers(self._trained, self.modalities, batch).items()}
            for m, score in true_class_scores(logits, batch, engine).items():
                sums[m] = sums.get(m, 0) + score
        return sums

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the CE, and the distances to the teachers' features and logits (step 2)."""
        losses = {name: self.w_ce * loss for name, loss in super().losses(output, batch, ctx).items()}
        t = self.temperature
        for m, teacher in run_teachers(self._trained, self.modalities, batch).items():
            weights = batch.weights([m])
            losses[f"teacher_feature/{m}"] = self.alpha * ctx.mean(
                feature_distance(output.features[m], teacher.features[m]), weights
            )
            divergence = kl(full(teacher.logits) / t, full(output.logits) / t)
            losses[f"teacher_logits/{m}"] = self.beta * t**2 * ctx.mean(divergence, weights)
        ctx.log(**{f"trains/{m}": float(m in self._training) for m in self.modalities})
        return losses


def weak_to_strong(scores: Mapping[str, Tensor]) -> list[str]:
    """Order modalities by their scores.

    Args:
        scores: Modality -> 0-dim score.

    Returns:
        The modalities, lowest score first; equal scores keep their order.
    """
    return sorted(scores, key=lambda m: float(scores[m]))


def trained_modalities(order: Sequence[str], epoch: int, tau: Sequence[int]) -> list[str]:
    """The modalities whose encoders are trained in an epoch.

    Args:
        order: The modalities, weakest first.
        epoch: Number of the epoch, from 0.
        tau: Epochs of each phase, one for each modality but the last.

    Returns:
        The one modality of the phase that the epoch is in; all modalities after the last phase.
    """
    end = 0
    for modality, epochs in zip(order, tau, strict=False):
        end += epochs
        if epoch < end:
            return [modality]
    return list(order)
