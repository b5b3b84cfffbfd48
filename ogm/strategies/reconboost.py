"""Boosting with alternating modalities: each learns in its turn what the others get wrong, then all are reconciled."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.engine import Engine
from ogm.losses import full
from ogm.scores import discrepancy_ratios, true_class_scores
from ogm.strategies.mla import adapters, votes, xavier
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class ReconBoost(Strategy):
    """Hua et al., ICML 2024 (spec methods_gradient.md, 3.14).

    u_m = h(E_m(x_m)), h being two layers that all modalities share; the prediction is b sum_m u_m, b learned. A stage
    is a turn of one modality c (the next one in each stage, ``boost_epochs`` long) and a rectification
    (``rectify_epochs``). In its turn, E_c and h train on (1/C)(weight1 - weight2 q) CE(u_c): q is the true-class
    probability of b sum_{k != c} u_k, without gradient, so that what the others know counts less; in the first turn of
    the run q = 1, as nobody else has learned. Rectification trains everything on CE(b sum_m u_m). Each phase starts
    with fresh momentum; learning rate and schedule are the run's. The fusion stands by, untrained. A modality that a
    sample lacks is left out of its sums. Features of unequal width pass a linear layer to the largest one first.

    The released code's memory term has no gradient (both of its sides are detached) and is left out. Its commands
    start from encoders trained alone; here they start untrained. In a turn it runs the other encoders in training mode;
    here they stand still, batch-norm statistics too.
    """

    category = "schedule"
    paper = "Hua et al., ICML 2024"
    stages = "within the run, one modality's turn and a rectification of all, over and over"
    needs_engine = True

    def __init__(
        self, weight1: float = 5.0, weight2: float = 1.0, *, boost_epochs: int = 4, rectify_epochs: int = 4
    ) -> None:
        super().__init__()
        if not weight1 > weight2 >= 0:
            raise ValueError(f"weight1={weight1}, weight2={weight2}: needs weight1 > weight2 >= 0")
        if boost_epochs < 1 or rectify_epochs < 0:
            raise ValueError(
                f"boost_epochs={boost_epochs}, rectify_epochs={rectify_epochs}: needs 1 or more, and 0 or more"
            )
        self.weight1, self.weight2 = weight1, weight2
        self.boost_epochs, self.rectify_epochs = boost_epochs, rectify_epochs

    def setup(self) -> None:
        if self.dims.keys() != set(self.modalities) or not self.num_classes:
            raise ValueError("ReconBoost owns a head for all modalities: pass dims= and num_classes= to attach")
        self.adapters, width = adapters(self.dims)
        hidden = max(1, width // 2)
        self.shared_head = nn.Sequential(xavier(width, hidden), nn.ReLU(), xavier(hidden, self.num_classes))
        self.boost_rate = nn.Parameter(torch.ones(()))

    def on_epoch_start(self, engine: Engine) -> None:
        _, learner, begins = phase(engine.epoch, self.modalities, self.boost_epochs, self.rectify_epochs)
        engine.freeze(*(e for m, e in self._encoders.items() if learner not in (None, m)))
        if begins:
            assert engine.optimizer is not None
            engine.optimizer.state.clear()

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        features = {m: model.encoders[m](batch.inputs[m]) for m in self.modalities}
        own = {m: self.shared_head(self.adapters[m](f)) for m, f in features.items()}
        return Output(ensemble(own, votes(self.modalities, batch, drop), self.boost_rate), own, features)

    def step(self, batch: Batch, engine: Engine) -> Output:
        stage, learner, _ = phase(engine.epoch, self.modalities, self.boost_epochs, self.rectify_epochs)
        outputs = []
        for part in engine.split(batch):
            with engine.autocast():
                output = self.forward(engine.model, part)  # of frozen encoders no graph is kept
                if learner is None:
                    losses = {"ensemble": self.loss(output.logits, part, engine)}
                else:
                    losses = {f"boost/{learner}": self.boost(output, part, learner, stage, engine)}
            self.differentiate(losses, engine)
            engine.record(losses)
            outputs.append(output.detach())
        output = Output.cat(outputs)
        engine.finish_gradients()
        rho = discrepancy_ratios(true_class_scores(output.unimodal_logits, batch, engine))
        engine.log(boost_rate=self.boost_rate.clone(), **{f"discrepancy_ratio/{m}": r for m, r in rho.items()})
        engine.update()
        return output

    def boost(self, output: Output, batch: Batch, learner: str, stage: int, ctx: Context) -> Tensor:
        """The learner's loss: it counts for more where the others are wrong."""
        own = output.unimodal_logits
        rest = {m: u.detach() for m, u in own.items() if m != learner}
        there = torch.stack([batch.have([m]) for m in rest])
        right = true_probability(ensemble(rest, there, self.boost_rate.detach()), batch.label)
        if stage == 0:
            right = torch.ones_like(right)
        weight = boosting_weights(right, self.weight1, self.weight2, self.num_classes)
        return ctx.mean(weight * self.criterion(own[learner], batch.label), batch.weights([learner]))


def phase(epoch: int, modalities: Sequence[str], boost: int, rectify: int) -> tuple[int, str | None, bool]:
    """Stage, whose turn it is (None: rectification of all), and whether the phase begins, in an epoch from 0."""
    stage, within = divmod(epoch, boost + rectify)
    return stage, modalities[stage % len(modalities)] if within < boost else None, within in (0, boost)


def ensemble(logits: Mapping[str, Tensor], there: Tensor, boost_rate: Tensor | float) -> Tensor:
    """(B, C): boost_rate times the sum of logits (B, C) over the modalities that are ``there`` (M, B)."""
    said = torch.stack(list(logits.values()))
    return boost_rate * (there[..., None].to(said.dtype) * said).sum(0)


def true_probability(logits: Tensor, label: Tensor) -> Tensor:
    """(B,) softmax(logits)[label] of (B, C)."""
    return full(logits).softmax(1).gather(1, label[:, None])[:, 0]


def boosting_weights(right: Tensor, weight1: float, weight2: float, classes: int) -> Tensor:
    """(B,) what a sample counts, by the others' true-class probability (B,). Above 0, as weight1 > weight2.

    1/C is the released code's: it takes the mean of a product with one-hot labels over classes too.
    """
    return (weight1 - weight2 * right) / classes
