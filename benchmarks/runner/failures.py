"""What becomes of a run that goes wrong: a record that says why, so that no run of a grid is silently missing."""

from __future__ import annotations

import signal
import tempfile
import traceback
from collections import deque
from pathlib import Path
from typing import Literal

from benchmarks.config.run_config import ConfigError, RunConfig
from benchmarks.records.record import RunRecord, Unwritable, write_whole
from benchmarks.records.store import find_record
from benchmarks.runner.checkpoint import CorruptFileError
from benchmarks.runner.distributed import is_first_rank
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.events import Event, EventHandler, RunFinished, Warned
from benchmarks.runner.experiment import Experiment, IncompatibleError, resolve
from benchmarks.runner.plan import Job
from benchmarks.runner.run import run_experiment
from datasets.core.errors import DataError


def run_or_record_fault(
    experiment: Experiment, environment: RunEnvironment, *, export: bool = False, on_event: EventHandler
) -> RunRecord:
    """``run_experiment``, but a fault of ours or of a method's becomes a failed record, and a file with the traceback.

    What the user can mend remains an error.

    Args:
        experiment: What is run.
        environment: Where and how.
        export: Leave the trained weights behind.
        on_event: Receives the events; of this run exactly one ``RunFinished``, if nothing is raised.

    Returns:
        The record of what came of it.

    Raises:
        ConfigError: As ``run_experiment`` does; likewise DataError, CorruptFileError, FloatingPointError and OSError.
    """
    config = experiment.config

    def without_end(event: Event) -> None:
        if not (isinstance(event, RunFinished) and event.key == config.key):
            on_event(event)

    try:
        record = run_experiment(experiment, environment, export=export, on_event=without_end)
    except (ConfigError, DataError, CorruptFileError, FloatingPointError, Unwritable):
        raise
    except Exception as error:
        path = environment.work / config.key / "error.txt"
        try:
            write_whole(path, traceback.format_exc())
            hint = f" (see {path})"
        except Unwritable:
            hint = ""
        record = failed_record(config, "failed", f"{type(error).__name__}: {error}{hint}")
        save_failure(record, config, environment)
    on_event(RunFinished(config.key, config, record))
    return record


def run_or_record_failure(
    config: RunConfig, environment: RunEnvironment, *, export: bool = False, on_event: EventHandler
) -> RunRecord:
    """``run``, but every error becomes a record: ``skipped`` for parts that do not fit together, else ``failed``.

    Args:
        config: What is run.
        environment: Where and how.
        export: Leave the trained weights behind.
        on_event: Receives the events; of this run exactly one ``RunFinished``.

    Returns:
        The record of what came of it.

    Raises:
        OSError: The record cannot be written.
    """
    try:
        return run_or_record_fault(resolve(config), environment, export=export, on_event=on_event)
    except IncompatibleError as error:
        record = failed_record(config, "skipped", str(error))
    except Unwritable as error:
        if error.filename == str(environment.record_path(config)):
            raise _of_run(config, error) from None
        record = failed_record(config, "failed", f"{error.filename}: {error.strerror}")
    except (ConfigError, DataError, CorruptFileError, FloatingPointError) as error:
        record = failed_record(config, "failed", str(error))
    on_event(end_with_failure(record, config, environment))
    return record


def failed_record(config: RunConfig, status: Literal["failed", "skipped"], reason: str) -> RunRecord:
    """The record of a run that was not made, with the reason in one line."""
    return RunRecord(
        key=config.key,
        config=config.model_dump(mode="json"),  # type: ignore[arg-type]
        status=status,
        reason=" ".join(reason.split()),
    )


def blocked_record(config: RunConfig, prerequisite: RunRecord) -> RunRecord:
    """The record of a run that builds on one that was not done; that one is not tried again for each of them."""
    status: Literal["failed", "skipped"] = "skipped" if prerequisite.status == "skipped" else "failed"
    title = RunConfig.model_validate(prerequisite.config).title
    return failed_record(config, status, f"builds on {title}, which {prerequisite.status}: {prerequisite.reason}")


def how_it_ended(code: int) -> str:
    """The exit code of a process in words: 'exit code 3', or for signal 9 'killed by SIGKILL; out of memory?'.

    Args:
        code: As of ``subprocess`` and ``multiprocessing``: minus the number of the signal that ended it, if any.
    """
    if code >= 0:
        return f"exit code {code}"
    name = {number.value: number.name for number in signal.Signals}.get(-code, f"signal {-code}")
    return f"killed by {name}" + ("; out of memory?" if code == -signal.SIGKILL else "")


def end_with_failure(record: RunRecord, config: RunConfig, environment: RunEnvironment) -> RunFinished:
    """Save the record of a run that was not made (``save_failure``), and end its job: the event that says so."""
    save_failure(record, config, environment)
    return RunFinished(config.key, config, record)


class LostWorkers:
    """Which runs have lost the process that made them: each is tried once more, then it has failed.

    Args:
        queue: Where jobs wait for a worker.
        environment: Where the record of a failure goes.
    """

    def __init__(self, queue: deque[Job], environment: RunEnvironment) -> None:
        self._queue, self._environment = queue, environment
        self._first: dict[str, str] = {}

    def lose(self, job: Job, how: str) -> Event:
        """Note that the worker of a job is gone.

        Args:
            job: The job. It is put in front of the queue, or has failed.
            how: How the worker ended, in a few words.

        Returns:
            A warning, or the end of the job, whose record says how each worker ended.

        Raises:
            OSError: The record cannot be written.
        """
        if job.key not in self._first:
            self._first[job.key] = how
            self._queue.appendleft(job)
            return Warned(job.key, f"its worker ended too early ({how}): the run is tried once more")
        first, config = self._first.pop(job.key), RunConfig(**job.config)
        reason = f"the processes that made this run ended too early, twice ({first}; {how})"
        return end_with_failure(failed_record(config, "failed", reason), config, self._environment)


def save_failure(record: RunRecord, config: RunConfig, environment: RunEnvironment) -> None:
    """Write down why a run was not made. The record of the same run that was made earlier stays where it is.

    Raises:
        OSError: The record cannot be written; the error names the run.
    """
    if not is_first_rank():
        return
    earlier = find_record(environment.results, environment.record_path(config))
    if earlier is None or earlier.status != "done":
        try:
            record.save(environment.results)
        except Unwritable as error:
            raise _of_run(config, error) from None


def _of_run(config: RunConfig, error: Unwritable) -> Unwritable:
    """The same error, which says whose file it was."""
    return Unwritable(error.errno, error.strerror, f"{config.title}: {error.filename}")


def require_writable(folder: Path) -> None:
    """Make a folder and try it out, so that a full or read-only disk is known now, not after an hour.

    Raises:
        OSError: Nothing can be written below the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
