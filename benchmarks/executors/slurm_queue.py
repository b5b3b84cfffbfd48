"""Slurm's queue, through submitit and Slurm's own commands: start workers, ask how they are, cancel them."""

from __future__ import annotations

import contextlib
import getpass
import io
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.config.run_config import ConfigError
from benchmarks.runner.failures import how_it_ended

ASK_EVERY, ANSWER_WITHIN = 5.0, 60.0  # seconds between two questions, and for one answer
OUTAGE = 1800.0  # seconds without any answer, after which Slurm is given up
QUEUED_AT_MOST = "now+14days"  # after which Slurm drops a worker that it could not start
WARNING = 90  # seconds before the time limit at which Slurm warns a worker
WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
ALIVE = {"CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
IN_WORDS = {
    "COMPLETED": "ended by itself",
    "OUT_OF_MEMORY": "out of memory: give more by --memory-per-run",
    "TIMEOUT": "time limit",
    "NODE_FAIL": "node failure",
    "CANCELLED": "cancelled by scancel",
}


@dataclass(frozen=True)
class Answer:
    """What Slurm says of its jobs.

    Args:
        states: Slurm's number of a job (``12_0``) -> its state, and in words why it waits or how it ended.
        numbers: The jobs that the driver knew of when it asked.
        names: The workers that it knew of then.
    """

    states: Mapping[str, tuple[str, str]]
    numbers: frozenset[str]
    names: frozenset[str]

    def fate(self, number: str) -> tuple[Literal["alive", "waiting", "ended"], str]:
        """What has become of a job, and why. One that waits, and had started before, has lost its worker."""
        state, why = self.states.get(number, ("", "forgotten by Slurm"))
        return "waiting" if state in WAITING else "alive" if state in ALIVE else "ended", why


class SlurmQueue:
    """Jobs of one name in Slurm's queue.

    Args:
        name: Of the jobs, and of nobody else's.
        folder: Where submitit keeps scripts and logs.
        parameters: What each job gets, in submitit's words (``time``, ``cpus_per_task``, ``partition``, ...).
    """

    def __init__(self, name: str, folder: Path, parameters: Mapping[str, Any]) -> None:
        import submitit

        self._submitit, self._name, self._folder, self._parameters = submitit, name, folder, parameters
        self._ours = [f"--user={getpass.getuser()}", f"--name={name}"]
        self._pool = ThreadPoolExecutor(1)
        self._question: tuple[Future[dict[str, tuple[str, str]]], frozenset[str], frozenset[str]] | None = None
        self._asked, self._answered = 0.0, time.monotonic()
        self.reachable = True  # whether Slurm has answered the last question

    def start(self, worker: Callable[[], None], count: int) -> set[str]:
        """Queue a job array of workers.

        Args:
            worker: What each of them calls. It can be pickled.
            count: How many.

        Returns:
            Slurm's numbers of the jobs.

        Raises:
            ConfigError: Slurm refuses them; its own words.
        """
        executor = self._submitit.SlurmExecutor(self._folder, max_num_timeout=10**6)  # each has made some progress
        executor.update_parameters(
            job_name=self._name,
            signal_delay_s=min(WARNING, 20 * self._parameters["time"]),
            array_parallelism=count,
            additional_parameters={"deadline": QUEUED_AT_MOST},
            **self._parameters,
        )
        try:
            with contextlib.redirect_stderr(io.StringIO()), executor.batch():
                jobs = [executor.submit(worker) for _ in range(count)]
        except RuntimeError as error:  # submitit's, with what sbatch has printed
            raise ConfigError([f"--executor slurm: {' '.join(str(error).split())}"]) from None
        return {job.job_id for job in jobs}

    def answer(self, numbers: set[str], names: Iterable[str]) -> Answer | None:
        """Ask, or take the answer to the last question: Slurm may be slow, and nobody waits for it.

        Args:
            numbers: Of the jobs that are there now.
            names: Of the workers that are there now.

        Returns:
            None where there is no new answer.

        Raises:
            TimeoutError: There has been none for long.
        """
        now = time.monotonic()
        if self._question is None:
            if numbers and now - self._asked > ASK_EVERY:
                self._asked = now
                self._question = self._pool.submit(self._states), frozenset(numbers), frozenset(names)
            return None
        states, *then = self._question
        if not states.done():
            return None
        self._question, error = None, states.exception()
        self.reachable = error is None
        if self.reachable:
            self._answered = now
            return Answer(states.result(), *then)
        if now - self._answered > OUTAGE:
            raise TimeoutError(f"Slurm has not answered for {OUTAGE / 60:.0f} minutes: {error}")
        return None

    def _states(self) -> dict[str, tuple[str, str]]:
        """``Answer.states``. Raises SubprocessError."""
        form = "--Format=JobArrayID:40,State:24,exit_code:12,Reason:60"
        found = {}
        for line in _call("squeue", "--noheader", "--array", "--states=all", *self._ours, form).splitlines():
            number, state, status, reason = line.split(maxsplit=3)
            found[number] = (
                state,
                reason.strip() if state in WAITING else IN_WORDS.get(state) or _ending(state, int(status)),
            )
        return found

    def cancel(self) -> None:
        """Cancel all jobs, and ask no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(subprocess.SubprocessError):
            _call("scancel", "--quiet", *self._ours)


def _ending(state: str, status: int) -> str:
    """How a job has ended, by its state and the status that its script left."""
    code = os.waitstatus_to_exitcode(status)
    signalled = 128 < code < 128 + signal.NSIG  # a shell's way to say that a signal ended what it had started
    return f"{state.lower()}, {how_it_ended(128 - code if signalled else code)}"


def _call(*words: str) -> str:
    """What a command of Slurm prints. Raises SubprocessError."""
    done = subprocess.run(
        words, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=ANSWER_WITHIN
    )
    return done.stdout
