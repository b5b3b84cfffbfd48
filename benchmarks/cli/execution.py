"""How commands carry out runs: their flags, and the executor and the callbacks that these name."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.cli.options import DEFAULT_LOG, add_dashboards, add_execution, add_files, add_jobs

if TYPE_CHECKING:
    from benchmarks.callbacks.base import Callbacks
    from benchmarks.callbacks.run_page import JobType
    from benchmarks.config.run_config import RunConfig
    from benchmarks.executors.base import Executor
    from benchmarks.records.record import RunRecord
    from benchmarks.runner.environment import RunEnvironment
    from benchmarks.runner.experiment import Experiment
    from benchmarks.runner.schedule import Grid


def add_flags_of_many_runs(parser: argparse.ArgumentParser) -> None:
    """Add every flag that says how several runs are carried out."""
    add_execution(parser)
    add_files(parser)
    add_jobs(parser)
    add_executor_flag(parser)
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


def add_executor_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--executor``, for commands that make several runs."""
    parser.add_argument(
        "--executor",
        choices=["local", "print"],
        default="local",
        help="local: make the runs on this machine; print: write a command line for each instead, those that others "
        "build on first, and make nothing (default: %(default)s)",
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
        progress = ProgressDisplay(planned, done, times, args.jobs)
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
    from benchmarks.executors.local import LocalExecutor
    from benchmarks.runner import schedule

    grid = schedule.plan_grid(experiments, environment)
    executor: Executor = LocalExecutor(environment, args.jobs)
    asked, complete = {e.key: e.config for e in experiments}, len(grid.records) == len(grid.configs)
    with callbacks_of(
        args, environment, asked, complete=complete, grid=grid, recorded=recorded, job_type=job_type
    ) as callbacks:
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
