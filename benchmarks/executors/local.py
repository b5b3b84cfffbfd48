"""Runs carried out by processes of this machine, each making one run after the other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait

from benchmarks.config.run_config import RunConfig
from benchmarks.config.user_files import register
from benchmarks.records.record import Unwritable
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.events import Event, RunFinished
from benchmarks.runner.failures import LostWorkers, how_it_ended, run_or_record_failure
from benchmarks.runner.plan import Job

# Workers are forked from a process that has imported what a run needs and started no threads: each of them starts at
# once. (A fork of this process would inherit torch's threads, half alive.) torch imports its inductor in
# use_deterministic_algorithms, which each run calls.
FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["benchmarks.executors.local", "torch._inductor.config"])
_GONE = (EOFError, BrokenPipeError, ConnectionResetError)  # the process at the other end of a connection has ended


class LocalExecutor:
    """Carries out jobs in processes of this machine, which are started when there is something for them to do.

    A process that dies costs its run one more try, from its last epoch.

    Args:
        environment: Where and how runs are carried out.
        slots: How many runs are made at a time.
    """

    def __init__(self, environment: RunEnvironment, slots: int) -> None:
        self.slots = slots
        self._environment = environment
        self._queue: deque[Job] = deque()
        self._workers: list[_Worker] = []
        self._lost = LostWorkers(self._queue, environment)

    def submit(self, job: Job) -> None:
        """Queue a job. It is started while ``events`` is read."""
        self._queue.append(job)

    def events(self) -> Iterator[Event]:
        """The events of all submitted jobs, until every one of them has ended.

        Raises:
            OSError: A record cannot be written.
        """
        while True:
            self._assign()
            busy = {worker.connection: worker for worker in self._workers if worker.job is not None}
            if not busy:
                return
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                yield self._receive(busy[connection])

    def close(self) -> None:
        """Kill the processes. Runs that were not finished have their checkpoints."""
        for worker in self._workers:
            worker.stop()
        self._workers.clear()

    def _assign(self) -> None:
        """Give the queued jobs to idle processes, as far as there are slots."""
        while self._queue:
            worker = next((w for w in self._workers if w.job is None), None)
            if worker is None:
                if len(self._workers) >= self.slots:
                    return
                worker = _Worker(self._environment)
                self._workers.append(worker)
            if worker.start(self._queue[0]):
                self._queue.popleft()
            else:  # it was killed while it had nothing to do
                self._remove(worker)

    def _receive(self, worker: _Worker) -> Event:
        """The next event from a process; if it has died, what becomes of its run."""
        job = worker.job
        assert job is not None
        try:
            message = worker.connection.recv()
        except _GONE:
            self._remove(worker)
            return self._lost.lose(job, worker.cause_of_death())
        if isinstance(message, Exception):
            raise message
        event: Event = message
        if isinstance(event, RunFinished) and event.key == job.key:
            worker.job = None
        return event

    def _remove(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.stop()


class _Worker:
    """A process that makes runs, seen from the process that started it.

    ``job`` is what it works on, None while it has nothing to do.
    """

    def __init__(self, environment: RunEnvironment) -> None:
        self.job: Job | None = None
        self.connection, theirs = FORKSERVER.Pipe()
        self.process = FORKSERVER.Process(target=_work, args=(environment, theirs, dict(os.environ)), daemon=True)
        self.process.start()
        theirs.close()

    def start(self, job: Job) -> bool:
        """Hand over a job; False if the process has died."""
        try:
            self.connection.send(job)
        except _GONE:
            return False
        self.job = job
        return True

    def cause_of_death(self) -> str:
        """How the process ended, in a few words."""
        self.process.join()
        return how_it_ended(self.process.exitcode or 0)

    def stop(self) -> None:
        self.connection.close()
        self.process.kill()  # it ignores the gentler signals; whatever it was writing is there whole, or not at all
        self.process.join()


def _work(environment: RunEnvironment, connection: Connection, variables: dict[str, str]) -> None:
    """The main function of a worker process: jobs in, events out. It ends when the other end of the connection does."""
    os.environ.update(variables)  # as they are now: the fork server may be older
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # they are for the one who started us
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    register(environment.files)

    def send(message: Event | Exception) -> None:
        try:
            connection.send(message)
        except _GONE:
            os._exit(1)  # whoever started us is gone: the checkpoint is safe

    while True:
        try:
            job: Job = connection.recv()
        except _GONE:
            return
        try:
            run_or_record_failure(RunConfig(**job.config), environment, export=job.export, on_event=send)
        except Unwritable as error:
            send(error)


def _end_with_parent() -> None:
    """Nobody is waiting for a worker whose parent was killed, not even while it waits for a lock itself."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
