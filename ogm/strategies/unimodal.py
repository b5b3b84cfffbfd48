"""One modality alone: its encoder and a head, nothing else. The teacher of others, and the yardstick of imbalance."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn

from ogm.engine import Engine
from ogm.strategy import Passes, Strategy
from ogm.types import Batch, Output


class Branch(nn.Module):
    """An encoder and its head: the input of one modality (B, ...) to its feature (B, D) and logits (B, C)."""

    def __init__(self, modality: str, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.modality, self.encoder, self.classifier = modality, encoder, head

    def forward(self, x: Tensor) -> Output:
        feature = self.encoder(x)
        logits = self.classifier(feature)
        return Output(logits, {self.modality: logits}, {self.modality: feature})


class Unimodal(Strategy):
    """CE on one encoder and a linear head (spec methods_gradient.md, 3.2); the other encoders are not even run."""

    category = "baseline"
    paper = "this suite"
    needs_engine = True

    def __init__(self, modality: str) -> None:
        super().__init__()
        self.modality = modality

    def passes(self, modalities: int) -> Passes:
        return Passes(1, 1)

    def setup(self) -> None:
        if self.modality not in self.modalities:
            raise ValueError(f"modality={self.modality!r}: there are {', '.join(self.modalities)}")
        self.classifier = self.head(self.modality)

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        branch = self.export(model)
        output: Output = branch(batch.inputs[self.modality])
        return output

    def step(self, batch: Batch, engine: Engine) -> Output:
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
        return Branch(self.modality, model.encoders[self.modality], self.classifier)
