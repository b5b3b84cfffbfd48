"""What the tests of several methods share: single steps, small tensors, comparisons."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.engine import Engine
from ogm.types import Batch, Output
from tests.helpers.engines import (
    TWO,
    build,
    strategy,
)

D = torch.float64


def one_step(engine: Engine, number: int = 0) -> dict[str, Tensor]:
    """name -> gradient of the model's and the strategy's parameters after a step, which moves nothing."""
    update, engine.update, engine.logs = engine.update, lambda: None, {}
    engine.strategy.step(engine.loaders["train"].epoch(0)[number], engine)
    engine.update = update
    named = (*engine.model.named_parameters(), *engine.strategy.named_parameters())
    found = {n: p.grad.clone() for n, p in named if p.grad is not None}
    engine.optimizer.zero_grad()
    return found


def build64(method: str, fusion: str = "concat", modalities: tuple[str, ...] = TWO, **how: Any) -> Engine:
    return build(method, fusion, modalities, dtype=D, max_norm=None, **how)


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


LOGITS = {
    "a": [[2.0, 0.0, -1.0], [0.5, 1.0, 0.0], [1.0, 0.0, 0.5]],
    "v": [[0.2, 0.1, 0.0], [0.0, 0.3, 0.6], [0.4, 0.0, 0.1]],
}


Q64 = {"dtype": torch.float64}


def weights(module: nn.Module) -> Tensor:
    return torch.cat([x.detach().double().reshape(-1) for x in (*module.parameters(), *module.buffers())])


def rows(count: int, width: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def run_once(
    method: str, logits: dict[str, Tensor], label: Tensor, **options: Any
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """One foreign step on given unimodal logits, on encoders whose gradients are all ones: logs and new gradients."""
    encoders = {m: nn.Conv2d(1, 2, 2) for m in logits}
    plan = strategy(method, **options).attach(encoders)
    weights = {m: e.weight for m, e in encoders.items()}
    fused = torch.stack(list(logits.values())).sum(0) + 0 * sum(
        p.sum() for e in encoders.values() for p in e.parameters()
    )
    ctx = Context()
    for e in encoders.values():
        for p in e.parameters():
            p.grad = torch.ones_like(p)
    plan.on_gradients(Output(fused, logits), Batch({}, label, torch.arange(len(label))), ctx)
    return dict(ctx.logs), {m: w.grad.clone() for m, w in weights.items() if w.grad is not None}


def one_hot_logits(**confidence: float) -> tuple[dict[str, Tensor], Tensor]:
    label = torch.tensor([0, 1, 2, 3])
    eye = torch.eye(4, dtype=torch.float64)
    return {m: c * eye for m, c in confidence.items()}, label


def gradients(method: str, fusion: str = "concat", **options: Any) -> dict[str, Tensor]:
    """name -> gradient of each of the model's parameters, after one step's modulation and before the update."""
    engine = build(method, fusion, options=options)
    engine.update = lambda: None  # type: ignore[method-assign]
    engine.strategy.on_epoch_start(engine)
    engine.strategy.step(engine.loaders["train"].epoch(0)[0], engine)  # type: ignore[index]
    return {n: p.grad.clone() for n, p in engine.model.named_parameters() if p.grad is not None}
