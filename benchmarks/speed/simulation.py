"""The scheduler alone, simulated: a large grid on many workers that fail and are lost, in minutes instead of days.

The code is that of the executors of a cluster: it plans the runs, hands them out, tries those again whose worker is
lost, and checks and writes what comes back. Only the workers are simulated: each is the moment at which its run ends.
"""

from __future__ import annotations

import dataclasses
import heapq
import random
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.callbacks.progress import ProgressDisplay
from benchmarks.config.run_config import RunConfig
from benchmarks.config.suite import expand
from benchmarks.executors.remote import Outcome, store, task_of
from benchmarks.records.record import RunRecord
from benchmarks.records.store import read_records, recorded_keys
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.events import EpochEnded, Event, RunFinished, RunStarted
from benchmarks.runner.experiment import resolve_all
from benchmarks.runner.failures import LostWorkers, failed_record
from benchmarks.runner.plan import Job
from benchmarks.runner.schedule import carry_out, plan_grid
from datasets.registry import fingerprints

LIKE = Path(__file__).resolve().parents[2] / "results" / "reference" / "compare-synthav"
METHODS = ("umt", "vanilla", "ogm", "ogm_ge", "greedy", "pmr", "agm", "mmpareto")  # umt builds on two runs
PER_SEED = len(METHODS) + 2
FAILED, LOST = 0.01, 0.01  # shares of the runs that fail, and of those whose worker is lost
SECONDS = 30.0, 90.0  # that a run takes, at least and at most
AGAIN = 60.0  # seconds until a lost worker has another one in its place


@dataclass(frozen=True)
class Simulated:
    """What came of a simulated grid.

    Attributes:
        jobs: Runs of the grid.
        ended_once: How many of them had exactly one end, and have a record on disk.
        done: How many were done; the others failed, lost two workers, or build on one that did.
        lost_workers: How many workers were lost.
        planning: Seconds until the first run was handed out.
        busy: Seconds of processor time that the driver needed then.
        simulated: Seconds that the grid would have taken.
    """

    jobs: int
    ended_once: int
    done: int
    lost_workers: int
    planning: float
    busy: float
    simulated: float


def simulate(jobs: int, workers: int, folder: Path, seed: int = 0) -> Simulated:
    """Carry out a grid of about so many runs on simulated workers.

    Args:
        jobs: Runs, those that others build on included; a multiple of ``PER_SEED`` is carried out.
        workers: How many there are.
        folder: For the records, which are written as ever.
        seed: Decides how long each run takes, which of them fail, and which workers are lost.
    """
    began = time.monotonic()
    environment = RunEnvironment(folder / "results", folder / "work")
    axes = {"dataset": "synthav", "method": list(METHODS), "seed": list(range(max(jobs // PER_SEED, 1)))}
    grid = plan_grid(resolve_all(expand(axes)), environment)
    planning = time.monotonic() - began
    executor = _SimulatedExecutor(environment, workers, random.Random(seed))
    display, ends = ProgressDisplay(grid.configs, slots=workers), Counter[str]()

    def hear(event: Event) -> None:
        display.on(event)
        if isinstance(event, RunFinished):
            ends[event.key] += 1

    busy = time.process_time()
    records = carry_out(grid, environment, executor, hear)
    busy = time.process_time() - busy - executor.aside
    display.close()
    recorded = recorded_keys(environment.results)
    return Simulated(
        len(grid.configs),
        sum(ends[key] == 1 and key in recorded for key in grid.configs),
        sum(record.status == "done" for record in records),
        executor.lost_workers,
        planning,
        busy,
        executor.now,
    )


class _SimulatedExecutor:
    """Carries out jobs on workers that only pass the time.

    Attributes:
        now: Seconds since the start, by the simulated clock.
        aside: Seconds of processor time that went into what workers do, which is no part of the driver's.
        lost_workers: How many were lost.
    """

    def __init__(self, environment: RunEnvironment, slots: int, chance: random.Random) -> None:
        self.slots, self.now, self.aside, self.lost_workers = slots, 0.0, 0.0, 0
        self._environment, self._chance = environment, chance
        self._queue: deque[Job] = deque()
        self._free = [(0.0, number) for number in range(slots)]  # from when on, and which worker: a heap
        self._running: list[tuple[float, int, str, Job]] = []  # until when, which worker, its fate, the job: a heap
        self._lost = LostWorkers(self._queue, environment)
        self._like: RunRecord = next(read_records(LIKE))
        self._fingerprint = fingerprints("synthav", {})

    def submit(self, job: Job) -> None:
        self._queue.append(job)

    def events(self) -> Iterator[Event]:
        while self._queue or self._running:
            yield from self._assign()
            self.now, worker, fate, job = heapq.heappop(self._running)
            heapq.heappush(self._free, (self.now + (AGAIN if fate == "lost" else 0.0), worker))
            if fate == "lost":
                self.lost_workers += 1
                yield self._lost.lose(job, f"worker {worker} was lost")
            else:
                outcome = self._outcome(job, fate)
                yield EpochEnded(job.key, 1, {"val/accuracy": 0.5})
                yield store(job, outcome, self._environment)

    def close(self) -> None:
        pass

    def _assign(self) -> Iterator[Event]:
        """Hand the queued jobs to the workers that are free, or that will be before any of the others."""
        while self._queue and self._free and (not self._running or self._free[0][0] <= self._running[0][0]):
            since, worker = heapq.heappop(self._free)
            job = self._queue.popleft()
            task_of(job, self._environment, shares_results=False, shares_work=False)
            fate = self._chance.choices(["failed", "lost", "done"], [FAILED, LOST, 1 - FAILED - LOST])[0]
            passes = self._chance.uniform(*SECONDS) * (self._chance.random() if fate == "lost" else 1.0)
            heapq.heappush(self._running, (max(since, self.now) + passes, worker, fate, job))
            config = RunConfig(**job.config)
            yield RunStarted(job.key, config, config.epochs, 0)

    def _outcome(self, job: Job, fate: str) -> Outcome:
        """What a worker sends back: a record as long as a real one, or a failed one."""
        began = time.process_time()
        if fate == "failed":
            record = failed_record(RunConfig(**job.config), "failed", "simulated")
        else:
            made: Any = {"key": job.key, "config": job.config, "data": {"fingerprint": self._fingerprint}}
            record = dataclasses.replace(self._like, **made)
        outcome = Outcome(record.text(indent=None))
        self.aside += time.process_time() - began
        return outcome
