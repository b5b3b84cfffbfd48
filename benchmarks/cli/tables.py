"""The command ``tables``: tables, figures and pages of a results folder again, from its records."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.cli.options import add_files

BRIEF = "tables and figures again, from records alone"
DESCRIPTION = """\
Makes runs.csv, tables, figures and the report of a results folder again, from its suite.json and its records.
Nothing is trained."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_files(parser, hidden=True)
    parser.add_argument(
        "folder", type=Path, help="a folder that reproduce, compare or tune made, such as results/paper"
    )
    parser.add_argument(
        "--curves",
        default="",
        metavar="NAME,NAME",
        help="whose curves to draw: labels of rows or ids of methods (default: all rows of a table; of more than 12, "
        "the best, the worst and what they are compared with)",
    )
    parser.add_argument(
        "--rows",
        default="",
        metavar="NAME,NAME",
        help="draw the differences of these rows, in this order, to what they are compared with: labels of rows or ids "
        "of methods, such as ogm_ge,weak_boost,uncertainty_weighting,kd_strong_to_weak,ssl_pretrain",
    )


def execute(args: argparse.Namespace) -> int:
    """Write the files. Returns the exit code."""
    from benchmarks.config.run_config import ConfigError
    from benchmarks.records.suite_file import read
    from benchmarks.reporting.report import write

    made = read(args.folder)
    if made is None:
        raise ConfigError([f"{args.folder}: no suite.json, so this is no folder that reproduce, compare or tune made"])
    chosen, compared = (
        [name.strip() for name in names.split(",") if name.strip()] for names in (args.curves, args.rows)
    )
    paths = write(made.suite, args.folder, chosen=chosen, compared=compared)
    if made.suite.trials:
        from benchmarks.records.store import records_by_key
        from benchmarks.tuning.trials import write_trials

        paths.append(write_trials(made.suite.trials, records_by_key(args.folder), args.folder))
    for path in paths:
        print(path)
    return 0
