"""Only epochs whose predictor is the one that a method is for are selected, reported and built on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.config.run_config import RunConfig, configure, parse
from benchmarks.records.record import RunRecord, best_epoch
from benchmarks.runner.checkpoint import load_checked
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.experiment import resolve
from benchmarks.runner.run import run
from ogm.engine import Engine
from tests.helpers.commands import SMALL
from tests.helpers.engines import TRAINED, build, strategy
from tests.helpers.records import scores_at

EPOCHS = 4  # of tests.helpers.engines


def parts(engine: Engine) -> set[str]:
    """What the prediction is computed from, as it is evaluated: the parameters that have a say in it."""
    batch = next(iter(engine.loaders["val"].all()))
    named = {
        f"{owner}.{name}": p
        for owner, module in (("model", engine.model), ("strategy", engine.strategy))
        for name, p in module.named_parameters()  # type: ignore[attr-defined]
    }
    rests = {name: not p.requires_grad for name, p in named.items()}
    engine.model.train(False)
    for p in named.values():
        p.requires_grad_(True)
    logits = engine.strategy.predict(engine.strategy.forward(engine.model, batch))
    gradients = torch.autograd.grad(logits.sum(), list(named.values()), allow_unused=True)
    for name, p in named.items():
        p.requires_grad_(not rests[name])
    return {name for name, gradient in zip(named, gradients, strict=True) if gradient is not None}


@pytest.mark.parametrize("method", TRAINED)
def test_what_predicts_stays_the_same_from_the_first_final_epoch_on(method: str) -> None:
    engine = build(method)
    seen = []
    for _ in range(EPOCHS):
        engine.train_epoch()
        seen.append(parts(engine))
    first = engine.strategy.first_final_epoch(EPOCHS)
    assert 0 <= first < EPOCHS
    assert all(some == seen[first] for some in seen[first:])
    assert not first or all(some != seen[first] for some in seen[:first])


@pytest.mark.parametrize(
    ("method", "options", "epochs", "first"),
    [
        ("kd_strong_to_weak", {}, 20, 16),
        ("kd_strong_to_weak", {}, 2, 1),
        ("kd_strong_to_weak", {"fuse": 5}, 20, 15),
        ("kd_strong_to_weak", {"fuse": 30}, 20, 1),
        ("kd_strong_to_weak", {"fuse": 0}, 20, 0),
        ("di_mml", {}, 20, 18),
        ("di_mml", {}, 170, 150),
        ("di_mml", {"fuse": 0}, 1, 0),
        ("reconboost", {}, 20, 0),
        ("midas", {"warmup": 0.1}, 20, 2),
        ("midas", {"warmup": 0.1}, 4, 1),
        ("midas", {"warmup": 0.0}, 20, 0),
    ],
)
def test_first_final_epochs(method: str, options: dict[str, Any], epochs: int, first: int) -> None:
    assert strategy(method, **options).first_final_epoch(epochs) == first


@pytest.mark.parametrize("method", ["kd_strong_to_weak", "di_mml"])
@pytest.mark.parametrize("epochs", [0, 1])
def test_too_short_for_their_last_stage(method: str, epochs: int) -> None:
    assert strategy(method).first_final_epoch(epochs) >= epochs


def settings(*more: str) -> RunConfig:
    return configure(parse([*SMALL, *more]))


@pytest.mark.parametrize(("method", "first"), [("kd_strong_to_weak", 8), ("di_mml", 9)])
def test_selected_epochs_and_weights(method: str, first: int, tmp_path: Path) -> None:
    """Heads of encoders trained apart do better here than a fusion that has hardly been trained."""
    config = settings(f"method={method}", "epochs=10")
    place = RunEnvironment(tmp_path / "results", tmp_path / "work")
    record = run(config, place, export=True)
    for split in ("val", "test"):
        accuracies = record.curves[f"{split}/accuracy"][first:]
        losses = record.curves[f"{split}/loss"][first:]
        highest = [
            (loss, e) for e, (a, loss) in enumerate(zip(accuracies, losses, strict=True)) if a == max(accuracies)
        ]
        assert record.selected[f"{split}_best"] == first + min(highest)[1]
    assert record.first_final_epoch == first
    left = load_checked(place.export_path(resolve(config), record), torch.device("cpu"))
    same = [torch.equal(left["last"][name], x) for name, x in left["val_best"].items()]
    assert all(same) == (record.selected["val_best"] == 9)  # the only final epoch of di_mml
    curves = {**record.curves, "val/accuracy": [*record.curves["val/accuracy"]]}
    curves["val/accuracy"][first - 1] = 1.0
    at = {n.removeprefix("test/"): curve[first - 1] for n, curve in curves.items() if n.startswith("test/")}
    early = {"selected": {**record.selected, "val_best": first - 1}, "test": {**record.test, "val_best": at}}
    with pytest.raises(ValueError, match=r"selected\.val_best is not epoch"):
        RunRecord.load(replace(record, curves=curves, **early).save(place.results))
    early |= {"scores": scores_at(curves, record.modalities, first - 1), "first_final_epoch": first - 1}
    early["selected"]["test_best"] = best_epoch(curves, "test", first - 1)
    early["test"]["test_best"] = {
        n.removeprefix("test/"): c[early["selected"]["test_best"]] for n, c in curves.items() if n.startswith("test/")
    }
    path = replace(record, curves=curves, **early).save(place.results)
    assert place.finished(resolve(config)) is None  # a record of the time when any epoch could be selected
    assert run(config, place).result_digest == record.result_digest == RunRecord.load(path).result_digest


def test_a_run_too_short_is_refused_before_its_teachers_are_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--results", str(tmp_path / "r"), "--work", str(tmp_path / "w")]
    assert main(["run", *SMALL, "method=kd_strong_to_weak", "epochs=1", *places]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "kd_strong_to_weak" in line and "give it more epochs" in line
    assert not list(tmp_path.rglob("*.json")) and not list(tmp_path.rglob("*.pt"))
    grid = [s.replace("=[", "=[[").replace("]", "]]") for s in SMALL]
    assert main(["grid", *grid, "method=[kd_strong_to_weak, vanilla]", "epochs=1", "--jobs", "1", *places]) == 0
    assert "2 runs: 1 done, 1 refused, 0 not made" in capsys.readouterr().out
