"""MSES: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ogm.engine import Engine
from ogm.strategies.mses import initial_stopping_state, update_stopping_state
from tests.helpers.engines import TWO, build, digest, train


def test_a_modality_stops_after_its_patience() -> None:
    known = initial_stopping_state(2)
    for epoch, losses in enumerate([(1.0, 1.0), (2.0, 0.9), (2.0, 0.8), (0.1, 0.7), (0.1, torch.nan)]):
        known = update_stopping_state(known, torch.tensor(losses), epoch, 1)
    assert known[3].tolist() == [2, -1] and known[2].tolist() == [0, 3]  # what comes later no longer matters
    assert known[0, 1] == pytest.approx(0.7)  # nothing seen, nothing changed


def astray(modalities: tuple[str, ...] = TWO, fusion: str = "concat", seed: int = 0) -> Engine:
    """A run whose validation set is labelled so that audio gets worse on it by learning."""
    engine = build("mses", fusion, modalities, seed=seed)
    engine.seed = 0
    other = build("vanilla", fusion, modalities).loaders["val"]
    other.data.inputs["audio"] = -other.data.inputs["audio"]
    engine.loaders["val"] = other
    return engine


@pytest.mark.parametrize("fusion", ["concat", "sum"])
def test_who_stops_goes_back_to_its_best_and_stands_still_alone(fusion: str) -> None:
    engine = astray(fusion=fusion)
    encoders = engine.model.encoders
    history = []
    for _ in range(6):
        train(engine)
        history.append({m: torch.cat([p.detach().flatten() for p in encoders[m].parameters()]) for m in TWO})
    _, _, best, stopped = engine.strategy.watched.tolist()
    at, back = int(stopped[0]), int(best[0])
    assert 0 <= back < at < 5 and stopped[1] == -1
    for epoch in range(at, 6):
        assert torch.equal(history[epoch]["audio"], history[back]["audio"])
        assert not torch.equal(history[epoch]["visual"], history[epoch - 1]["visual"])
    own = engine.model.fusion.head["audio"] if fusion == "sum" else None
    assert own is None or not any(p.requires_grad for p in own.parameters())
    assert not any(p.requires_grad for p in encoders["audio"].parameters())


def test_when_all_have_stopped_nothing_moves_and_the_curves_go_on() -> None:
    engine = train(build("mses", "sum"))
    engine.strategy.watched[3] = 0.0
    before = digest(engine)
    train(engine, 2)
    assert digest(engine) == before and engine.step == 3 * len(engine.loaders["train"].epoch(0))
    assert all(len(curve) == 3 and None not in curve for curve in engine.curves.values())


def test_a_run_with_a_stopped_modality_resumes(tmp_path: Path) -> None:
    whole, half = train(astray(), 6), train(astray(), 4)
    assert half.strategy.watched[3].max() >= 0
    torch.save(half.state_dict(), tmp_path / "checkpoint.pt")
    resumed = astray(seed=7)
    resumed.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    assert digest(train(resumed, 2)) == digest(whole)
