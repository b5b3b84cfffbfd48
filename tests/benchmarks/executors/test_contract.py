"""What every executor promises. A new one is added to EXECUTORS, and to MAKING and PROCESSES if it makes the runs."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.config.run_config import RunConfig, configure, parse
from benchmarks.executors.base import Executor
from benchmarks.executors.local import LocalExecutor
from benchmarks.executors.print_commands import PrintCommands
from benchmarks.records.record import Unwritable
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.events import EpochEnded, Event, RunDeferred, RunFinished, RunStarted, Warned
from benchmarks.runner.experiment import resolve
from benchmarks.runner.plan import Job
from benchmarks.runner.run import run
from tests.helpers.commands import SMALL, records
from tests.helpers.ray_clusters import ray_executor
from tests.helpers.slurm import slurm_executor, worker_process

Maker = Callable[[RunEnvironment], Executor]
MAKING: dict[str, Any] = {
    "local": lambda environment: LocalExecutor(environment, 2),
    "ray": ray_executor,
    "slurm": pytest.param(slurm_executor, marks=pytest.mark.long),
}
EXECUTORS: dict[str, Any] = {**MAKING, "print": lambda environment: PrintCommands(environment, lambda line: None)}
# The process that makes a run, by the executor's class: its number.
PROCESSES: dict[str, Callable[[Any, str], int | None]] = {
    "LocalExecutor": lambda executor, key: next(
        (w.process.pid for w in executor._workers if w.job is not None and w.job.key == key), None
    ),
    "RayExecutor": lambda executor, key: next(
        (w.process for w in executor._workers if w.job is not None and w.job.key == key), None
    ),
    "SlurmExecutor": lambda executor, key: next(
        (worker_process(w.number) for w in executor._workers.values() if w.job is not None and w.job.key == key), None
    ),
}


def config(*settings: str) -> RunConfig:
    return configure({**parse([*SMALL, "epochs=1"]), **parse(settings)})


def job(*settings: str, export: bool = False) -> Job:
    one = config(*settings)
    return Job(one.key, one.model_dump(mode="json"), export)


def environment(folder: Path, **more: Any) -> RunEnvironment:
    return RunEnvironment(folder / "results", folder / "work", **more)


def ends(events: list[Event]) -> list[str]:
    return [event.key for event in events if isinstance(event, RunFinished | RunDeferred)]


def statuses(events: list[Event]) -> dict[str, str]:
    return {event.key: event.record.status for event in events if isinstance(event, RunFinished)}


@pytest.mark.parametrize("make", EXECUTORS.values(), ids=EXECUTORS)
def test_without_jobs_there_are_no_events(make: Maker, tmp_path: Path) -> None:
    executor = make(environment(tmp_path))
    assert executor.slots >= 1 and list(executor.events()) == []
    executor.close()
    executor.close()


@pytest.mark.parametrize("make", EXECUTORS.values(), ids=EXECUTORS)
def test_each_job_ends_once_and_one_submitted_meanwhile_follows(make: Maker, tmp_path: Path) -> None:
    executor, later = make(environment(tmp_path)), job("seed=1")
    executor.submit(job())
    executor.submit(job("dataset_args.preset=nonsense"))  # its data do not exist: a failure like any other
    events = []
    for event in executor.events():
        events.append(event)
        if isinstance(event, RunFinished | RunDeferred) and later is not None:
            executor.submit(later)
            later = None
    executor.close()
    assert sorted(ends(events)) == sorted(j.key for j in (job(), job("dataset_args.preset=nonsense"), job("seed=1")))
    assert all(event.key in ends(events) for event in events)


@pytest.mark.parametrize("make", MAKING.values(), ids=MAKING)
def test_records_are_those_of_a_run_made_here_and_on_disk_when_the_job_ends(make: Maker, tmp_path: Path) -> None:
    here = environment(tmp_path / "executor")
    executor, seen = make(here), []
    executor.submit(job(export=True))
    for event in executor.events():
        seen.append(event)
        if isinstance(event, RunFinished):
            on_disk = here.finished(resolve(config()), export=True)
            assert on_disk is not None and on_disk.result_digest == event.record.result_digest
    executor.close()
    assert [type(event) for event in seen if event.key == job().key and type(event) in (RunStarted, EpochEnded)] == [
        RunStarted,
        EpochEnded,
    ]
    run(config(), environment(tmp_path / "alone"), export=True)
    assert records(tmp_path / "executor") == records(tmp_path / "alone")


@pytest.mark.parametrize("make", MAKING.values(), ids=MAKING)
def test_failures_are_recorded_with_their_reason(make: Maker, tmp_path: Path) -> None:
    executor = make(environment(tmp_path))
    executor.submit(job("method=kd_strong_to_weak"))  # too short for its last stage
    executor.submit(job("lr=1e30", "epochs=3"))
    events = list(executor.events())
    executor.close()
    assert statuses(events) == {
        job("method=kd_strong_to_weak").key: "skipped",
        job("lr=1e30", "epochs=3").key: "diverged",
    }
    assert all(event.record.reason for event in events if isinstance(event, RunFinished))
    assert len(records(tmp_path)) == 2


@pytest.mark.parametrize("make", MAKING.values(), ids=MAKING)
def test_a_worker_that_is_killed_costs_its_run_alone_and_the_record_says_how(make: Maker, tmp_path: Path) -> None:
    """The run is tried once more, and its worker is killed again."""
    executor, events = make(environment(tmp_path)), []
    doomed, other = job("epochs=200"), job("seed=1")
    executor.submit(doomed)
    for event in executor.events():
        events.append(event)
        if event.key == doomed.key and isinstance(event, EpochEnded):
            if other is not None:
                executor.submit(other)
                other = None
            process = PROCESSES[type(executor).__name__](executor, doomed.key)
            if process is not None:
                with contextlib.suppress(ProcessLookupError):  # it is dead, and this event was on its way
                    os.kill(process, signal.SIGKILL)
    executor.close()
    assert statuses(events) == {doomed.key: "failed", job("seed=1").key: "done"}
    (record,) = (e.record for e in events if isinstance(e, RunFinished) and e.key == doomed.key)
    assert record.reason.count("killed") == 2
    warned = [e.text for e in events if isinstance(e, Warned) and not e.text.startswith("Slurm has not started")]
    assert len(warned) == 1 and "tried once more" in warned[0]


@pytest.mark.parametrize("make", MAKING.values(), ids=MAKING)
def test_closing_stops_what_runs_and_keeps_its_checkpoint(make: Maker, tmp_path: Path) -> None:
    executor, process = make(environment(tmp_path)), None
    executor.submit(job("epochs=1000"))  # longer than it takes to ask for its process
    for event in executor.events():
        if isinstance(event, EpochEnded):
            process = PROCESSES[type(executor).__name__](executor, event.key)
            break
    executor.close()
    until = time.monotonic() + 60
    while Path(f"/proc/{process}").exists():
        assert time.monotonic() < until, "it still runs"
        time.sleep(0.1)
    assert list((tmp_path / "work").rglob("checkpoint.pt")) and not records(tmp_path)


@pytest.mark.parametrize("make", MAKING.values(), ids=MAKING)
def test_only_a_results_folder_that_cannot_be_written_ends_it(make: Maker, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "records").write_text("a file where a folder is needed")
    executor = make(environment(tmp_path))
    executor.submit(job())
    with pytest.raises(Unwritable, match="vanilla"):
        list(executor.events())
    executor.close()
