"""What carries out runs: processes of this machine, or a cluster's engine. All keep one contract."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from benchmarks.runner.events import Event
from benchmarks.runner.plan import Job


class Executor(Protocol):
    """Carries out jobs, several at a time.

    The contract, which one test checks for every executor: each submitted job ends in exactly one ``RunFinished``,
    whose record is on disk by then; a worker that dies costs its job alone, which is tried once more (``LostWorkers``)
    and then has a failed record that says how both workers ended; closing stops what still runs and loses no finished
    record; the bits of a run do not depend on the executor. One that only writes runs down ends each in one
    ``RunDeferred`` instead.
    """

    slots: int  # runs at a time

    def submit(self, job: Job) -> None:
        """Queue a job whose prerequisites are all done. Returns at once."""

    def events(self) -> Iterator[Event]:
        """The events of all submitted jobs as they happen, until every one of them has ended.

        A job may be submitted while the events are read; its events then follow.

        Raises:
            OSError: The results folder cannot be written to, so that no run could be recorded.
        """

    def close(self) -> None:
        """Stop what still runs and free what the executor holds."""
