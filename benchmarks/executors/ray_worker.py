"""What Ray starts on its machines: a process that keeps torch imported and makes one run after the other."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.executors.remote import Outcome, Task, UnpreparedError, carry_out, versions
from benchmarks.runner.events import Event, StepDone

ANSWER = 2.0  # seconds after which a worker answers although nothing has happened
GATHER = 0.2  # seconds in which it gathers what happens into one answer


class Worker:
    """Makes runs in a thread, so that it can answer meanwhile. Made and called through Ray, one call at a time."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ogm-bench-"))
        self._messages: queue.SimpleQueue[Event | Outcome | Exception] = queue.SimpleQueue()

    def describe(self) -> tuple[dict[str, str], str, int]:
        """Its versions, the name of its machine, and the number of its process."""
        return versions(), socket.gethostname(), os.getpid()

    def sees(self, *files: Path) -> list[bool]:
        """Which of these files are there."""
        return [file.exists() for file in files]

    def start(self, task: Task) -> list[Event | Outcome | Exception]:
        """Begin with a job. Returns the first answer."""
        threading.Thread(target=self._work, args=(task,), daemon=True).start()
        return self.answer()

    def answer(self) -> list[Event | Outcome | Exception]:
        """What has happened since the last answer; the last of it, if the job has ended, is how."""
        messages: list[Event | Outcome | Exception] = []
        until = time.monotonic() + ANSWER
        with contextlib.suppress(queue.Empty):
            while not (messages and not isinstance(messages[-1], Event)):
                message = self._messages.get(timeout=max(until - time.monotonic(), 0))
                if not messages:
                    until = time.monotonic() + GATHER
                if messages and isinstance(messages[-1], StepDone) and isinstance(message, StepDone):
                    messages.pop()  # the newest says all
                messages.append(message)
        return messages

    def close(self) -> None:
        """Remove what it has written."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _work(self, task: Task) -> None:
        try:
            self._messages.put(carry_out(task, self._folder, self._messages.put))
        except UnpreparedError as error:
            self._messages.put(error)
        except Exception as error:  # a full disk, a fault of ours: the run is tried elsewhere; any error can travel so
            self._messages.put(RuntimeError(f"{type(error).__name__}: {error}"))
