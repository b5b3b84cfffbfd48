"""Runs carried out by Slurm: a job array of workers on a cluster's nodes, each making one run after the other.

Slurm decides when and where a worker starts, and ends it; submitit writes the scripts and has a worker started again
that Slurm ends at its time limit. Driver and workers talk through files in a folder of their own below ``--work``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import io
import shutil
import subprocess
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks.config.run_config import ConfigError, RunConfig
from benchmarks.executors.remote import LostWorkers, Outcome, Task, differences, store, task_of
from benchmarks.executors.slurm_worker import PAUSE, SIGN, SIGN_EVERY, Messages, Worker
from benchmarks.records.record import Unwritable
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.events import EpochEnded, Event, RunFinished, Warned, from_json
from benchmarks.runner.failures import save_failure
from benchmarks.runner.plan import Job

ASK_EVERY, ANSWER_WITHIN = 5.0, 60.0  # seconds between two questions to Slurm, and for one answer
OUTAGE = 1800.0  # seconds without any answer of Slurm, after which it is given up
IDLE = 60.0  # seconds after which a worker that has nothing to do frees its place
SUBMISSIONS = 2  # how many in a row may bring no worker that makes a run
QUEUED_AT_MOST = "now+14days"  # after which Slurm drops a worker that it could not start
WARNING = 90  # seconds before the time limit at which Slurm warns a worker
WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
ALIVE = {"CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
SAID = {
    "OUT_OF_MEMORY": "out of memory: give more by --memory-per-run",
    "TIMEOUT": "time limit",
    "NODE_FAIL": "node failure",
    "CANCELLED": "cancelled by scancel",
    "PREEMPTED": "preempted",
}


@dataclass
class _Connection:
    """A worker, seen from the driver.

    Args:
        name: Slurm's number of its job, a point, and how often Slurm had started that again.
        jobs: To the worker.
        events: From the worker.
        ready: Whether it has sent its versions.
        job: What it is making, None while it has nothing to do.
        given: How many jobs it has been given.
        advanced: Whether it has finished an epoch of the present one.
        since: When it was given that, or finished the last one.
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
        parameters: What each worker gets, as submitit names it (``cpus_per_task``, ``mem_gb``, ``partition``, ...).
        minutes: The time limit of a worker. A run that needs longer goes on in the next one.
        allow_mixed: Use workers whose versions are not those of this process.

    Raises:
        ConfigError: submitit or Slurm is not here.
    """

    def __init__(
        self,
        environment: RunEnvironment,
        slots: int,
        parameters: Mapping[str, Any] = {},
        minutes: int = 60,
        allow_mixed: bool = False,
    ) -> None:
        self._submitit = _submitit()
        self.slots = slots
        self._environment, self._allow_mixed = environment, allow_mixed
        self._name = f"ogm-bench-{uuid.uuid4().hex[:8]}"
        self._folder = environment.work.absolute() / "slurm" / self._name
        self._parameters = {
            "job_name": self._name,
            "time": minutes,
            "signal_delay_s": min(WARNING, 20 * minutes),
            "array_parallelism": slots,
            "additional_parameters": {"deadline": QUEUED_AT_MOST},
            **parameters,
        }
        self._queue: deque[Job] = deque()
        self._lost = LostWorkers()
        self._submitted: set[str] = set()  # Slurm's numbers of the jobs that have not ended
        self._workers: dict[str, _Connection] = {}  # those that can make runs, by name
        self._known: set[str] = set()  # the names of all workers that ever reported
        self._fruitless = 0  # how many times workers were submitted since a run was made
        self._trouble = ""  # why the last worker ended that did not make its runs
        self._pool = ThreadPoolExecutor(1)
        self._question: tuple[Future[dict[str, tuple[str, str]]], set[str], set[str]] | None = None
        self._reachable = True
        self._asked = self._touched = 0.0
        self._answered = time.monotonic()

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
            self._show_life()
            heard = self._welcome()
            for worker in list(self._workers.values()):
                heard += self._hear(worker)
            heard += self._ask_slurm()
            self._assign()
            self._submit_workers()
            yield from heard
            if not heard:
                time.sleep(PAUSE)

    def close(self) -> None:
        """End the workers. Runs that were not finished have their checkpoints."""
        self._queue.clear()
        self._workers.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)
        (self._folder / SIGN).unlink(missing_ok=True)  # ends what runs, whatever Slurm does
        if self._folder.exists():  # even if ctrl-C came while they were submitted
            with contextlib.suppress(subprocess.SubprocessError):
                _call("scancel", "--quiet", *_ours(self._name))
        if not self._trouble:  # else it has the logs
            shutil.rmtree(self._folder, ignore_errors=True)

    def _show_life(self) -> None:
        """Touch the file by which workers see that they are waited for."""
        if self._known and time.monotonic() - self._touched > SIGN_EVERY:
            (self._folder / SIGN).touch()
            self._touched = time.monotonic()

    def _welcome(self) -> list[Event]:
        """Workers that Slurm has started since the last look; each replaces an earlier one with the same number."""
        heard: list[Event] = []
        for path in self._folder.glob("*.events"):
            if path.stem in self._known:
                continue
            worker = _Connection(path.stem, Messages(path.with_suffix(".jobs")), Messages(path))
            for earlier in [w for w in self._workers.values() if w.number == worker.number]:
                heard += self._ended(earlier, SAID["NODE_FAIL"])
            self._known.add(worker.name)
            self._submitted.add(worker.number)
            self._workers[worker.name] = worker
        return heard

    def _hear(self, worker: _Connection) -> list[Event]:
        """What a worker has sent since the last look."""
        heard: list[Event] = []
        for message in worker.events.receive():
            if "event" in message:
                event = from_json(message)
                worker.advanced |= isinstance(event, EpochEnded) and worker.job is not None and event.key == worker.job.key
                heard.append(event)
            elif "outcome" in message:
                assert worker.job is not None
                self._fruitless = 0
                heard.append(store(worker.job, Outcome(**message["outcome"]), self._environment))
                worker.job, worker.since = None, time.monotonic()
            elif "versions" in message:
                worker.ready = True
                if found := differences(message["versions"]):
                    heard += self._refuse(worker, "other versions: " + ", ".join(found), self._allow_mixed)
            elif "refused" in message:
                heard += self._refuse(worker, message["refused"])
            elif "leaving" in message:
                heard += self._lose(worker, message["leaving"], charged=worker.given == 1 and not worker.advanced)
            else:
                raise Unwritable(*message["unwritable"])
        return heard

    def _refuse(self, worker: _Connection, reason: str, allowed: bool = False) -> list[Event]:
        """Send a worker away that cannot make runs as this process would, unless that is allowed."""
        key = worker.job.key if worker.job else self._queue[0].key if self._queue else None
        heard: list[Event] = [] if key is None else [Warned(key, f"worker {worker.name}: {reason}")]
        if not allowed:
            self._trouble = reason
            worker.jobs.send(None)
            heard += self._lose(worker, reason, charged=False)
        return heard

    def _ended(self, worker: _Connection, how: str) -> list[Event]:
        """A worker that Slurm has ended. What it has sent before counts."""
        heard = self._hear(worker)
        return heard + self._lose(worker, how) if worker.name in self._workers else heard

    def _lose(self, worker: _Connection, how: str, charged: bool = True) -> list[Event]:
        """A worker makes no more runs: its present one is tried again, or has failed.

        Args:
            worker: The worker.
            how: How it ended.
            charged: Whether this counts against its run, which may lose one worker.
        """
        del self._workers[worker.name]
        job = worker.job
        if job is None:
            return []
        self._trouble = how
        record = self._lost.failure(job, how) if charged else None
        if record is None:
            self._queue.appendleft(job)
            return [Warned(job.key, f"worker {worker.name} ended ({how}): this run goes on in another one")]
        config = RunConfig(**job.config)
        save_failure(record, config, self._environment)
        return [RunFinished(job.key, config, record)]

    def _ask_slurm(self) -> list[Event]:
        """Ask what has become of the workers, or take the answer. Slurm may be slow; nobody waits for it here."""
        now, heard = time.monotonic(), list[Event]()
        if self._question is None:
            if self._submitted and now - self._asked > ASK_EVERY:
                self._asked = now
                self._question = self._pool.submit(_states, self._name), set(self._submitted), set(self._workers)
            return heard
        answer, submitted, workers = self._question
        if not answer.done():
            return heard
        self._question = None
        self._reachable = answer.exception() is None
        if not self._reachable:
            if now - self._answered > OUTAGE:
                raise TimeoutError(f"Slurm has not answered for {OUTAGE / 60:.0f} minutes: {_reason(answer.exception())}")
            return heard
        self._answered, states = now, answer.result()
        for number in submitted:
            state, how = states.get(number, ("", "forgotten by Slurm"))
            if state in ALIVE:
                continue
            started = [self._workers[name] for name in workers & self._workers.keys() if name.partition(".")[0] == number]
            if state in WAITING:  # Slurm starts it once more
                how = SAID["NODE_FAIL"]
            else:
                self._submitted.discard(number)
                if not started:
                    self._trouble = how
            for worker in started:
                heard += self._ended(worker, how)
        return heard

    def _assign(self) -> None:
        """Give the queued jobs to workers that have nothing to do, and free those that are not needed."""
        for worker in list(self._workers.values()):
            if worker.job is not None or not worker.ready:
                continue
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
        if missing <= 0 or self._submitted - {w.number for w in self._workers.values()} or not self._reachable:
            return
        if self._fruitless == SUBMISSIONS:
            raise ConfigError([f"--executor slurm: no worker could make a run: {self._trouble}; logs: {self._folder}"])
        self._fruitless += 1
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)  # workers execute what is in it
        (self._folder / SIGN).touch()
        executor = self._submitit.SlurmExecutor(self._folder, max_num_timeout=10**6)
        executor.update_parameters(**self._parameters)
        worker = Worker(self._folder, self._task(self._queue[0]))
        try:
            with contextlib.redirect_stderr(io.StringIO()), executor.batch():
                jobs = [executor.submit(worker) for _ in range(missing)]
        except RuntimeError as error:  # submitit's, with what sbatch has printed
            raise ConfigError([f"--executor slurm: {_reason(error)}"]) from None
        self._submitted |= {job.job_id for job in jobs}


def _submitit() -> Any:
    """submitit, which is an extra. Raises ConfigError where it or Slurm is not here."""
    try:
        import submitit
    except ImportError:
        raise ConfigError(["--executor slurm needs submitit: pip install submitit==1.5.4"]) from None
    if shutil.which("sbatch") is None:
        raise ConfigError(["--executor slurm: there is no sbatch here: give the command where Slurm jobs are submitted"])
    return submitit


def _states(name: str) -> dict[str, tuple[str, str]]:
    """What Slurm knows of its jobs of this name: number -> state, and that in words. Raises SubprocessError."""
    form = "--Format=JobArrayID:40,State:24,exit_code:12"
    found = {}
    for line in _call("squeue", "--noheader", "--array", "--states=all", *_ours(name), form).splitlines():
        number, state, code = line.split()
        found[number] = state, SAID.get(state, f"{state.lower()}, exit code {code}")
    return found


def _ours(name: str) -> list[str]:
    return [f"--user={getpass.getuser()}", f"--name={name}"]


def _call(*words: str) -> str:
    """What a command of Slurm prints. Raises SubprocessError."""
    done = subprocess.run(
        words, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=ANSWER_WITHIN
    )
    return done.stdout


def _reason(error: BaseException | None) -> str:
    """What an error has to say, in one line."""
    text = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    return " ".join(text.split())
