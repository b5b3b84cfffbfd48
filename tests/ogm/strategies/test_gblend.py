"""GBlend: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import copy

import pytest
import torch

from ogm.engine import Engine
from ogm.strategies import gblend
from tests.helpers.engines import TWO, build, flat, train
from tests.helpers.methods import Q64


def test_what_does_not_generalise_gets_no_weight_and_overfitting_costs() -> None:
    weights = gblend.blending_weights({"a": (0.5, 0.1), "v": (0.5, 0.2), "joint": (-0.5, 0.01)})
    assert weights == pytest.approx({"a": 0.8, "v": 0.2, "joint": 0.0}, abs=1e-6)
    assert gblend.blending_weights({"a": (-1.0, 0.1), "v": (0.0, 0.0)}) == {"a": 0.5, "v": 0.5}


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
def test_estimates_leave_the_run_as_it_was(missing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, untouched = (train(build("gblend", missing=missing)) for _ in range(2))
    before = copy.deepcopy(engine.state_dict())
    found = engine.strategy.estimates(1, engine)
    assert found.keys() == {*TWO, "joint"} and isinstance(engine.strategy, gblend.GBlend)
    torch.testing.assert_close(engine.state_dict(), before, rtol=0, atol=0)
    for losses in found.values():
        assert all(x > 0 for x in losses) and losses.train0 != losses.val0
    monkeypatch.setattr(gblend.GBlend, "on_epoch_start", lambda *_: None)
    assert torch.equal(flat(train(engine)), flat(train(untouched)))


def test_an_estimate_is_a_run_of_that_loss_alone() -> None:
    engine, joint = build("gblend", **Q64), build("vanilla", **Q64)
    found = engine.strategy.estimates(2, engine)
    first = gblend.mean_loss("train", [], joint)
    assert found["joint"].train0 == pytest.approx(first)
    assert found["joint"].train1 == pytest.approx(gblend.mean_loss("train", [], train(joint, 2)))
    alone = build("unimodal", options={"modality": "visual"}, **Q64)
    alone.strategy.classifier.load_state_dict(engine.strategy.heads["visual"].state_dict())
    assert found["visual"].train1 == pytest.approx(gblend.mean_loss("train", ["visual"], train(alone, 2)))


@pytest.mark.parametrize(("mode", "when"), [("online", [0, 2]), ("offline", [0])])
def test_when_estimates_are_made(mode: str, when: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = build("gblend", options={"mode": mode, "super_epoch": 2})
    made: list[tuple[int, int]] = []

    def estimates(epochs: int, engine: Engine) -> dict[str, gblend.Losses]:
        made.append((engine.epoch, epochs))
        return {k: gblend.Losses(2.0, 2.0, 1.0, 1.5) for k in (*TWO, "joint")}

    monkeypatch.setattr(engine.strategy, "estimates", estimates)
    train(engine, 4)
    assert made == [(epoch, 2 if mode == "online" else 4) for epoch in when]
    assert engine.strategy.weights.tolist() == pytest.approx([1 / 3] * 3)
