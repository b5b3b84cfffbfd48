"""The command ``reproduce``: the tables of a suite."""

from __future__ import annotations

import argparse
import sys

from benchmarks.cli.execution import add_flags_of_many_runs, add_live_flag
from benchmarks.cli.options import add_results, is_printing, positive, require_dashboards
from benchmarks.cli.shared import make_tables

BRIEF = "a suite of tables, figures and records"
DESCRIPTION = "The tables of a suite: records, runs.csv, tables (CSV, Markdown, LaTeX), figures, a report."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        "--suite",
        default="paper",
        metavar="NAME|FILE.yaml",
        help="see: python -m benchmarks list suites; or a file of your own (default: %(default)s)",
    )
    parser.add_argument("--datasets", default="", help="comma-separated (default: every one that is ready)")
    parser.add_argument("--seeds", type=positive, help="training seeds per row (default: the suite's)")
    parser.add_argument("--quick", action="store_true", help="shortened runs, whose tables rank nothing")
    add_results(parser, "results/SUITE, or results/SUITE-quick", filled_in=True)
    add_flags_of_many_runs(parser)
    add_live_flag(parser)


def execute(args: argparse.Namespace) -> int:
    """Make the suite on every dataset that is named or ready. Returns the exit code."""
    from benchmarks.config.suite import load
    from benchmarks.records.suite_file import Recipe
    from datasets.registry import command_to_get, prepare, ready

    named = [name for name in args.datasets.split(",") if name]
    suite = load(args.suite, datasets=named, seeds=args.seeds, quick=args.quick)
    require_dashboards(args)
    usable = []
    for name, variants in suite.data().items():
        if name in named and not is_printing(args):
            for variant in variants:
                prepare(name, variant)
        if all(ready(name, variant) for variant in variants):
            usable.append(name)
        else:
            print(f"{name} is not here, so its tables are left out; to get it: {command_to_get(name)}", file=sys.stderr)
    asked = Recipe(name=args.suite, datasets=usable, seeds=args.seeds, quick=args.quick)
    args.results = args.results or asked.folder()
    return make_tables(asked.suite(), asked, args)
