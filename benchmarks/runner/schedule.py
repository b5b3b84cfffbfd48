"""Many runs: what is done is skipped, what others build on comes first, and one that fails does not stop the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.config.run_config import RunConfig
from benchmarks.executors.base import Executor
from benchmarks.records.record import RunRecord
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.events import EventHandler, RunDeferred, RunFinished
from benchmarks.runner.experiment import Experiment
from benchmarks.runner.failures import blocked_record, end_with_failure
from benchmarks.runner.plan import Job, Plan


@dataclass(frozen=True)
class Grid:
    """Runs that are to be carried out together.

    Args:
        configs: Every run by its key, those that others build on first.
        records: The records of those that are done already.
        plan: What of the rest waits for what.
    """

    configs: Mapping[str, RunConfig]
    records: Mapping[str, RunRecord]
    plan: Plan


def plan_grid(experiments: Sequence[Experiment], environment: RunEnvironment) -> Grid:
    """Look up what is done, and what the rest builds on.

    Raises:
        OtherDataError: A record was made with other data.
    """
    prerequisites: dict[str, Experiment] = {}
    unfinished = [e for e in experiments if environment.finished(e) is None]  # only these need what they build on
    while unfinished:
        needed = [prerequisite.experiment for prerequisite in unfinished.pop().prerequisites.values()]
        new = {e.key: e for e in needed if e.key not in prerequisites}
        prerequisites |= new
        unfinished += [e for e in new.values() if environment.finished(e, export=True) is None]
    runs = {**prerequisites, **{e.key: e for e in experiments}}
    records = {}
    for key, experiment in runs.items():
        record = environment.finished(experiment, export=key in prerequisites)
        if record is not None:
            records[key] = record
    jobs = [_job(e, export=key in prerequisites) for key, e in runs.items() if key not in records]
    return Grid({key: e.config for key, e in runs.items()}, records, Plan(jobs, records.keys()))


def _job(experiment: Experiment, *, export: bool) -> Job:
    waits_for = tuple(prerequisite.experiment.key for prerequisite in experiment.prerequisites.values())
    return Job(experiment.key, experiment.config.model_dump(mode="json"), export, waits_for)


def carry_out(grid: Grid, environment: RunEnvironment, executor: Executor, on_event: EventHandler) -> list[RunRecord]:
    """Carry out a grid, and close the executor.

    A run that cannot be made has a record as well: ``skipped`` where its parts do not fit together, ``failed`` for
    everything else. Only ``done`` is not tried again the next time.

    Args:
        grid: What to carry out, once.
        environment: Where the records of runs go that are never started, since what they build on failed.
        executor: What makes the runs.
        on_event: Receives all events.

    Returns:
        The record of each run, in the grid's order. Runs that the executor left to somebody else have none.

    Raises:
        OSError: A record cannot be written.
    """
    records, plan, submitted = dict(grid.records), grid.plan, set()

    def advance() -> None:
        while (blocked := plan.next_blocked()) is not None:
            job, prerequisite = blocked
            config = grid.configs[job.key]
            records[job.key] = record = blocked_record(config, records[prerequisite])
            end = end_with_failure(record, config, environment)
            plan.ended(job.key, done=False)
            on_event(end)
        while (ready := plan.next_ready()) is not None:
            submitted.add(ready.key)
            executor.submit(ready)

    try:
        advance()
        for event in executor.events():
            on_event(event)
            if event.key not in submitted or not isinstance(event, RunFinished | RunDeferred):
                continue
            submitted.remove(event.key)
            if isinstance(event, RunFinished):
                records[event.key] = event.record
            plan.ended(event.key, done=isinstance(event, RunDeferred) or event.record.status == "done")
            advance()
    finally:
        executor.close()
    return [records[key] for key in grid.configs if key in records]
