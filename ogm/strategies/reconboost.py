"""ReconBoost: boosting with alternating modalities, each trained to correct the ensemble of the others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ogm.context import Context, TrainingContext
from ogm.imbalance import discrepancy_ratios, true_class_scores
from ogm.losses import full
from ogm.parts.ensembles import counted_modalities
from ogm.parts.heads import width_adapters, xavier_linear
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class ReconBoost(Strategy):
    """Train one modality at a time so that it corrects the ensemble of the others, then train all of them together.

    u_m = head(h_m), with a two-layer head that all modalities share. The prediction is argmax b sum_m u_m, with a
    learned scalar b (initially 1). Training consists of stages t = 0, 1, ..., each with two phases:
    1. Boosting, ``boost_epochs`` long, of modality c = t mod M: q = softmax(b sum_{k != c} u_k)[y], without gradient.
       Encoder c and the head are trained on the mean of (1/C)(weight1 - weight2 q) CE(u_c, y). In stage 0 q = 1, since
       no other modality has been trained.
    2. Rectification, ``rectify_epochs`` long: all encoders, the head and b are trained on CE(b sum_m u_m, y).

    Each phase starts with fresh momentum; learning rate and schedule are those of the run. The fusion module is not
    used. A modality that a sample lacks is left out of the sums. Features of different widths are first mapped to the
    largest width by linear layers.

    Args:
        weight1: Weight of the loss where the others are wrong. Released: 5 for CREMA-D, 4 for AVE and ModelNet40.
        weight2: How much less a sample counts where the others are right; 0 or more, below weight1. Released: 1.
        boost_epochs: Epochs of a boosting phase, 1 or more.
        rectify_epochs: Epochs of a rectification phase, 0 or more.

    Differences:
        - Paper's abstract: a memory consolidation term. Released code: the term has no gradient, because both of its
          sides are detached. Ours: left out.
        - Released code: its commands start from encoders that were trained alone. Ours: from scratch.
        - Released code: in a boosting phase the other encoders run in training mode. Ours: they are frozen, including
          their batch-norm statistics.

    References:
        - Paper: Hua et al., ICML 2024.
        - Code: huacong/ReconBoost at 14ab57a.
    """

    category = "schedule"
    title = "Boosting for modality reconcilement"
    paper = "Hua et al., ICML 2024"
    prediction = "scaled sum of the branches"
    stages = "within the run, one modality's turn and a rectification of all, over and over"
    needs_engine = True

    def __init__(
        self, weight1: float = 5.0, weight2: float = 1.0, *, boost_epochs: int = 4, rectify_epochs: int = 4
    ) -> None:
        super().__init__()
        if not weight1 > weight2 >= 0:
            raise ValueError(f"weight1={weight1}, weight2={weight2}: choose weight1 > weight2 >= 0")
        if boost_epochs < 1 or rectify_epochs < 0:
            raise ValueError(
                f"boost_epochs={boost_epochs}, rectify_epochs={rectify_epochs}: choose 1 or more, and 0 or more"
            )
        self.weight1, self.weight2 = weight1, weight2
        self.boost_epochs, self.rectify_epochs = boost_epochs, rectify_epochs

    def setup(self) -> None:
        """Create the adapters, the shared head and the scalar b."""
        if self.dims.keys() != set(self.modalities) or not self.num_classes:
            raise ValueError("ReconBoost has one head for all modalities: pass dims= and num_classes= to attach")
        self.adapters, width = width_adapters(self.dims)
        hidden = max(1, width // 2)
        self.shared_head = nn.Sequential(
            xavier_linear(width, hidden), nn.ReLU(), xavier_linear(hidden, self.num_classes)
        )
        self.boost_rate = nn.Parameter(torch.ones(()))

    def on_epoch_start(self, engine: TrainingContext) -> None:
        """Freeze the encoders that this phase does not train, and clear momentum where it begins."""
        _, learner, begins = phase(engine.epoch, self.modalities, self.boost_epochs, self.rectify_epochs)
        engine.freeze(*(e for m, e in self._encoders.items() if learner not in (None, m)))
        if begins:
            assert engine.optimizer is not None
            engine.optimizer.state.clear()

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        """Predict with b times the sum of the unimodal logits."""
        features = {m: model.encoders[m](batch.inputs[m]) for m in self.modalities}
        unimodal_logits = {m: self.shared_head(self.adapters[m](f)) for m, f in features.items()}
        return Output(
            boosted_sum(unimodal_logits, counted_modalities(self.modalities, batch, drop), self.boost_rate),
            unimodal_logits,
            features,
        )

    def step(self, batch: Batch, engine: TrainingContext) -> Output:
        """Train on one batch: the boosted modality, or all of them in a rectification."""
        stage, learner, _ = phase(engine.epoch, self.modalities, self.boost_epochs, self.rectify_epochs)
        outputs = []
        for part in engine.split(batch):
            with engine.autocast():
                output = self.forward(engine.model, part)  # without a graph for frozen encoders
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
        """Compute the loss of the modality that is boosted; samples on which the others are wrong count more.

        Args:
            output: Output of the step.
            batch: The batch of this step.
            learner: The modality that is boosted.
            stage: Number of the stage, from 0.
            ctx: Communication between ranks.

        Returns:
            0-dim loss.
        """
        unimodal_logits = output.unimodal_logits
        others = {m: u.detach() for m, u in unimodal_logits.items() if m != learner}
        present = torch.stack([batch.has_all([m]) for m in others])
        probability = true_probability(boosted_sum(others, present, self.boost_rate.detach()), batch.label)
        if stage == 0:
            probability = torch.ones_like(probability)
        weight = boosting_weights(probability, self.weight1, self.weight2, self.num_classes)
        return ctx.mean(weight * self.criterion(unimodal_logits[learner], batch.label), batch.weights([learner]))


def phase(epoch: int, modalities: Sequence[str], boost: int, rectify: int) -> tuple[int, str | None, bool]:
    """What is trained in an epoch.

    Args:
        epoch: Number of the epoch, from 0.
        modalities: Names of all modalities, in order.
        boost: Epochs of a boosting phase.
        rectify: Epochs of a rectification phase.

    Returns:
        The number of the stage; the modality that is boosted (None: rectification); whether a phase begins.
    """
    stage, within = divmod(epoch, boost + rectify)
    return stage, modalities[stage % len(modalities)] if within < boost else None, within in (0, boost)


def boosted_sum(logits: Mapping[str, Tensor], present: Tensor, boost_rate: Tensor | float) -> Tensor:
    """Scaled sum of the modalities' logits.

    Args:
        logits: Modality -> (B, C).
        present: (M, B) bool, which modalities each sample has.
        boost_rate: b.

    Returns:
        (B, C) b times the sum over the modalities that a sample has.
    """
    stacked = torch.stack(list(logits.values()))
    return boost_rate * (present[..., None].to(stacked.dtype) * stacked).sum(0)


def true_probability(logits: Tensor, label: Tensor) -> Tensor:
    """Probability of the true class.

    Args:
        logits: (B, C).
        label: (B,).

    Returns:
        (B,) softmax(logits)[label].
    """
    return full(logits).softmax(1).gather(1, label[:, None])[:, 0]


def boosting_weights(others_probability: Tensor, weight1: float, weight2: float, classes: int) -> Tensor:
    """Weights of the samples in the loss of a boosting phase.

    Args:
        others_probability: (B,) true-class probability of the other modalities.
        weight1: Weight of a sample on which they are wrong.
        weight2: How much less a sample counts on which they are right.
        classes: Number of classes C.

    Returns:
        (B,) (weight1 - weight2 right) / C. The factor 1/C is that of the released code, which averages a product with
        one-hot labels over the classes.
    """
    return (weight1 - weight2 * others_probability) / classes
