"""Gradient-guided distillation: imitate unimodal teachers, and let the weak encoders learn alone first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ogm.context import Context
from ogm.engine import Engine
from ogm.losses import full, kl
from ogm.scores import true_class_scores
from ogm.strategies.umt import feature_gap, same_width, teach, teachers
from ogm.strategy import Passes, Strategy
from ogm.types import Batch, Need, Output


class G2D(Strategy):
    """Rakib and Bagavathi, ICCV 2025 (spec methods_loss.md, section 15).

    L = w_ce CE(z) + sum_m [alpha MSE(h_m, t_m) + beta T^2 KL(softmax(l_m / T) || softmax(z / T))]: t_m and l_m are
    feature and logits of ``unimodal`` teachers (as in UMT), and it is the *fused* logits that imitate each of them.
    Sequential modality prioritisation: modalities are ordered by their teachers' mean true-class probability; phase j
    lasts ``tau[j]`` epochs and trains, of the encoders, only the j-th weakest (the fusion always trains); then all do.
    ``tau`` is by default half of the run, shared by the M - 1 phases (the paper: 150 of 300 epochs).

    Where we leave the released code: it ranks the teachers anew in every batch, so that the frozen encoder may change
    from one to the next, and raises an error at a tie; we rank once, on the training set, a tie going by the order of
    the modalities. It zeroes the gradients of four-dimensional tensors alone, so that norms, running statistics, weight
    decay and momentum go on; here a frozen encoder stands still. Its phase includes epoch ``tau``; ours does not. It
    fuses late (a mean of logits); here the fusion is the run's.
    """

    category = "schedule"
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
                f"alpha={alpha}, beta={beta}, w_ce={w_ce}, temperature={temperature}: weights are 0 or more, "
                "the temperature is above 0"
            )
        if tau is not None and any(t < 0 for t in tau):
            raise ValueError(f"tau={list(tau)}: epochs of each phase, 0 or more")
        self.alpha, self.beta, self.w_ce, self.temperature, self.tau = alpha, beta, w_ce, temperature, tau
        self._training: list[str] = []

    def needs(self, modalities: Sequence[str]) -> dict[str, Need]:
        return teachers(modalities)

    def passes(self, modalities: int) -> Passes:
        return Passes(2 * modalities, 1)

    def setup(self) -> None:
        same_width(self)
        phases = len(self.modalities) - 1
        if self.tau is not None and len(self.tau) != phases:
            raise ValueError(f"tau={list(self.tau)}: {phases} phases, one for each modality but the strongest")
        self.register_buffer("order", torch.full((len(self.modalities),), -1))  # weakest first; -1: not known yet

    def on_epoch_start(self, engine: Engine) -> None:
        if int(self.order[0]) < 0:
            weakest_first = weak_to_strong(self._teachers_scores(engine))
            found = torch.tensor([self.modalities.index(m) for m in weakest_first], device=self.order.device)
            self.order.copy_(engine.decide(found))
        phases = len(self.modalities) - 1
        tau = [engine.epochs // (2 * phases)] * phases if self.tau is None else self.tau
        self._training = training([self.modalities[k] for k in self.order.tolist()], engine.epoch, tau)
        engine.freeze(*(e for m, e in self._encoders.items() if m not in self._training))

    def _teachers_scores(self, engine: Engine) -> dict[str, Tensor]:
        """modality -> sum of its teacher's true-class probabilities over the training set, not augmented."""
        sums: dict[str, Tensor] = {}
        for batch in engine.loaders["train"].all():
            logits = {m: said.logits for m, said in teach(self._trained, self.modalities, batch).items()}
            for m, s in true_class_scores(logits, batch, engine).items():
                sums[m] = sums.get(m, 0) + s
        return sums

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        found = {name: self.w_ce * loss for name, loss in super().losses(output, batch, ctx).items()}
        t = self.temperature
        for m, said in teach(self._trained, self.modalities, batch).items():
            there = batch.weights([m])
            found[f"teacher_feature/{m}"] = self.alpha * ctx.mean(
                feature_gap(output.features[m], said.features[m]), there
            )
            agreement = kl(full(said.logits) / t, full(output.logits) / t)
            found[f"teacher_logits/{m}"] = self.beta * t**2 * ctx.mean(agreement, there)
        ctx.log(**{f"trains/{m}": float(m in self._training) for m in self.modalities})
        return found


def weak_to_strong(scores: Mapping[str, Tensor]) -> list[str]:
    """Modalities in ascending order of their score; a tie keeps their own order."""
    return sorted(scores, key=lambda m: float(scores[m]))


def training(order: Sequence[str], epoch: int, tau: Sequence[int]) -> list[str]:
    """Whose encoders train in ``epoch`` (from 0): each of ``order`` alone for its ``tau`` epochs in turn; then all."""
    end = 0
    for modality, epochs in zip(order, tau, strict=False):
        end += epochs
        if epoch < end:
            return [modality]
    return list(order)
