"""Unimodal training: one encoder with a linear head, and nothing else."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from ogm.context import TrainingContext
from ogm.parts.heads import UnimodalModel
from ogm.strategy import Strategy
from ogm.types import Batch, Output, Passes


class Unimodal(Strategy):
    """Train one modality alone.

    These runs are the teachers of other methods and the reference for measuring imbalance.

    L = CE(W h_m + b, y), where h_m = E_m(x_m) is the feature of modality m. The other encoders are not run, and the
    fusion module is not used. Optimizer, number of epochs and augmentation are those of joint training.

    Args:
        modality: Name of the modality to train. Required.

    Differences:
        - Released code: AGM's variant for early fusion feeds zeros for the other modalities through the joint model.
          Ours: a model of the one encoder and its own head.

    References:
        - This suite's definition; AGM's variant: lihong2303/AGM_ICCV2023 at 5a65542.
    """

    category = "baseline"
    title = "Training of one modality alone"
    paper = "this suite"
    prediction = "branch"
    needs_engine = True

    def __init__(self, modality: str) -> None:
        super().__init__()
        self.modality = modality

    def passes(self, modalities: int) -> Passes:
        """Return (1, 1): one encoder runs."""
        return Passes(1, 1)

    def setup(self) -> None:
        """Create the head."""
        if self.modality not in self.modalities:
            raise ValueError(f"modality={self.modality!r} is unknown: there are {', '.join(self.modalities)}")
        self.classifier = self.head(self.modality)

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        """Predict with the one encoder and its head."""
        branch = self.export(model)
        output: Output = branch(batch.inputs[self.modality])
        return output

    def step(self, batch: Batch, engine: TrainingContext) -> Output:
        """Train the one encoder and its head on one batch."""
        outputs = []
        for part in engine.split(batch):
            with engine.autocast():
                output = self.forward(engine.model, part)
                losses = {"unimodal": self.loss(output.logits, part, engine, self.modality)}
            self.differentiate(losses, engine)
            engine.record(losses)
            outputs.append(output.detach())
        engine.finish_gradients()
        engine.update()
        return Output.cat(outputs)

    def export(self, model: Any) -> nn.Module:
        """Return the encoder and its head."""
        return UnimodalModel(self.modality, model.encoders[self.modality], self.classifier)
