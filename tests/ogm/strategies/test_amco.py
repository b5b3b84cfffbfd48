"""AMCo: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import math

import pytest
import torch

from ogm.context import Context
from ogm.strategies.amco import hidden_classes
from ogm.types import Batch, Output
from tests.helpers.engines import TWO, build, train


def test_the_mask_grows_to_everything_and_stays() -> None:
    n = [hidden_classes(p / 100, 0.3, 8) for p in range(101)]
    assert n[0] == 0 and n == sorted(n) and set(n[30:]) == {8}


def test_who_is_leaned_on_is_masked_in_the_next_step() -> None:
    engine = build("amco")
    plan = engine.strategy
    own = {m: torch.zeros(3, 4) for m in TWO}
    own["audio"] = 5 * torch.eye(4)[:3]
    output, batch = Output(own["audio"], own), Batch({}, torch.arange(3), torch.arange(3))
    end = Context(epoch=3, epochs=4)
    assert torch.equal(plan.masked_logits(output, end)["audio"], own["audio"])  # type: ignore[operator]
    plan.on_gradients(output, batch, end)
    assert plan.dependent.tolist() == [True, False]
    seen = plan.masked_logits(output, end)  # type: ignore[operator]
    assert not seen["audio"].any() and torch.equal(seen["visual"], own["visual"])
    losses = plan.losses(plan.replace_unimodal_logits(output), batch, end)
    assert float(losses["unimodal/audio"]) == pytest.approx(math.log(4))
    start = Context(epochs=4)
    assert torch.equal(plan.masked_logits(output, start)["audio"], own["audio"])  # type: ignore[operator]


def test_evaluation_is_unmasked_and_through_the_trained_layer() -> None:
    engine = train(build("amco"), 4)
    plan, batch = engine.strategy, engine.loaders["val"].all()[0]  # type: ignore[index]
    plan.dependent.fill_(True)
    said = engine.strategy.forward(engine.model, batch)
    torch.testing.assert_close(said.logits, plan.linear_star(sum(said.unimodal_logits.values())))
    assert not torch.equal(plan.linear_star.weight, torch.eye(4))  # type: ignore[arg-type]
    alone = engine.strategy.forward(engine.model, batch, ("audio",))
    torch.testing.assert_close(alone.logits, plan.linear_star(said.unimodal_logits["visual"]))
