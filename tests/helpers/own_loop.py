"""Training loops as users write them, for tests of ``Strategy.backward`` and ``Strategy.transform``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import ogm
from ogm import Batch, Output
from ogm.engine import Engine
from tests.helpers.engines import CLASSES_OF, TRAINED

OWN_LOOP = [m for m in TRAINED if not CLASSES_OF[m].needs_engine]


def forward(engine: Engine, batch: Batch, **where: Any) -> Output:
    """What a loop of one's own does before ``backward``, with the parts of a model and no model."""
    plan, fusion = engine.strategy, engine.model.fusion
    features: dict[str, Tensor] = {m: encoder(batch.inputs[m]) for m, encoder in engine.model.encoders.items()}
    features = plan.transform(features, batch, **where)
    return Output(fusion(features), fusion.unimodal_logits(features), features)


def hand_written(engine: Engine, batches: list[Batch], micro_batch: int | None = None) -> Engine:
    plan, optimizer = engine.strategy, engine.optimizer
    assert optimizer is not None
    for number, batch in enumerate(batches):
        where = {"epochs": 4, "fraction": number / len(batches)}
        optimizer.zero_grad()
        size = micro_batch or len(batch)
        for start in range(0, len(batch), size):
            part = batch.select(slice(start, start + size))
            output = forward(engine, part, **where)
            whole = None if micro_batch is None else len(batch)
            plan.backward(output, part, optimizer=optimizer, accumulate_to=whole, **where)
        nn.utils.clip_grad_norm_([p for g in optimizer.param_groups if g.get("clip", True) for p in g["params"]], 5.0)
        optimizer.step()
    return engine


def engines(engine: Engine, batches: list[Batch]) -> Engine:
    for number, batch in enumerate(batches):
        engine.fraction, engine.logs = number / len(batches), {}
        engine.strategy.step(batch, engine)
    return engine


def three_batches(engine: Engine) -> list[Batch]:
    return engine.loaders["train"].epoch(0)[1:]  # type: ignore[index]  # of 16, 16 and 12 samples


class Net(nn.Module):
    """A network as people have it."""

    def __init__(self) -> None:
        super().__init__()
        self.audio, self.visual = nn.Linear(3, 4), nn.Linear(5, 4)
        self.head = nn.Linear(8, 3)
        self.plan = ogm.create("ogm_ge", alpha=0.8).attach(self.encoders)

    @property
    def encoders(self) -> dict[str, nn.Module]:
        return {"audio": self.audio, "visual": self.visual}

    def forward(self, audio: Tensor, visual: Tensor) -> Output:
        features = {"audio": self.audio(audio), "visual": self.visual(visual)}
        return Output(self.head(torch.cat(list(features.values()), 1)), ogm.split_linear(self.head, features))


def data(samples: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    audio, visual = torch.randn(samples, 3, generator=g), torch.randn(samples, 5, generator=g)
    return audio, visual, torch.arange(samples) % 3


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))
