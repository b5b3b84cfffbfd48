"""The command ``grid``: every combination of what is given as lists."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from benchmarks.cli.execution import add_flags_of_many_runs, carry_out, print_commands
from benchmarks.cli.mistakes import checked
from benchmarks.cli.options import (
    add_results,
    add_settings,
    environment_of,
    environment_to_read,
    is_printing,
)
from benchmarks.cli.shared import prepare_data, print_ending, print_reused

if TYPE_CHECKING:
    from benchmarks.config.run_config import RunConfig
    from benchmarks.records.record import RunRecord
    from benchmarks.runner.environment import RunEnvironment

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
    from benchmarks.config.suite import expand
    from benchmarks.records.store import recorded_keys

    configs = {config.key: config for config in checked(args, expand, list)}
    if is_printing(args):
        from benchmarks.runner.experiment import resolve_all

        print_commands(resolve_all(list(configs.values())), environment_of(args), args)
        return 0
    there = recorded_keys(args.results)
    _check_options([config for key, config in configs.items() if key not in there])
    prepare_data(list(configs.values()))
    environment = environment_to_read(args)
    done = environment.all_recorded(configs)
    print_reused(done.values(), len(configs))
    made = _make(configs, done, environment, args)
    return print_ending([*done.values(), *made], args)


def _check_options(configs: Sequence[RunConfig]) -> None:
    """Raise ConfigError for runs that cannot be made, before data are prepared for them."""
    if configs:  # what is recorded was checked when it was made, and the classes it names bring torch
        from benchmarks.runner.experiment import resolve_all

        resolve_all(configs)


def _make(
    configs: Mapping[str, RunConfig], done: Mapping[str, RunRecord], known: RunEnvironment, args: argparse.Namespace
) -> list[RunRecord]:
    """Make the runs that are not done. Returns their records, and those of the runs that they build on."""
    missing = [config for key, config in configs.items() if key not in done]
    if not missing:
        return []
    from benchmarks.runner.experiment import resolve_all

    return carry_out(resolve_all(missing), environment_of(args, known), args, recorded=done)
