"""The command ``compare``: methods in one ranked table."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from benchmarks.cli.execution import add_flags_of_many_runs, add_live_flag
from benchmarks.cli.mistakes import checked
from benchmarks.cli.options import add_results, add_settings, is_printing
from benchmarks.cli.shared import make_tables, methods_of, prepare_data

if TYPE_CHECKING:
    from benchmarks.config.suite import Suite
    from benchmarks.records.suite_file import Comparison

BRIEF = "methods in one ranked table"
DESCRIPTION = """\
Methods with the same data, model and recipe, over seeds, in one table sorted by
validation-selected accuracy.

Where the data set can be drawn anew (synthav), each seed has a draw of its own: what counts is to how many draws a
result carries over. Five of them give an interval, six a p-value, and the note below the table says how many find a
difference of one point. Give dataset_args.data_seed=0 to stay on one draw.

Where it can be split anew (avmnist and ravdess by speaker, grid by clip, mfeat by sample, manifest with
dataset_args.folds=5 by group), each seed has a fold of its own. Training sets of folds overlap, so intervals and tests
are those of Nadeau and Bengio (2003). Give dataset_args.split=takes (avmnist) or dataset_args.fold=0 to stay on one
split."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's settings and flags."""
    add_settings(parser, "methods=all or methods=[ogm, ogm_ge], seeds=3, and as for run")
    add_results(parser, "results/compare/DATASET-FUSION-WORD", filled_in=True)
    add_flags_of_many_runs(parser)
    add_live_flag(parser)


def execute(args: argparse.Namespace) -> int:
    """Make the comparison. Returns the exit code."""
    asked, suite = checked(args, _asked, lambda made: made[1].configs())
    args.results = args.results or asked.folder()
    if not is_printing(args):
        prepare_data(suite.configs())
    return make_tables(suite, asked, args)


def _asked(given: dict[str, Any]) -> tuple[Comparison, Suite]:
    """What the settings ask for. Raises ConfigError."""
    from pydantic import ValidationError

    from benchmarks.config.run_config import refused
    from benchmarks.records.suite_file import Comparison

    methods, seeds = methods_of(given.pop("methods", "all")), given.pop("seeds", 3)
    try:
        asked = Comparison(given=given, methods=methods, seeds=seeds)
    except ValidationError as error:
        raise refused(error, Comparison.model_fields) from None
    return asked, asked.suite()
