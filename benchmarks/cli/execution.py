"""How commands carry out runs: their flags, and the executor and the callbacks that these name."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.cli.options import DEFAULT_LOG, add_dashboards, add_execution, add_files, add_jobs, amount, positive

if TYPE_CHECKING:
    from benchmarks.callbacks.base import Callbacks
    from benchmarks.callbacks.run_page import JobType
    from benchmarks.config.run_config import RunConfig
    from benchmarks.executors.base import Executor
    from benchmarks.records.record import RunRecord
    from benchmarks.runner.environment import RunEnvironment
    from benchmarks.runner.experiment import Experiment
    from benchmarks.runner.schedule import Grid

SLURM_JOBS = 64  # that are queued without --jobs; how many of them are made at a time is up to Slurm


def add_flags_of_many_runs(parser: argparse.ArgumentParser) -> None:
    """Add every flag that says how several runs are carried out."""
    add_execution(parser)
    add_files(parser)
    add_jobs(parser)
    add_executor_flags(parser)
    add_log_flags(parser)


def add_live_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--live``, for commands that make the page of a results folder."""
    parser.add_argument(
        "--live",
        action="store_true",
        help="write RESULTS/report.html, a file for a browser, anew as runs end (reload it; figures come at the end)",
    )


def add_log_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--log`` and ``--log-events``, for every command that makes runs."""
    add_dashboards(parser)
    parser.add_argument(
        "--log-events",
        type=Path,
        metavar="FILE",
        help="append what happens in the runs to a file, one JSON object per line",
    )
    parser.set_defaults(live=False)  # for commands without a page


def add_export_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--export-weights``, for a single run."""
    parser.add_argument(
        "--export-weights",
        action="store_true",
        help="leave the trained weights below --work, for runs that build on this one",
    )


def add_executor_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--executor`` and what belongs to a cluster's, for commands that make several runs."""
    parser.add_argument(
        "--executor",
        choices=["local", "ray", "slurm", "print"],
        default="local",
        help="local: make the runs on this machine; ray: on a Ray cluster; slurm: on the nodes of a Slurm cluster; "
        "print: write a command line for each instead, those that others build on first, and make nothing "
        "(default: %(default)s)",
    )
    cluster = parser.add_argument_group("a cluster (--executor ray or slurm)")
    cluster.add_argument(
        "--address",
        help="of the Ray cluster: auto (the one that this machine is part of), ray://HOST:10001 or HOST:6379 (default: "
        "one is started on this machine)",
    )
    cluster.add_argument("--partition", metavar="NAME", help="of the Slurm cluster (default: Slurm's)")
    cluster.add_argument(
        "--time-limit",
        type=positive,
        default=60,
        metavar="MINUTES",
        help="after which Slurm ends a process that makes runs; its run goes on from the last epoch in another one "
        "(default: %(default)s)",
    )
    cluster.add_argument(
        "--cpus-per-run", type=amount, metavar="N", help="processor cores for each run (default: as --threads)"
    )
    cluster.add_argument(
        "--gpus-per-run",
        type=amount,
        metavar="N",
        help="GPUs for each run, and --device cuda; 0.25 puts four runs on one (default: 1 with --device cuda, else 0)",
    )
    cluster.add_argument(
        "--memory-per-run", type=amount, metavar="GB", help="memory that is reserved for each run (default: none)"
    )
    cluster.add_argument(
        "--prepare-on-workers",
        action="store_true",
        help="prepare data on machines where they are not ready, from the files that are there (default: such machines "
        "make no runs on them)",
    )
    cluster.add_argument(
        "--allow-mixed",
        action="store_true",
        help="make runs also where versions or code differ from those here; each record has its own (default: refused)",
    )


def callbacks_of(
    args: argparse.Namespace,
    environment: RunEnvironment,
    asked: Mapping[str, RunConfig],
    *,
    complete: bool,
    grid: Grid | None = None,
    recorded: Mapping[str, RunRecord] | None = None,
    job_type: JobType = "run",
    slots: int = 1,
) -> Callbacks:
    """Those that the flags ask for.

    Args:
        args: What the command line says.
        environment: Where the runs are made.
        asked: What the command is about: runs by their keys.
        complete: Whether nothing is left to be made.
        grid: All that is carried out for it, where that is to be counted.
        recorded: The records of further runs that the progress display counts as done, by their keys.
        job_type: What a dashboard calls the runs.
        slots: How many runs are made at a time.

    Returns:
        A context that closes them at its end.

    Raises:
        ConfigError: A dashboard cannot be used.
        OSError: A log cannot be opened.
    """
    from benchmarks.callbacks.base import Callback, Callbacks
    from benchmarks.callbacks.dashboards import DashboardLogger, chosen
    from benchmarks.callbacks.estimate import times_from
    from benchmarks.callbacks.json_lines import JsonLinesLog
    from benchmarks.callbacks.progress import ProgressDisplay
    from benchmarks.config.run_config import recorded as config_of

    if grid is None:
        progress = ProgressDisplay(times=None if complete else times_from(environment.results, asked.values(), []))
    else:
        done = {**(recorded or {}), **grid.records}
        planned = {**{key: config_of(record.config) for key, record in done.items()}, **grid.configs}
        times = times_from(environment.results, grid.configs.values(), done.values())
        progress = ProgressDisplay(planned, done, times, slots)
    logs: list[Callback] = [] if args.log_events is None else [JsonLinesLog(args.log_events)]
    names = [] if complete else chosen(args.log)  # what takes seconds to import is left out where it gets nothing
    dashboards = [DashboardLogger(name, environment.results, list(asked), job_type) for name in names]
    pages: list[Callback] = []
    if args.live and not complete:
        from benchmarks.callbacks.live_page import LivePage
        from benchmarks.reporting.report import write_live_page

        pages = [LivePage(lambda: write_live_page(environment.results))]
        print(f"{environment.results / 'report.html'} is written anew as runs end")
    return Callbacks([progress, *pages, *dashboards, *logs])


def executor_of(args: argparse.Namespace, environment: RunEnvironment, *, complete: bool) -> Executor:
    """What makes the runs, as the flags say.

    Args:
        args: What the command line says.
        environment: Where the runs are made.
        complete: Whether nothing is left to be made, so that no cluster is needed.

    Raises:
        ConfigError: The cluster cannot be used.
    """
    if args.executor == "ray" and not complete:
        from benchmarks.executors.ray_cluster import RayExecutor

        needs = {"CPU": args.cpus_per_run or args.threads}
        if environment.device == "cuda":
            needs["GPU"] = args.gpus_per_run or 1
        if args.memory_per_run is not None:
            needs["memory"] = int(args.memory_per_run * 1e9)
        return RayExecutor(environment, args.jobs, needs=needs, address=args.address, allow_mixed=args.allow_mixed)
    if args.executor == "slurm" and not complete:
        from benchmarks.executors.slurm import SlurmExecutor

        return SlurmExecutor(
            environment, args.jobs or SLURM_JOBS, slurm_parameters(args, environment), args.allow_mixed
        )
    from benchmarks.executors.local import LocalExecutor

    return LocalExecutor(environment, args.jobs or os.cpu_count() or 1)


def slurm_parameters(args: argparse.Namespace, environment: RunEnvironment) -> dict[str, Any]:
    """What each process that makes runs gets from Slurm, in submitit's words. Raises ConfigError."""
    from benchmarks.config.run_config import ConfigError

    cpus, gpus = args.cpus_per_run or args.threads, args.gpus_per_run or 1
    for flag, number in {"--cpus-per-run": cpus, "--gpus-per-run": gpus}.items():
        if number != int(number):
            raise ConfigError([f"{flag} {number}: Slurm gives out whole ones; give a whole number"])
    given: dict[str, Any] = {"time": args.time_limit, "cpus_per_task": int(cpus)}
    if environment.device == "cuda":
        given["gpus_per_node"] = int(gpus)
    if args.memory_per_run is not None:
        given["mem"] = f"{math.ceil(args.memory_per_run * 1000)}M"
    if args.partition is not None:
        given["partition"] = args.partition
    return given


def carry_out(
    experiments: Sequence[Experiment],
    environment: RunEnvironment,
    args: argparse.Namespace,
    job_type: JobType = "run",
    recorded: Mapping[str, RunRecord] | None = None,
) -> list[RunRecord]:
    """Make these runs, and those that they build on, as the flags say.

    Args:
        experiments: The runs.
        environment: Where they are made.
        args: What the command line says.
        job_type: What a dashboard calls them.
        recorded: The records of further runs that the progress display counts as done, by their keys.

    Returns:
        Their records.
    """
    from benchmarks.runner import schedule

    grid = schedule.plan_grid(experiments, environment)
    asked, complete = {e.key: e.config for e in experiments}, len(grid.records) == len(grid.configs)
    executor = executor_of(args, environment, complete=complete)
    with (
        contextlib.closing(executor),
        callbacks_of(
            args,
            environment,
            asked,
            complete=complete,
            grid=grid,
            recorded=recorded,
            job_type=job_type,
            slots=executor.slots,
        ) as callbacks,
    ):
        return schedule.carry_out(grid, environment, executor, callbacks.on)


def print_commands(experiments: Sequence[Experiment], environment: RunEnvironment, args: argparse.Namespace) -> None:
    """Print the command line of each run that is not done, and of those that they build on, and make nothing."""
    from benchmarks.executors.print_commands import PrintCommands
    from benchmarks.runner import schedule
    from benchmarks.runner.events import ignore_event

    def write(line: str) -> None:
        print(line if args.log == DEFAULT_LOG else f"{line} --log {shlex.quote(args.log)}")

    grid = schedule.plan_grid(experiments, environment)
    schedule.carry_out(grid, environment, PrintCommands(environment, write), ignore_event)
