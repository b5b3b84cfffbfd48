"""InfoReg: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ogm.strategies.inforeg import pull_strengths, relative_growth
from tests.helpers.engines import THREE, TWO, build, train
from tests.helpers.methods import D, build64, close, one_step


def test_the_pull_is_to_where_the_epoch_began() -> None:
    engine, plain = build64("inforeg"), build64("equal_weight_multiloss", options={"heads": "shared"})
    for each in (engine, plain):
        each.strategy.on_epoch_start(each)
    start = {n: p.detach().clone() for n, p in engine.model.named_parameters()}
    for name, grad in one_step(plain).items():  # nothing has moved yet
        assert torch.equal(one_step(engine)[name], grad)
    with torch.no_grad():
        for p, q in zip(engine.model.parameters(), plain.model.parameters(), strict=True):
            p.add_(0.01)
            q.add_(0.01)
    found, sums = one_step(engine), one_step(plain)
    pull = {m: engine.logs[f"strength/{m}"] for m in TWO}
    assert sorted(float(x) > 0 for x in pull.values()) == [False, True]
    for name, p in engine.model.named_parameters():
        part, m = name.split(".")[:2]
        close(found[name], sums[name] + (pull[m] * (p.detach() - start[name]) if part == "encoders" else 0.0))


def test_strengths_are_of_who_is_ahead() -> None:
    scores = {m: torch.tensor(s, dtype=D) for m, s in zip(THREE, (3.0, 1.0, 2.0), strict=True)}
    pull = pull_strengths(scores, dict.fromkeys(THREE, 0.95))
    assert float(pull["audio"]) == pytest.approx(0.95 * np.exp(np.tanh(3 - 2))) and pull["visual"] == pull["text"] == 0
    two = pull_strengths({m: scores[m] for m in TWO}, {"audio": 0.95, "visual": 0.1})
    assert float(two["audio"]) == pytest.approx(0.95 * np.exp(np.tanh(3 - 1))) and two["visual"] == 0
    tie = pull_strengths({m: torch.tensor(1.0) for m in TWO}, dict.fromkeys(TWO, 0.95))
    assert not any(x > 0 for x in tie.values())
    none = pull_strengths({"audio": torch.tensor(torch.nan), "visual": torch.tensor(1.0)}, dict.fromkeys(TWO, 0.95))
    assert all(float(x) == 0 for x in none.values())


def test_the_window_closes_when_the_trace_no_longer_grows() -> None:
    assert float(relative_growth(torch.full((11,), 3.0))) == 0 and float(relative_growth(torch.zeros(11))) == 0
    assert float(relative_growth(torch.tensor([0.0] * 10 + [2.0]))) == 1
    engine = train(build("inforeg"))
    assert engine.strategy.traces[:, -1].min() > 0
    assert engine.curves["strength/audio"][0] > 0
    engine.strategy.traces.fill_(1.0)
    train(engine)
    assert engine.curves["strength/audio"][1] == engine.curves["strength/visual"][1] == 0
