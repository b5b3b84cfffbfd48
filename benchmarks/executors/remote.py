"""One job on another machine: what it needs goes there as values, and what it leaves comes back as values.

What the executors of a cluster have in common. ``task_of`` and ``store`` are for the process that plans the runs (the
driver), ``carry_out`` and ``versions`` for the one that makes them (a worker). The folders of the two need not be
shared; where one is, nothing is copied through it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ogm
from benchmarks.config.run_config import RunConfig
from benchmarks.config.user_files import Kind, register
from benchmarks.records import logits
from benchmarks.records.record import RunRecord, write_whole
from benchmarks.records.store import find_record
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.events import Event, EventHandler, RunFinished
from benchmarks.runner.experiment import Experiment, resolve
from benchmarks.runner.failures import end_with_failure, failed_record, run_or_record_failure
from benchmarks.runner.plan import Job
from benchmarks.runner.provenance import COMPUTING, ROOT, provenance
from datasets.core.errors import BusyError, DataError
from datasets.registry import prepare, ready

# Seconds for which a worker waits while another process of its machine prepares the same data, and between two looks.
PREPARING, PAUSE = 12 * 3600.0, 2.0


class UnpreparedError(DataError):
    """A machine does not have the data of a run, or has other data than the driver."""


@dataclass(frozen=True)
class Task:
    """A job with all that its worker needs. It can be pickled.

    Args:
        job: The job.
        environment: The driver's, without ``files``.
        shares_results: Whether the worker sees the driver's results folder, and reads and writes records there.
        shares_work: Whether it sees the driver's folder of checkpoints and weights, and uses that.
        fingerprint: Of the data that the driver has for this run; None where the driver cannot have them.
        files: The user's own files: what each holds, its name, its content.
        records: The records that the run may read, as texts by their paths below the results folder.
        weights: The weights that it builds on, by their paths below the folder of checkpoints.
        command: The driver's command line, which records mention.
    """

    job: Job
    environment: RunEnvironment
    shares_results: bool
    shares_work: bool
    fingerprint: Mapping[str, str] | None
    files: Sequence[tuple[Kind, str, bytes]]
    records: Mapping[str, str]
    weights: Mapping[str, bytes]
    command: Sequence[str]


@dataclass(frozen=True)
class Outcome:
    """What a job has left.

    Args:
        record: The record, as the text of its file.
        logits: The file of its logits; None where there is none, or it is in the driver's folder already.
        weights: The file of its trained weights, likewise.
        traceback: Of a fault, likewise.
    """

    record: str
    logits: bytes | None = None
    weights: bytes | None = None
    traceback: str | None = None


def task_of(job: Job, environment: RunEnvironment, *, shares_results: bool, shares_work: bool) -> Task:
    """A job with all that its worker needs.

    Args:
        job: The job, whose prerequisites are done.
        environment: The driver's.
        shares_results: Whether the worker sees the results folder, at the same path.
        shares_work: Whether it sees the folder of checkpoints, at the same path.
    """
    config = RunConfig(**job.config)
    records: dict[str, str] = {}
    weights: dict[str, bytes] = {}
    shares_all = shares_results and shares_work
    for earlier, record in () if shares_all else _readable(job, config, environment):
        if not shares_results:
            records[str(record.path(Path()))] = record.text()
        path = environment.export_path(earlier, record)
        if not shares_work and path.exists():
            weights[str(path.relative_to(environment.work))] = path.read_bytes()
    try:
        fingerprint = environment.fingerprint(config)
    except ValueError:  # the run fails by it, as it does here
        fingerprint = None
    return Task(
        job=job,
        environment=replace(
            environment,
            results=environment.results.absolute(),
            work=environment.work.absolute(),
            files=(),
            _fingerprints={},  # the worker looks at its own data
        ),
        shares_results=shares_results,
        shares_work=shares_work,
        fingerprint=fingerprint,
        files=[(kind, path.name, path.read_bytes()) for kind, path in environment.files],
        records=records,
        weights=weights,
        command=sys.argv,
    )


def _readable(job: Job, config: RunConfig, environment: RunEnvironment) -> Iterator[tuple[Experiment, RunRecord]]:
    """The runs whose records a run may read, with these: itself, and all that it builds on, as far as they are done."""
    if not job.waits_for and find_record(environment.results, environment.record_path(config)) is None:
        return  # most runs: nothing has to be resolved
    experiment = resolve(config)
    for earlier in [experiment, *_all_prerequisites(experiment)]:
        record = find_record(environment.results, environment.record_path(earlier.config))
        if record is not None and record.status == "done":
            yield earlier, record


def _all_prerequisites(experiment: Experiment) -> list[Experiment]:
    """The runs that a run builds on, and those that they build on, each once."""
    found: dict[str, Experiment] = {}
    left = [experiment]
    while left:
        needed = [prerequisite.experiment for prerequisite in left.pop().prerequisites.values()]
        left += [e for e in needed if e.key not in found]
        found |= {e.key: e for e in needed}
    return list(found.values())


def carry_out(task: Task, folder: Path, on_event: EventHandler) -> Outcome:
    """Carry out a job in this process.

    Args:
        task: The job, with what it needs.
        folder: For what the driver's folders cannot be used for. Later jobs of the driver may use it again.
        on_event: Receives the run's events but its ``RunFinished``, which the driver has once it has the record.

    Returns:
        What the job has left. A run that cannot be made has a record, too.

    Raises:
        UnpreparedError: This machine does not have the run's data; one line that says what to do.
        OSError: ``folder`` or the driver's results folder cannot be written to.
    """
    sys.argv = list(task.command)
    with tempfile.TemporaryDirectory(dir=folder) as private:
        environment = replace(
            task.environment,
            results=task.environment.results if task.shares_results else Path(private),
            work=task.environment.work if task.shares_work else folder / "work",
            files=_unpacked(task, folder),
        )
        return _carry_out(task, environment, on_event)


def _unpacked(task: Task, folder: Path) -> tuple[tuple[Kind, Path], ...]:
    """The user's own files, written down and registered."""
    for _, name, content in task.files:
        write_whole(folder / name, content)
    files = tuple((kind, folder / name) for kind, name, _ in task.files)
    register(files)
    return files


def _carry_out(task: Task, environment: RunEnvironment, on_event: EventHandler) -> Outcome:
    job, config = task.job, RunConfig(**task.job.config)
    for place, text in task.records.items():
        write_whole(environment.results / place, text)
    for place, content in task.weights.items():
        if not (environment.work / place).exists():
            write_whole(environment.work / place, content)
    environment.work.mkdir(parents=True, exist_ok=True)
    _require_data(config, task.fingerprint, environment)

    def without_end(event: Event) -> None:
        if not (isinstance(event, RunFinished) and event.key == job.key):
            on_event(event)

    record = run_or_record_failure(config, environment, export=job.export, on_event=without_end)
    saved, fault = logits.logits_path(environment.results, record), environment.work / job.key / "error.txt"
    kept, weights, traceback = None, None, None
    if record.logits and not task.shares_results and saved.exists():
        kept = saved.read_bytes()
    if not task.shares_work:
        if job.export and record.status == "done":
            weights = environment.export_path(resolve(config), record).read_bytes()
        if record.status == "failed" and fault.exists():
            traceback = fault.read_text()
            reason = record.reason.replace(str(environment.work), str(task.environment.work))
            record = replace(record, reason=reason)
    return Outcome(record.text(), kept, weights, traceback)


def _require_data(config: RunConfig, wanted: Mapping[str, str] | None, environment: RunEnvironment) -> None:
    if wanted is None:
        return
    host = socket.gethostname()
    try:
        if environment.prepare:
            _prepare_once(config)
        there = environment.fingerprint(config)
    except DataError as error:
        raise UnpreparedError(f"{host} cannot make runs on {config.dataset}: {error}") from None
    if there != wanted:
        splits = ", ".join(f"{s}: {there.get(s)} there, {x} here" for s, x in wanted.items() if there.get(s) != x)
        raise UnpreparedError(
            f"{host} has other data for {config.dataset} ({splits}): get the same files there, and "
            f"python -m datasets prepare {config.dataset}"
        )


def _prepare_once(config: RunConfig) -> None:
    """Make a run's data ready on this machine; several workers of one machine wait for the one that does it."""
    until = time.monotonic() + PREPARING
    while not ready(config.dataset, config.dataset_args):
        try:
            prepare(config.dataset, config.dataset_args)
        except BusyError:
            if time.monotonic() > until:
                raise
            time.sleep(PAUSE)


def store(job: Job, outcome: Outcome, environment: RunEnvironment) -> RunFinished:
    """Check what a worker sent back, and write it below the driver's folders.

    A finished record that is there already stays as it is, as in a run that is made here.

    Args:
        job: The job.
        outcome: What its worker sent back.
        environment: The driver's.

    Returns:
        The end of the job. What cannot be used has become a failed record.

    Raises:
        OSError: The record cannot be written.
    """
    config = RunConfig(**job.config)
    try:
        record = _checked(job, outcome, environment)
    except ValueError as error:
        record = failed_record(config, "failed", f"what its worker sent back cannot be used: {error}")
    if record.status in ("failed", "skipped"):
        if outcome.traceback is not None:
            write_whole(environment.work / job.key / "error.txt", outcome.traceback)
        return end_with_failure(record, config, environment)
    if outcome.weights is not None:
        path = environment.export_path(resolve(config), record)
        if not path.exists():
            write_whole(path, outcome.weights)
    before = find_record(environment.results, environment.record_path(config))
    if before is None or before.result_digest != record.result_digest:
        if outcome.logits is not None:
            logits.save_file(environment.results, record, outcome.logits)
        write_whole(record.path(environment.results), outcome.record)  # what ``_checked`` has read
        before = record
    return RunFinished(job.key, config, before)


def _checked(job: Job, outcome: Outcome, environment: RunEnvironment) -> RunRecord:
    """The record that came back. Raises ValueError where it is not that of the job, or damaged."""
    record = RunRecord.from_content(json.loads(outcome.record))
    if record.key != job.key:
        raise ValueError(f"it is the record of another run, {record.key}")
    if outcome.logits is not None:
        logits.check_file(record, outcome.logits)
    if outcome.weights is not None and hashlib.sha256(outcome.weights[32:]).digest() != outcome.weights[:32]:
        raise ValueError("the weights do not match their checksum")
    before = find_record(environment.results, environment.record_path(RunConfig(**job.config)))
    differs = before is not None and before.status == "done" and before.result_digest != record.result_digest
    if differs and record.status in ("done", "diverged") and not environment.overwrite:
        raise ValueError("the run is recorded already, and came out differently: give another --results folder")
    return record


@functools.cache
def versions() -> dict[str, str]:
    """What decides numbers in this process, by name: versions of libraries and of this code."""
    found: dict[str, Any] = provenance("cpu", 1)
    code = hashlib.sha256()
    for package in ("benchmarks", "datasets", "models", "ogm"):
        for path in sorted((ROOT / package).rglob("*.py")):
            code.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    libraries = {name: str(found[name]) for name in ("python", "torch", *COMPUTING)}
    return {
        **libraries,
        "OGM-Bench": ogm.__version__,
        "commit": str(found["commit"])[:12],
        "code": code.hexdigest()[:12],
    }


def differences(there: Mapping[str, str]) -> list[str]:
    """In what the ``versions`` of a worker differ from those of this process: 'torch 2.10.0 there, 2.11.0 here'."""
    here = versions()
    return [f"{name} {there.get(name)} there, {x} here" for name, x in here.items() if there.get(name) != x]
