"""Runs carried out by Slurm: a job array of workers on a cluster's nodes, each making one run after the other.

Slurm decides when and where a worker starts, and ends it; submitit writes its script, and has a worker started again
that Slurm ends at its time limit. Driver and workers talk through files in a folder of their own below ``--work``.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.config.run_config import ConfigError
from benchmarks.executors.remote import Outcome, Task, differences, store, task_of
from benchmarks.executors.slurm_queue import Answer, SlurmQueue
from benchmarks.executors.slurm_worker import PAUSE, SIGN, SIGN_EVERY, Messages, Worker
from benchmarks.records.record import Unwritable
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.events import EpochEnded, Event, Warned, from_json
from benchmarks.runner.failures import LostWorkers
from benchmarks.runner.plan import Job

SUBMISSIONS = 2  # how many in a row may bring no worker that can make a run
LOST = "node failure, or requeued by Slurm"
AT_A_LOOK = 100  # workers whose files are read after a pause; for more the pause is longer, so that it stays cheap
IDLE = 60.0  # seconds after which a worker that has nothing to do frees its place


@dataclass
class _Connection:
    """A worker, seen from the driver.

    Args:
        name: Slurm's number of its job, a point, and how often Slurm had started that job again.
        jobs: To the worker.
        events: From the worker.
        ready: Whether it has sent its versions.
        job: What it is making, None while it has nothing to do.
        given: How many jobs it has been given.
        advanced: Whether it has finished an epoch of the present one.
        since: When it began to have nothing to do.
    """

    name: str
    jobs: Messages
    events: Messages
    ready: bool = False
    job: Job | None = None
    given: int = 0
    advanced: bool = False
    since: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def number(self) -> str:
        """Slurm's number of its job."""
        return self.name.partition(".")[0]


class SlurmExecutor:
    """Carries out jobs in processes that Slurm starts.

    The folders of results and of checkpoints must be on a disk that all nodes share, at the same path.

    Args:
        environment: Where and how runs are carried out.
        slots: How many runs are made at a time.
        parameters: What each worker gets, in submitit's words: ``time`` in minutes, after which a run goes on from its
            last epoch; ``cpus_per_task``, ``partition``, ...
        allow_mixed: Use workers whose versions are not those of this process.
    """

    def __init__(
        self,
        environment: RunEnvironment,
        slots: int,
        parameters: Mapping[str, Any],
        allow_mixed: bool = False,
    ) -> None:
        self.slots = slots
        self._environment, self._allow_mixed = environment, allow_mixed
        name = f"ogm-bench-{uuid.uuid4().hex[:8]}"
        self._folder = environment.work.absolute() / "slurm" / name
        self._slurm = SlurmQueue(name, self._folder, parameters)
        self._queue: deque[Job] = deque()
        self._lost = LostWorkers(self._queue, environment)
        self._numbers: set[str] = set()  # Slurm's, of the jobs that have not ended
        self._workers: dict[str, _Connection] = {}  # those that can make runs, by name
        self._known: set[str] = set()  # the names of all workers that ever reported
        self._fruitless = 0  # how many times workers were submitted since anything was heard of a run
        self._reasons: set[str] = set()  # for which Slurm lets workers wait, as far as they were told
        self._trouble = ""  # why a worker ended that was still needed
        self._touched = 0.0

    def submit(self, job: Job) -> None:
        """Queue a job. It is started while ``events`` is read."""
        self._queue.append(job)

    def events(self) -> Iterator[Event]:
        """The events of all submitted jobs, until every one of them has ended.

        Raises:
            OSError: A record cannot be written, or Slurm does not answer any more.
            ConfigError: Slurm refuses the workers, or none of them can make runs.
        """
        while self._queue or any(worker.job for worker in self._workers.values()):
            heard = self._welcome()
            for worker in list(self._workers.values()):
                heard += self._hear(worker)
            if (answer := self._slurm.answer(self._numbers, self._workers)) is not None:
                heard += self._compare(answer)
            self._assign()
            self._submit_workers()
            yield from heard
            time.sleep(PAUSE * max(1.0, len(self._workers) / AT_A_LOOK))

    def close(self) -> None:
        """End the workers. Runs that were not finished have their checkpoints."""
        self._queue.clear()
        self._workers.clear()
        (self._folder / SIGN).unlink(missing_ok=True)  # ends what runs, whatever Slurm does
        if self._folder.exists():  # even if ctrl-C came while they were submitted
            self._slurm.cancel()
        if not self._trouble:  # else it has the logs
            shutil.rmtree(self._folder, ignore_errors=True)

    def _welcome(self) -> list[Event]:
        """Take up workers that Slurm has started since the last look. One may replace an earlier one of its number."""
        heard: list[Event] = []
        if self._numbers and time.monotonic() - self._touched > SIGN_EVERY:
            (self._folder / SIGN).touch()  # by which workers see that somebody waits for them
            self._touched = time.monotonic()
        for path in sorted(self._folder.glob("*.events")):
            if path.stem in self._known:
                continue
            worker = _Connection(path.stem, Messages(path.with_suffix(".jobs")), Messages(path))
            for earlier in [w for w in self._workers.values() if w.number == worker.number]:
                heard += self._ended(earlier, LOST)
            self._known.add(worker.name)
            self._numbers.add(worker.number)
            self._workers[worker.name] = worker
        return heard

    def _hear(self, worker: _Connection) -> list[Event]:
        """What a worker has sent since the last look."""
        heard: list[Event] = []
        for message in worker.events.receive():
            if worker.name not in self._workers:
                break  # it has left: what it had still on its way is somebody else's to make
            if "event" in message:
                event, self._fruitless = from_json(message), 0
                worker.advanced |= isinstance(event, EpochEnded) and event.key == getattr(worker.job, "key", None)
                heard.append(event)
            elif "outcome" in message:
                assert worker.job is not None
                heard.append(store(worker.job, Outcome(**message["outcome"]), self._environment))
                worker.job, worker.since, self._fruitless = None, time.monotonic(), 0
            elif "versions" in message:
                worker.ready = True
                if found := differences(message["versions"]):
                    heard += self._refuse(worker, f"other versions: {', '.join(found)}", allowed=self._allow_mixed)
            elif "refused" in message:
                heard += self._refuse(worker, message["refused"])
            elif "leaving" in message:  # a run may be unlucky, but not the first of a worker
                heard += self._lose(worker, message["leaving"], charged=worker.given == 1 and not worker.advanced)
            else:
                raise Unwritable(*message["unwritable"])
        return heard

    def _refuse(self, worker: _Connection, reason: str, *, allowed: bool = False) -> list[Event]:
        """Warn of a worker that cannot make runs as this process would and, unless that is allowed, send it away."""
        jobs = [worker.job, *self._queue] if worker.job else [*self._queue]
        heard: list[Event] = [Warned(job.key, f"worker {worker.name}: {reason}") for job in jobs[:1]]
        if not allowed:
            self._trouble = reason
            worker.jobs.send(None)
            heard += self._lose(worker, reason, charged=False)
        return heard

    def _ended(self, worker: _Connection, how: str) -> list[Event]:
        """The last events of a worker that Slurm has ended: what it sent before that counts."""
        heard = self._hear(worker)
        return heard + self._lose(worker, how) if worker.name in self._workers else heard

    def _lose(self, worker: _Connection, how: str, *, charged: bool = True) -> list[Event]:
        """A worker makes no more runs: its present one is tried again, or has failed.

        Args:
            worker: The worker.
            how: How it ended.
            charged: Whether this counts against its run, which may lose one worker.
        """
        del self._workers[worker.name]
        if worker.job is None:
            return []
        if charged:
            self._trouble = how
            return [self._lost.lose(worker.job, f"worker {worker.name}: {how}")]
        self._queue.appendleft(worker.job)
        return [Warned(worker.job.key, f"worker {worker.name} ended ({how}); its run goes on in another one")]

    def _compare(self, answer: Answer) -> list[Event]:
        """What follows from Slurm's answer for those jobs and workers that were known when it was asked."""
        heard: list[Event] = []
        for number in answer.numbers:
            fate, why = answer.fate(number)
            if fate == "alive":
                continue
            for worker in [w for name, w in self._workers.items() if name in answer.names and w.number == number]:
                heard += self._ended(worker, why if fate == "ended" else LOST)
            if fate == "ended":
                self._numbers.discard(number)
                if not any(name.startswith(f"{number}.") for name in self._known):
                    self._trouble = why
            elif self._queue and why not in {
                "None",
                *self._reasons,
            }:  # what never fits waits, too: somebody should know
                self._reasons.add(why)
                heard.append(Warned(self._queue[0].key, f"Slurm has not started worker {number} yet: {why}"))
        return heard

    def _assign(self) -> None:
        """Give the queued jobs to workers that have nothing to do, and free those that are not needed."""
        for worker in [w for w in self._workers.values() if w.ready and w.job is None]:
            if self._queue:
                worker.job = job = self._queue.popleft()
                worker.given, worker.advanced = worker.given + 1, False
                worker.jobs.send([dataclasses.asdict(job), self._task(job).fingerprint])
            elif time.monotonic() - worker.since > IDLE:
                worker.jobs.send(None)
                del self._workers[worker.name]

    def _task(self, job: Job) -> Task:
        return task_of(job, self._environment, shares_results=True, shares_work=True)

    def _submit_workers(self) -> None:
        """Have Slurm start workers if there is more to do than they can, and none is still to be started."""
        busy = sum(worker.job is not None for worker in self._workers.values())
        missing = min(self.slots, len(self._queue) + busy) - len(self._workers)
        if missing <= 0 or self._numbers - {w.number for w in self._workers.values()} or not self._slurm.reachable:
            return
        if self._fruitless == SUBMISSIONS:
            raise ConfigError([f"--executor slurm: no worker could make a run ({self._trouble}); logs: {self._folder}"])
        self._fruitless += 1
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)  # workers execute what is in it
        (self._folder / SIGN).touch()
        worker = Worker(self._folder, self._task(self._queue[0]))
        self._numbers |= self._slurm.start(worker, missing)
