"""ReconBoost: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import torch

from ogm.strategies import reconboost
from tests.helpers.engines import CLASSES, THREE, TWO, build, train
from tests.helpers.methods import Q64


def test_turns_and_rectifications() -> None:
    found = [reconboost.phase(epoch, THREE, 2, 1) for epoch in range(10)]
    assert [(stage, learner) for stage, learner, _ in found] == [
        *((0, "audio"), (0, "audio"), (0, None), (1, "visual"), (1, "visual")),
        *((1, None), (2, "text"), (2, "text"), (2, None), (3, "audio")),
    ]
    assert [begins for *_, begins in found] == [True, False, True] * 3 + [True]


def test_in_a_turn_the_others_stand_still_and_momentum_is_fresh_at_its_start() -> None:
    engine = build("reconboost", options={"boost_epochs": 2, "rectify_epochs": 1})
    moved, started = [], []
    for _ in range(3):
        before = {m: torch.cat([p.detach().flatten() for p in engine.model.encoders[m].parameters()]) for m in TWO}
        rate = engine.strategy.boost_rate.detach().clone()
        engine.strategy.on_epoch_start(engine)
        started.append(len(engine.optimizer.state) == 0)
        train(engine)
        after = {m: torch.cat([p.detach().flatten() for p in engine.model.encoders[m].parameters()]) for m in TWO}
        moved.append(
            ([m for m in TWO if not torch.equal(before[m], after[m])], bool(rate != engine.strategy.boost_rate))
        )
    assert moved == [(["audio"], False), (["audio"], False), (["audio", "visual"], True)]
    assert started == [True, False, True]


def test_what_the_others_know_counts_less() -> None:
    weight = reconboost.boosting_weights(torch.tensor([0.0, 0.5, 1.0]), 5.0, 1.0, 4)
    assert weight.tolist() == [1.25, 1.125, 1.0]
    engine = build("reconboost", missing=True, **Q64)
    batch = engine.loaders["train"].epoch(0)[0]
    plan, output = engine.strategy, engine.strategy.forward(engine.model, batch)
    u, v = (output.unimodal_logits[m].detach() for m in TWO)
    seen = batch.has_all(["visual"]).double()[:, None]
    q = torch.softmax(v * seen, 1)[torch.arange(len(batch)), batch.label]
    each = (5 - q) * torch.nn.functional.cross_entropy(u, batch.label, reduction="none") / CLASSES
    here = batch.has_all(["audio"])
    torch.testing.assert_close(plan.boost(output, batch, "audio", 2, engine), each[here].mean())
    first = (each / (5 - q) * 4)[here].mean()
    torch.testing.assert_close(plan.boost(output, batch, "audio", 0, engine), first)
    plan.boost(output, batch, "audio", 2, engine).backward()
    assert plan.boost_rate.grad is None
