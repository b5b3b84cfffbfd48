"""The command ``grid``: every combination of what is given as lists."""

from __future__ import annotations

import argparse

from benchmarks.cli.execution import add_flags_of_many_runs, carry_out, print_commands
from benchmarks.cli.options import (
    add_results,
    add_settings,
    environment_of,
    is_printing,
    require_dashboards,
)
from benchmarks.cli.shared import prepare_data, print_ending, print_reused

BRIEF = "every combination of lists"
DESCRIPTION = """\
Every combination of what is given as a list; otherwise as `run`.
Runs that are done are skipped; runs that fail are listed at the end (exit code 1)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's settings and flags."""
    add_settings(
        parser, "as for run; a list, such as 'seed=[0, 1]', is an axis; what is a list itself is written [[8, 8]]"
    )
    add_results(parser, "results/grid")
    add_flags_of_many_runs(parser)


def execute(args: argparse.Namespace) -> int:
    """Make the runs. Returns the exit code."""
    from benchmarks.config.run_config import parse
    from benchmarks.config.suite import expand

    configs = expand(parse(args.settings))
    require_dashboards(args)
    from benchmarks.runner.experiment import resolve_all

    experiments = resolve_all(configs)
    if is_printing(args):
        print_commands(experiments, environment_of(args), args)
        return 0
    prepare_data(configs)
    environment = environment_of(args)
    print_reused(experiments, environment)
    return print_ending(carry_out(experiments, environment, args), args)
