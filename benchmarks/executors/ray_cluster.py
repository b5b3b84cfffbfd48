"""Runs carried out by a Ray cluster: one that exists, or one that is started on this machine."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import shutil
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from benchmarks.config.run_config import ConfigError, RunConfig
from benchmarks.executors.ray_worker import ANSWER, Worker
from benchmarks.executors.remote import Outcome, Task, UnpreparedError, differences, store, task_of
from benchmarks.records.record import write_whole
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.events import Event, Warned
from benchmarks.runner.failures import LostWorkers, end_with_failure, failed_record
from benchmarks.runner.plan import Job
from benchmarks.runner.provenance import ROOT

SILENCE = 300.0  # seconds without an answer after which a worker is given up
START = 600.0  # seconds without a single worker after which no more are waited for: a cluster may have to grow first
FAILED_STARTS = 10  # in a row, after which no more workers are started
STARTS = 3  # how often a cluster is tried to be started on this machine
OBJECT_STORE = 200 * 2**20  # bytes; more is written to disk
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


class RayExecutor:
    """Carries out jobs in the processes of a Ray cluster, each of which makes many runs.

    A worker that dies, alone or with its machine, costs its run one more try.

    Args:
        environment: Where and how runs are carried out. Its folders need not be shared with the cluster.
        slots: How many runs are made at a time; None for as many as the cluster has room for.
        needs: What one run needs, by Ray's names: ``CPU``, ``GPU`` (may be a fraction), ``memory`` in bytes.
        address: Of a cluster: ``auto``, ``ray://host:port``, ``host:port``; None starts one on this machine.
        allow_mixed: Use workers whose versions differ from those of this process; each record has its own.

    Raises:
        ConfigError: The cluster cannot be reached, or has no room for a run.
    """

    def __init__(
        self,
        environment: RunEnvironment,
        slots: int | None,
        *,
        needs: Mapping[str, float],
        address: str | None = None,
        allow_mixed: bool = False,
    ) -> None:
        self._environment, self._needs, self._allow_mixed = environment, needs, allow_mixed
        self._queue: deque[Job] = deque()
        self._workers: list[_Worker] = []
        self._lost = LostWorkers(self._queue, environment)
        self._failed_starts, self._why_none = 0, ""
        self._folder = _connect(address, slots, needs)
        self.slots = slots or _room(needs)
        if not self.slots:
            self.close()
            raise _refusal(f"no machine of the cluster has room for a run, which needs {dict(needs)}")

    def submit(self, job: Job) -> None:
        """Queue a job. It is started while ``events`` is read."""
        self._queue.append(job)

    def events(self) -> Iterator[Event]:
        """The events of all submitted jobs, until every one of them has ended.

        Raises:
            ConfigError: A worker has other versions.
            OSError: A record cannot be written, or the cluster is gone.
        """
        try:
            while self._queue or any(worker.job for worker in self._workers):
                yield from self._assign()
                waiting = {worker.pending: worker for worker in self._workers if worker.pending is not None}
                for pending in _answered(list(waiting)):
                    yield from self._receive(waiting[pending])
                alone = not any(worker.ready for worker in self._workers)
                for worker in [w for w in self._workers if w.overdue(alone=alone)]:
                    yield from self._lose(worker, "it did not answer any more")
        except (RayError, ConnectionError) as error:
            why = f"the Ray cluster is gone ({_first_line(error)}); the same command goes on where this one was"
            raise OSError(why) from error

    def close(self) -> None:
        """Store what has ended, stop what still runs, and leave the cluster; one that was started here is stopped."""
        if not ray.is_initialized():
            return
        with contextlib.suppress(RayError, OSError):  # whatever is wrong with the cluster or a disk was told before
            for worker in [w for w in self._workers if w.job is not None]:
                for _ in self._receive(worker) if ray.wait([worker.pending], timeout=0)[0] else ():
                    pass
            closing = [worker.handle.close.remote() for worker in self._workers if worker.ready]
            if closing:
                ray.wait(closing, num_returns=len(closing), timeout=2 * ANSWER)
            for worker in self._workers:
                ray.kill(worker.handle)
        self._workers.clear()
        ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _assign(self) -> Iterator[Event]:
        """Give the queued jobs to idle workers, and start workers as far as there are slots."""
        idle = [worker for worker in self._workers if worker.ready and worker.job is None]
        while idle and self._queue:
            job, worker = self._queue.popleft(), idle.pop()
            try:
                task = task_of(job, self._environment, shares_results=worker.shares[0], shares_work=worker.shares[1])
            except ValueError as error:  # a file that it builds on is damaged
                yield self._failed(job, str(error))
                continue
            worker.start(job, task)
        starting = sum(not worker.ready for worker in self._workers)
        while self._queue and len(self._workers) < self.slots and starting < len(self._queue):
            self._workers.append(_Worker(self._needs))
            starting += 1
        while self._queue and not self._workers:
            yield self._failed(self._queue.popleft(), f"there is no worker left: {self._why_none}")

    def _receive(self, worker: _Worker) -> Iterator[Event]:
        """What a worker has answered."""
        try:
            answer = ray.get(worker.pending, timeout=SILENCE)
            if not worker.ready:
                worker.meet(answer, self._environment)
        except RayTaskError as error:
            why = str(error).strip().splitlines()[-1]
            raise _refusal(f"a worker cannot be used ({why}): start Ray where Python finds OGM-Bench") from None
        except (RayError, GetTimeoutError) as error:
            yield from self._lose(worker, _how(error))
            return
        job = worker.job
        if job is None:
            self._failed_starts = 0
            self._compare(worker, answer[0])
            return
        end = answer[-1] if answer and not isinstance(answer[-1], Event) else None
        finished = store(job, end, self._environment) if isinstance(end, Outcome) else None
        if finished is not None:  # its record is written before anything of it is told: nobody can interrupt between
            worker.rest()
        elif end is None:
            worker.listen()
        yield from (message for message in answer if isinstance(message, Event))
        if finished is not None:
            yield finished
        elif isinstance(end, UnpreparedError):
            self._dismiss(worker, str(end))
            self._queue.appendleft(job)
            self.slots -= 1
            yield Warned(job.key, f"a worker is not used: {end}")
        elif end is not None:
            yield from self._lose(worker, str(end))

    def _compare(self, worker: _Worker, there: Mapping[str, str]) -> None:
        """Refuse a worker with other versions. Raises ConfigError."""
        differing = differences(there)
        if differing and not self._allow_mixed:
            names = ", ".join(differing)
            raise _refusal(f"{worker.host} differs ({names}): make both alike, or give --allow-mixed")

    def _lose(self, worker: _Worker, how: str) -> Iterator[Event]:
        """A worker is gone: its run is tried once more, or has failed."""
        job = worker.job
        self._dismiss(worker, how)
        if job is None:
            self._failed_starts += 1
            if self._failed_starts >= FAILED_STARTS or how.startswith("it did not answer"):
                self.slots = len(self._workers)
            return
        yield self._lost.lose(job, f"process {worker.process} on {worker.host}: {how}")

    def _dismiss(self, worker: _Worker, why: str) -> None:
        self._why_none = why
        self._workers.remove(worker)
        ray.kill(worker.handle)

    def _failed(self, job: Job, why: str) -> Event:
        config = RunConfig(**job.config)
        return end_with_failure(failed_record(config, "failed", why), config, self._environment)


class _Worker:
    """A worker, seen from the driver. ``pending`` is the answer that is waited for, ``job`` what it works on."""

    def __init__(self, needs: Mapping[str, float]) -> None:
        options = {"num_cpus": needs["CPU"], "num_gpus": needs.get("GPU", 0), "memory": needs.get("memory")}
        self.handle: Any = ray.remote(Worker).options(**options, max_restarts=0).remote()
        self.job: Job | None = None
        self.ready, self.host, self.process, self.shares = False, "", 0, [False, False]
        self.pending: Any = self.handle.describe.remote()
        self._since = time.monotonic()

    def meet(self, description: tuple[dict[str, str], str, int], environment: RunEnvironment) -> None:
        """Note who it is, and whether it shares the folders of records and of checkpoints."""
        _, self.host, self.process = description
        self.shares = self._sees(environment.results, environment.work)
        self.ready = True
        self.rest()

    def _sees(self, *folders: Path) -> list[bool]:
        """Which of these folders it shares with this process: where it sees what has just been written."""
        files = [folder.absolute() / f".shared-{uuid.uuid4().hex}" for folder in folders]
        try:
            for file in files:
                write_whole(file, "")
            seen: list[bool] = ray.get(self.handle.sees.remote(*files), timeout=SILENCE)
        finally:
            for file in files:
                file.unlink(missing_ok=True)
        return seen

    def start(self, job: Job, task: Task) -> None:
        """Hand over a job."""
        self.job, self.pending, self._since = job, self.handle.start.remote(task), time.monotonic()

    def listen(self) -> None:
        """Ask for the next answer."""
        self.pending, self._since = self.handle.answer.remote(), time.monotonic()

    def rest(self) -> None:
        """Nothing is to be done."""
        self.job = self.pending = None

    def overdue(self, *, alone: bool) -> bool:
        """Whether it should have answered by now. One that is starting has time as long as others work."""
        silent = time.monotonic() - self._since
        return self.pending is not None and (silent > SILENCE if self.ready else alone and silent > START)


def _connect(address: str | None, slots: int | None, needs: Mapping[str, float]) -> Path | None:
    """Connect to a cluster, or start one; the folder of one that is started. Raises ConfigError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is not None:
        try:
            ray.init(address, **QUIET)
        except Exception as error:  # of many classes, with a text for people
            raise _refusal(f"--address {address}: {_first_line(error)}") from None
        return None
    logging.getLogger("ray").setLevel(logging.ERROR)  # it would say that it uses a token, as it should
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    cpus = max(os.cpu_count() or 1, math.ceil((slots or 1) * needs["CPU"]))
    for attempt in range(STARTS):  # Ray waits for 30 s, which a busy machine can exceed
        folder = Path(tempfile.mkdtemp(prefix="ogm-ray-"))  # short: Ray's sockets lie in it
        try:
            ray.init(
                "local",
                num_cpus=cpus,
                object_store_memory=OBJECT_STORE,
                include_dashboard=False,
                _temp_dir=str(folder),
                **QUIET,
            )
        except Exception as error:
            ray.shutdown()
            shutil.rmtree(folder, ignore_errors=True)
            if attempt == STARTS - 1:
                raise _refusal(f"no cluster could be started: {_first_line(error)}") from None
        else:
            break
    return folder


def _answered(pending: list[Any]) -> list[Any]:
    """The first answer within a second, and all that have come with it: of 1,000, a look for each would cost much."""
    if not pending:
        return []
    ready, others = ray.wait(pending, timeout=1)
    if ready and others:
        ready += ray.wait(others, num_returns=len(others), timeout=0)[0]
    return list(ready)


def _room(needs: Mapping[str, float]) -> int:
    """How many runs the cluster has room for."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(min(int(m.get(name, 0) / x + 1e-6) for name, x in needs.items() if x) for m in machines)


def _how(error: Exception) -> str:
    """In a few words why a worker is gone."""
    found = re.search(r"because (its [\w ]+ has died)", str(error))
    return f"{found[1]} (killed; out of memory?)" if found else _first_line(error)


def _refusal(why: str) -> ConfigError:
    return ConfigError([f"--executor ray: {why}"])


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
