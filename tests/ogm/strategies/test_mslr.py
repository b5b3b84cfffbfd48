"""MSLR: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import pytest
import torch

from ogm.strategies.mslr import accuracy_quotients
from tests.helpers.engines import build, train
from tests.helpers.methods import D, build64, close


def test_a_quotient_is_of_the_epochs_before() -> None:
    past = torch.tensor([[0.2, 0.4], [torch.nan, 0.5], [0.0, 0.0], [0.01, 0.01]], dtype=D)
    found = accuracy_quotients(past, torch.tensor([0.6, 0.9, 0.5, 0.9], dtype=D))
    assert found.tolist() == pytest.approx([2.0, 1.0, 1.0, 10.0])


@pytest.mark.parametrize("fusion", ["concat", "sum"])
def test_keeping_a_rate_is_a_learning_rate_of_its_own(fusion: str) -> None:
    slow = build64("mslr", fusion, options={"init": {"audio": 0.25}, "rule": "keep"})
    plain = build64("vanilla", fusion)
    own = list(plain.model.encoders["audio"].parameters())
    own += list(plain.model.fusion.head["audio"].parameters()) if fusion == "sum" else []
    rest = [p for p in plain.parameters if all(p is not q for q in own)]
    groups = [{"params": own, "lr": 0.025}, {"params": rest}]
    plain.optimizer, plain.scheduler = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=1e-4), None
    train(slow), train(plain)
    for p, q in zip(slow.model.parameters(), plain.model.parameters(), strict=True):
        close(p.detach(), q.detach())


def test_a_dynamic_rate_follows_validation_accuracy() -> None:
    engine = train(build("mslr", options={"init": {}, "memory": 1}), 3)
    assert engine.curves["coefficient/audio"][:2] == [1.0, 1.0]  # no epoch before the first
    past, now = engine.strategy.past, engine.strategy.quotient.clone()
    assert (past > 0).all() and engine.curves["coefficient/audio"][2] != 1.0
    train(engine)
    assert engine.curves["coefficient/audio"][3] == pytest.approx(float(now[0]))
