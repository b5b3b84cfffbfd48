"""The command ``check``: somebody's results folder, verified from its logits."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.cli.options import add_files

BRIEF = "verify a results folder from its logits"
DESCRIPTION = """\
Verifies a results folder, anybody's: computes every score again from the logits, compares keys, configurations, labels
and fingerprints of the data with each other and with the data here, looks for the runs that its tables need, and makes
the tables again to compare them. Prints a line for each thing that is wrong or missing, and changes nothing.

  python -m benchmarks check results/reference/rules

Exit code 0: all of it holds; 1: something does not. RULES.md says what a submitted folder must hold."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_files(parser, hidden=True)
    parser.add_argument("folder", type=Path, help="a results folder, such as results/paper")


def execute(args: argparse.Namespace) -> int:
    """Print what is wrong, and what was verified. Returns the exit code."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from benchmarks.reporting.verify import verify

    columns = (TextColumn("records"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        found = verify(args.folder, lambda done, of: progress.update(task, completed=done, total=of))
    for problem in found.problems:
        print(problem)
    here, elsewhere = found.data[True], found.data[False]
    print(
        f"{found.runs} records, {found.recomputed} computed again from their logits; {here + elsewhere} draws of data, "
        f"{here} compared with the data here; {found.tables} files of numbers made again: "
        + (f"{len(found.problems)} problems" if found.problems else "all of it holds")
    )
    return 1 if found.problems else 0
