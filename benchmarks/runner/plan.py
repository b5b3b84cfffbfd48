"""Which runs a grid consists of, which wait for which, and which have become impossible. Pure bookkeeping."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Job:
    """One run to be carried out.

    Args:
        key: The run's key.
        config: Its configuration, as plain JSON (``RunConfig.model_dump``).
        export: Whether it must leave its trained weights behind for runs that build on it.
        waits_for: The keys of the runs that must be done before it starts.
    """

    key: str
    config: Mapping[str, Any]
    export: bool = False
    waits_for: tuple[str, ...] = ()


class Plan:
    """The state of a grid. Every job is waiting, ready, submitted, blocked or ended.

    A job is ready once all it waits for are done, and blocked once one of them has ended without being done. Every
    call takes time in proportion to what it changes, so that plans of 100,000 jobs cost little.

    Args:
        jobs: Every job, each key once. Ready jobs are handed out in this order.
        done: The keys of runs whose records are there already; jobs among them are not carried out.

    Raises:
        ValueError: A job waits for one that is neither a job nor done, or jobs wait for each other in a circle.
    """

    def __init__(self, jobs: Sequence[Job], done: Collection[str] = ()) -> None:
        done = set(done)
        self._jobs = {job.key: job for job in jobs if job.key not in done}
        self._missing = {key: set(job.waits_for) - done for key, job in self._jobs.items()}
        self._dependents: dict[str, list[str]] = {}
        for key, missing in self._missing.items():
            for needed in missing:
                self._dependents.setdefault(needed, []).append(key)
        unknown = self._dependents.keys() - self._jobs.keys()
        if unknown:
            raise ValueError(f"jobs wait for runs that are not in the plan: {', '.join(sorted(unknown))}")
        self._refuse_circles()
        self._ready = deque(key for key, missing in self._missing.items() if not missing)
        self._blocked: deque[tuple[str, str]] = deque()
        self._open = set(self._jobs)  # neither ended nor found to be blocked and handed out

    def _refuse_circles(self) -> None:
        missing = {key: len(needed) for key, needed in self._missing.items()}
        free = deque(key for key, count in missing.items() if not count)
        while free:
            key = free.popleft()
            del missing[key]
            for dependent in self._dependents.get(key, ()):
                missing[dependent] -= 1
                if not missing[dependent]:
                    free.append(dependent)
        if missing:
            raise ValueError(f"jobs wait for each other in a circle: {', '.join(sorted(missing))}")

    @property
    def finished(self) -> bool:
        """Whether every job has ended."""
        return not self._open

    def next_ready(self) -> Job | None:
        """A job to submit now, each once; None while all others wait for something."""
        return self._jobs[self._ready.popleft()] if self._ready else None

    def next_blocked(self) -> tuple[Job, str] | None:
        """A job that can never run, with the key of the run it builds on that was not done; None if there is none.

        Whoever takes it records why and reports it to ``ended``, which blocks in turn what builds on it.
        """
        if not self._blocked:
            return None
        key, because = self._blocked.popleft()
        return self._jobs[key], because

    def ended(self, key: str, *, done: bool) -> None:
        """Note that a submitted or blocked job has ended.

        Args:
            key: The job's key.
            done: Whether its run was done, so that what waits for it may start.
        """
        self._open.remove(key)
        for dependent in self._dependents.get(key, ()):
            if dependent not in self._missing:
                continue  # blocked before, by another run
            if not done:
                del self._missing[dependent]
                self._blocked.append((dependent, key))
                continue
            self._missing[dependent].discard(key)
            if not self._missing[dependent]:
                self._ready.append(dependent)
