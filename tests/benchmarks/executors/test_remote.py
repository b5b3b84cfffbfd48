"""What goes to a worker and comes back, with the worker played by folders that it does not share with the driver."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.config.run_config import configure, parse
from benchmarks.executors import remote
from benchmarks.executors.remote import Outcome, Task, carry_out, differences, store, task_of, versions
from benchmarks.records.record import RunRecord
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.events import Event, RunFinished, RunStarted
from benchmarks.runner.experiment import resolve
from benchmarks.runner.plan import Job
from benchmarks.runner.run import run
from benchmarks.runner.schedule import plan_grid
from datasets.registry import prepare
from tests.helpers.commands import FORKSERVER, SMALL, forgotten_files, records
from tests.helpers.own_data import manifest


def job(*settings: str, export: bool = False) -> Job:
    config = configure({**parse([*SMALL, "epochs=1"]), **parse(settings)})
    return Job(config.key, config.model_dump(mode="json"), export)


def environment(folder: Path, **more: Any) -> RunEnvironment:
    return RunEnvironment(folder / "results", folder / "work", **more)


def made(one: Job, here: RunEnvironment, there: Path, *, shared: bool = False) -> tuple[RunFinished, list[Event]]:
    """The job carried out in another folder, and stored."""
    there.mkdir(exist_ok=True)
    events: list[Event] = []
    outcome = carry_out(task_of(one, here, shares_results=shared, shares_work=shared), there, events.append)
    return store(one, outcome, here), events


@pytest.mark.parametrize("shared", [False, True])
def test_a_run_that_builds_on_others_finds_them_on_another_machine(shared: bool, tmp_path: Path) -> None:
    here = environment(tmp_path / "driver")
    top = resolve(configure({**parse([*SMALL, "epochs=1"]), "method": "umt"}))
    plan = plan_grid([top], here).plan
    count = 0
    while (ready := plan.next_ready()) is not None:
        finished, events = made(ready, here, tmp_path / f"worker-{count}", shared=shared)
        assert finished.record.status == "done" and [e.key for e in events if isinstance(e, RunStarted)] == [ready.key]
        assert not any(isinstance(event, RunFinished) for event in events)
        plan.ended(ready.key, done=True)
        count += 1
    assert count == 3 and plan.finished
    run(top.config, environment(tmp_path / "alone"))
    assert records(tmp_path / "driver") == records(tmp_path / "alone")
    kept = {p.relative_to(tmp_path / "alone"): p for p in (tmp_path / "alone").rglob("*.npz")}
    assert len(kept) == 3
    assert all((tmp_path / "driver" / place).read_bytes() == path.read_bytes() for place, path in kept.items())


def test_a_finished_run_whose_weights_are_wanted_is_made_again_and_its_record_stays(tmp_path: Path) -> None:
    here = environment(tmp_path / "driver")
    made(job(), here, tmp_path / "worker")
    (path,) = (tmp_path / "driver").rglob("records/**/*.json")
    before = path.read_bytes()
    finished, _ = made(job(export=True), here, tmp_path / "worker")
    assert path.read_bytes() == before and finished.record == RunRecord.load(path)
    assert here.finished(resolve(configure(parse([*SMALL, "epochs=1"]))), export=True) == finished.record


def test_a_file_of_the_users_own_travels(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from ogm.strategy import Strategy\nclass Mine(Strategy):\n    category = 'optimisation'\n")
    from benchmarks.config.user_files import register

    with forgotten_files():
        register([("method", file)])
        one, here = job("method=mine"), environment(tmp_path / "driver", files=(("method", file),))
        task = task_of(one, here, shares_results=False, shares_work=False)
    file.unlink()
    with forgotten_files():
        (tmp_path / "worker").mkdir()
        outcome = carry_out(task, tmp_path / "worker", lambda event: None)
        assert store(one, outcome, here).record.status == "done"


def test_other_data_and_data_that_are_not_there_are_told_before_the_run(tmp_path: Path) -> None:
    one, here = job(), environment(tmp_path / "driver")
    task = task_of(one, here, shares_results=False, shares_work=False)
    other = replace(task, fingerprint={"train": "x", "val": "y", "test": "z"})
    with pytest.raises(remote.UnpreparedError, match=r"other data for synthav .*python -m datasets"):
        carry_out(other, tmp_path, lambda event: None)
    absent = replace(task, job=replace(one, config={**one.config, "dataset": "avmnist", "dataset_args": {}}))
    with pytest.raises(remote.UnpreparedError, match=r"cannot make runs on avmnist: .*python -m datasets"):
        carry_out(absent, tmp_path, lambda event: None)


def on_another_machine(task: Task, folder: Path, cache: Path) -> None:
    """A job carried out by a process that has other prepared data."""
    os.environ["OGM_CACHE"] = str(cache)
    folder.mkdir()
    (folder / "outcome").write_text(carry_out(task, folder, lambda event: None).record)


def test_workers_prepare_the_data_that_their_machine_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    config = manifest(tmp_path, "aabbb")
    prepare(config.dataset, config.dataset_args)
    one, here = Job(config.key, config.model_dump(mode="json")), environment(tmp_path / "driver")
    task = task_of(one, here, shares_results=False, shares_work=False)
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(remote.UnpreparedError, match="cannot make runs on manifest"):
        carry_out(task, tmp_path, lambda event: None)
    willing = replace(task, environment=replace(task.environment, prepare=True))
    team = [
        FORKSERVER.Process(target=on_another_machine, args=(willing, tmp_path / name, tmp_path / "elsewhere"))
        for name in ("first", "second")
    ]
    for process in team:
        process.start()
    for process in team:
        process.join(120)
    first, second = (json.loads((tmp_path / name / "outcome").read_text()) for name in ("first", "second"))
    assert first["status"] == second["status"] == "done" and first["data"] == second["data"]


def test_what_a_worker_damages_becomes_a_failed_record(tmp_path: Path) -> None:
    here, one, other = environment(tmp_path / "driver"), job(export=True), job("seed=1")
    outcome = carry_out(task_of(one, here, shares_results=False, shares_work=False), tmp_path, lambda event: None)
    assert outcome.logits is not None and outcome.weights is not None
    content = {**json.loads(outcome.record), "prediction": "another"}
    for damaged, why in (
        (replace(outcome, record=json.dumps(content)), "digest"),
        (replace(outcome, logits=outcome.logits[:-100]), "damaged"),
        (replace(outcome, weights=outcome.weights[:-1]), "checksum"),
    ):
        finished = store(one, damaged, here)
        assert finished.record.status == "failed" and why in finished.record.reason
    assert "another run" in store(other, outcome, here).record.reason
    assert store(one, outcome, here).record.status == "done"
    assert "came out differently" not in store(one, outcome, here).record.reason


def test_a_fault_comes_back_with_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*args: object, **more: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("benchmarks.runner.failures.run_experiment", fault)
    here = environment(tmp_path / "driver")
    finished, _ = made(job(), here, tmp_path / "worker")
    path = tmp_path / "driver" / "work" / job().key / "error.txt"
    assert str(path) in finished.record.reason and "a fault of ours" in path.read_text()


def test_other_versions_are_named() -> None:
    assert differences(versions()) == []
    assert differences({**versions(), "torch": "2.4.0"}) == [f"torch 2.4.0 there, {versions()['torch']} here"]


def test_the_command_is_the_drivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "grid", "seed=[0]"])
    task = task_of(job(), environment(tmp_path / "driver"), shares_results=False, shares_work=False)
    monkeypatch.setattr(sys, "argv", ["worker.py"])
    outcome: Outcome = carry_out(task, tmp_path, lambda event: None)
    assert json.loads(outcome.record)["provenance"]["command"] == "python -m benchmarks grid seed=[0]"
