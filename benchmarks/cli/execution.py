"""How commands carry out runs: their flags, and the executor and the callbacks that these name."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.cli.options import add_execution, add_files, add_jobs

if TYPE_CHECKING:
    from benchmarks.callbacks.base import Callbacks
    from benchmarks.executors.base import Executor
    from benchmarks.records.record import RunRecord
    from benchmarks.runner.environment import RunEnvironment
    from benchmarks.runner.experiment import Experiment


def add_flags_of_many_runs(parser: argparse.ArgumentParser) -> None:
    """Add every flag that says how several runs are carried out."""
    add_execution(parser)
    add_files(parser)
    add_jobs(parser)
    add_executor_flag(parser)
    add_log_flag(parser)


def add_log_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--log-events``, for every command that makes runs."""
    parser.add_argument(
        "--log-events",
        type=Path,
        metavar="FILE",
        help="append what happens in the runs to a file, one JSON object per line",
    )


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
    args: argparse.Namespace, environment: RunEnvironment, planned: Collection[str] = (), done: int = 0
) -> Callbacks:
    """Those that the flags ask for.

    Args:
        args: What the command line says.
        environment: Where the runs are made.
        planned: The keys of all runs, where there are several to be counted.
        done: How many of them are done already.

    Returns:
        A context that closes them at its end.

    Raises:
        OSError: A log cannot be opened.
    """
    from benchmarks.callbacks.base import Callback, Callbacks
    from benchmarks.callbacks.json_lines import JsonLinesLog
    from benchmarks.callbacks.progress import ProgressDisplay
    from benchmarks.callbacks.wandb import WandbLogger

    logs: list[Callback] = [] if args.log_events is None else [JsonLinesLog(args.log_events)]
    wandb = WandbLogger(environment.work / "wandb", environment.group)
    return Callbacks([ProgressDisplay(planned, done), wandb, *logs])


def carry_out(
    experiments: Sequence[Experiment],
    environment: RunEnvironment,
    args: argparse.Namespace,
    recorded: Collection[str] = (),
) -> list[RunRecord]:
    """Make these runs, and those that they build on, as the flags say.

    Args:
        experiments: The runs.
        environment: Where they are made.
        args: What the command line says.
        recorded: The keys of further runs that the progress display counts as done.

    Returns:
        Their records.
    """
    from benchmarks.executors.local import LocalExecutor
    from benchmarks.runner import schedule

    grid = schedule.plan_grid(experiments, environment)
    executor: Executor = LocalExecutor(environment, args.jobs)
    done = {*recorded, *grid.records}
    with callbacks_of(args, environment, {*done, *grid.configs}, len(done)) as callbacks:
        return schedule.carry_out(grid, environment, executor, callbacks.on)


def print_commands(experiments: Sequence[Experiment], environment: RunEnvironment) -> None:
    """Print the command line of each run that is not done, and of those that they build on, and make nothing."""
    from benchmarks.executors.print_commands import PrintCommands
    from benchmarks.runner import schedule
    from benchmarks.runner.events import ignore_event

    grid = schedule.plan_grid(experiments, environment)
    schedule.carry_out(grid, environment, PrintCommands(environment), ignore_event)
