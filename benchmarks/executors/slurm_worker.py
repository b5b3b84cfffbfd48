"""What Slurm starts on a node: a process that makes one run after the other, told which by files on a shared folder."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.executors.remote import Task, UnpreparedError, carry_out, versions
from benchmarks.records.record import Unwritable
from benchmarks.runner.events import Event, StepDone, as_json
from benchmarks.runner.plan import Job

PAUSE = 0.1  # seconds between two looks at a file
SIGN = "driver"  # the file that the driver touches for as long as it is there
SIGN_EVERY, SIGN_PATIENCE = 5.0, 600.0  # seconds between two touches, and after which the driver is taken for dead
STEPS_EVERY = 2.0  # seconds between two events about steps


class Messages:
    """Lines of JSON that one process appends to a file, and another one reads. Each opens it anew every time.

    A shared folder shows a file as it is when it is opened, not what is appended to one that is open.

    Args:
        path: The file. Only one process sends, and only one receives.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._position = path, 0

    def send(self, content: Any) -> None:
        """Append a message, in one piece: a signal may end this process at any moment."""
        with self._path.open("ab", buffering=0) as file:
            file.write(json.dumps(content).encode() + b"\n")

    def receive(self) -> list[Any]:
        """The messages that have not been received yet."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._position += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


@dataclass(frozen=True)
class Worker:
    """The main function of a process that Slurm starts. Slurm may start it more than once: each time is a new worker.

    The driver sends a job as ``[job, fingerprint]``, and null to end the worker. The worker sends its versions first,
    then the events of its runs, and after each run its outcome.

    Args:
        folder: Where the files with messages are, at the same path for driver and worker.
        task: What all jobs have in common.
    """

    folder: Path
    task: Task

    def __call__(self) -> None:
        """Make runs until the driver sends null, or is not there any more."""
        threading.Thread(target=self._end_with_driver, daemon=True).start()
        jobs, private = Messages(self.folder / f"{_name()}.jobs"), self.folder / _name()
        private.mkdir(exist_ok=True)
        self._send({"versions": versions()})
        while True:
            for message in jobs.receive():
                if message is None:
                    return
                job, fingerprint = message
                self._make(replace(self.task, job=Job(**job), fingerprint=fingerprint), private)
            time.sleep(PAUSE)

    def checkpoint(self) -> Any:
        """What submitit calls when Slurm warns of the time limit, before it asks Slurm to start this worker again.

        Each run has saved its last whole epoch by then, and cannot go on from anywhere else.
        """
        from submitit.helpers import DelayedSubmission

        self._send({"leaving": "time limit"})
        return DelayedSubmission(self)

    def _send(self, content: Any) -> None:
        """Send a message; end where the driver has closed its folder, as nobody waits. The checkpoint is safe."""
        try:
            Messages(self.folder / f"{_name()}.events").send(content)
        except FileNotFoundError:
            os._exit(1)

    def _make(self, task: Task, private: Path) -> None:
        said = float("-inf")

        def send(event: Event) -> None:
            nonlocal said
            if isinstance(event, StepDone):
                if time.monotonic() - said < STEPS_EVERY:
                    return
                said = time.monotonic()
            self._send(as_json(event))

        try:
            outcome = carry_out(task, private, send)
        except UnpreparedError as error:
            self._send({"refused": str(error)})
        except Unwritable as error:
            self._send({"unwritable": [error.errno, error.strerror, error.filename]})
        else:
            self._send({"outcome": asdict(outcome)})

    def _end_with_driver(self) -> None:
        """Nobody waits for a worker whose driver has closed its folder or was killed. Its checkpoint is safe."""
        seen, since = 0, time.monotonic()
        while time.monotonic() - since < SIGN_PATIENCE:
            try:
                touched = (self.folder / SIGN).stat().st_mtime_ns
            except FileNotFoundError:
                break
            except OSError:  # the shared folder does not answer just now
                touched = seen
            if touched != seen:
                seen, since = touched, time.monotonic()
            time.sleep(2 * PAUSE)
        os._exit(1)


def _name() -> str:
    """The name of this worker: Slurm's number of the job, and how often Slurm has started it again."""
    from submitit import JobEnvironment

    return f"{JobEnvironment().job_id}.{os.environ.get('SLURM_RESTART_COUNT', '0')}"
