"""What several commands do alike before and after their runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.cli.execution import carry_out, print_commands
from benchmarks.cli.options import environment_of, is_printing

if TYPE_CHECKING:
    from benchmarks.config.run_config import RunConfig
    from benchmarks.config.suite import Suite
    from benchmarks.records.record import RunRecord
    from benchmarks.records.suite_file import Comparison, Recipe
    from benchmarks.runner.environment import RunEnvironment
    from benchmarks.runner.experiment import Experiment


def methods_of(given: Any) -> list[str]:
    """The methods that ``methods=`` names, vanilla first. Raises ConfigError for what is neither names nor ``all``."""
    from benchmarks.config.run_config import ConfigError
    from benchmarks.config.suite import competing

    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list):
        raise ConfigError([f"methods={names!r}: names of methods, such as methods=[ogm, ogm_ge], or all"], ["methods"])
    return competing([name for part in names for name in str(part).split(",")])


def prepare_data(configs: Sequence[RunConfig]) -> None:
    """Make the data of these runs ready from the files that are there. Raises DataError, which says how to get them."""
    from benchmarks.config.suite import data_of
    from datasets.registry import prepare

    for name, variants in data_of(configs).items():
        for variant in variants:
            prepare(name, variant)


def reused(experiments: Sequence[Experiment], environment: RunEnvironment) -> list[RunRecord]:
    """The records of those runs that are done already."""
    return [record for run in experiments if (record := environment.finished(run)) is not None]


def print_reused(records: Collection[RunRecord], count: int) -> None:
    """Say how many of ``count`` runs are recorded already, and where those records come from."""
    if records:
        origins = {(r.provenance.get("device", "unknown"), r.provenance.get("commit", "unknown")[:12]) for r in records}
        origin = "; ".join(f"{device}, commit {commit}" for device, commit in sorted(origins))
        print(f"{len(records)} of {count} runs are already recorded ({origin}): reused")


def print_ending(records: Sequence[RunRecord], args: argparse.Namespace) -> int:
    """Say how many runs were made, which were not and why, and how to look at them in dashboards.

    Returns:
        The exit code: 1 if a run failed or diverged.
    """
    bad = [r for r in records if r.status in ("failed", "diverged")]
    skipped = [r for r in records if r.status == "skipped"]
    done = sum(r.status == "done" for r in records)
    print(f"{len(records)} runs: {done} done, {len(skipped)} refused, {len(bad)} not made")
    from benchmarks.config.run_config import recorded

    for record in [*skipped, *bad]:
        print(f"  {record.status}: {recorded(record.config).title}: {record.reason}", file=sys.stderr)
    print_dashboards(args)
    return 1 if bad else 0


def print_dashboards(args: argparse.Namespace) -> None:
    """Print the command that shows what each dashboard has of the results folder."""
    from benchmarks.callbacks.dashboards import chosen, how_to_look

    for command in how_to_look(chosen(args.log), args.results):
        print(command)


def make_tables(suite: Suite, asked: Recipe | Comparison, args: argparse.Namespace) -> int:
    """Make the runs of a suite, then the tables, figures and pages of its folder, with what the folder has already.

    Args:
        suite: The tables that are asked for.
        asked: What the command was asked for.
        args: The command line.

    Returns:
        The exit code.
    """
    from benchmarks.records.suite_file import Comparison, claim
    from benchmarks.runner.experiment import resolve_all

    experiments = resolve_all(suite.configs())
    environment = environment_of(args)
    if is_printing(args):
        print_commands(experiments, environment, args)
        return 0
    whole = claim(args.results, asked, suite, overwrite=args.overwrite)
    print_reused(reused(experiments, environment), len(experiments))
    records = carry_out(experiments, environment, args)
    write_report(whole, args, shown=isinstance(asked, Comparison))
    return print_ending(records, args)


def write_report(whole: Suite, args: argparse.Namespace, *, shown: bool) -> None:
    """Write the tables, figures and pages of a results folder, and print where they are.

    Args:
        whole: All tables of the folder.
        args: The command line.
        shown: Whether the tables are printed, too.
    """
    from benchmarks.callbacks.dashboards import chosen, log_report
    from benchmarks.reporting.report import show, write

    paths = write(whole, args.results)
    if shown:
        show(whole, args.results)
    log_report(chosen(args.log), whole.title, paths, args.results)
    for path in paths:
        if path.suffix == ".md":
            print(path)
