"""The command ``tune``: the same search for every method, then defaults and tuned settings in one ranked table."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.cli.execution import add_flags_of_many_runs, add_live_flag, carry_out, print_commands
from benchmarks.cli.mistakes import checked
from benchmarks.cli.options import (
    add_results,
    add_settings,
    environment_of,
    is_printing,
)
from benchmarks.cli.shared import methods_of, prepare_data, print_ending, print_reused, reused, write_report

if TYPE_CHECKING:
    from benchmarks.config.suite import Suite
    from benchmarks.records.record import RunRecord
    from benchmarks.runner.environment import RunEnvironment
    from benchmarks.runner.experiment import Experiment
    from benchmarks.tuning.passes import Passes
    from benchmarks.tuning.request import Tuning

BRIEF = "every method tuned with the same budget"
DESCRIPTION = """\
Gives every method the same number of trials, then compares defaults and tuned settings on fresh draws of the data.

1. Trials. Trial 0 of a method is its default. Each other one draws the method's options from the distributions that
   `python -m benchmarks list methods` shows, and the learning rate: the recipe's, times 2 to the power of U(-2, 2), for
   every method, vanilla too. An option that you give is not searched. No distribution knows which modality is strong; a
   default that names one (static_lr) is tried and shown, and cannot win.
   Each trial is run on the tuning units, numbered from 1000: draws of the data (data_seed), or splits where the same
   data can only be split anew, or else training seeds. Draws have no sample in common with those of the tables. Splits
   have: a sample that validates a trial may be tested in a table. The best mean validation accuracy wins, of equal
   ones the earlier trial. A trial that diverges, is refused or fails has lost. trials.csv shows all of them.
2. Tables. Default and winner run on fresh units, numbered from 0: a ranked table with both, in which tuned rows are
   compared with tuned vanilla; what tuning gained for each method; and a table at equal passes, where vanilla, and ume
   if it is among the methods, train for so many epochs that they cost as much as the most expensive method
   (passes.csv: passes through encoders, with those of teachers; counted where records have counts, else as methods
   state them).

Runs are those of compare and run: one that is recorded is not made again, and the same command goes on after a kill.
`--executor print` prints the trials and, once they are recorded, the other runs.

settings of the search (name=value), and as for compare:
  trials=8        trials per method, the default among them
  units=2         tuning units per trial
  seeds=5         fresh units per row of the tables
  tuning_seed=0   starts the streams of random settings; each option of each method and trial has one of its own

example: python -m benchmarks tune methods=vanilla,ogm_ge,ume dataset=synthav trials=8 seeds=16"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's settings and flags."""
    add_settings(parser, "methods=all or methods=[ogm, ogm_ge], trials=8, units=2, seeds=5, and as for run")
    add_results(parser, "results/tune/DATASET-FUSION-WORD", filled_in=True)
    add_flags_of_many_runs(parser)
    add_live_flag(parser)


def execute(args: argparse.Namespace) -> int:
    """Search, then compare. Returns the exit code."""
    from benchmarks.records.suite_file import claim
    from benchmarks.runner.experiment import resolve_all

    asked, suite = checked(args, _asked, lambda made: made[1].configs())
    args.results = args.results or asked.folder()
    experiments = {e.key: e for e in resolve_all(suite.configs())}
    trials = [experiments[key] for key in dict.fromkeys(c.key for trial in suite.trials for c in trial.configs)]
    if is_printing(args):
        return _print_runs(asked, suite, trials, args)
    prepare_data(suite.configs())
    environment = environment_of(args)
    claim(args.results, asked, suite, overwrite=args.overwrite)
    rows = len({trial.row for trial in suite.trials})
    print(f"search: {rows} rows x {asked.trials} trials x {asked.units} tuning unit(s) = {len(trials)} runs")
    print_reused(reused(trials, environment), len(trials))
    tried = {record.key: record for record in carry_out(trials, environment, args, "trial")}
    return _compare(asked, suite, tried, environment, args)


def _asked(given: dict[str, Any]) -> tuple[Tuning, Suite]:
    """What the settings ask for, and the trials and default rows of it. Raises ConfigError."""
    from pydantic import ValidationError

    from benchmarks.config.run_config import refused
    from benchmarks.tuning.request import Tuning
    from benchmarks.tuning.tables import before_search

    methods = methods_of(given.pop("methods", "all"))
    budget = {name: given.pop(name) for name in ("seeds", "trials", "units", "tuning_seed") if name in given}
    try:
        asked = Tuning(given=given, methods=methods, **budget)
    except ValidationError as error:
        raise refused(error, Tuning.model_fields) from None
    return asked, before_search(asked)


def _compare(
    asked: Tuning,
    suite: Suite,
    tried: dict[str, RunRecord],
    environment: RunEnvironment,
    args: argparse.Namespace,
) -> int:
    """Make the runs of the tables, with what the search has found, and write the folder. Returns the exit code."""
    from benchmarks.records.suite_file import claim
    from benchmarks.tuning.passes import write_passes
    from benchmarks.tuning.tables import BASELINE
    from benchmarks.tuning.trials import accuracy, write_trials

    final, passes, experiments = _found(asked, suite, tried)
    whole = claim(args.results, asked, final, overwrite=args.overwrite)
    written = [write_trials(final.trials, tried, args.results), write_passes(passes, BASELINE, args.results)]
    lost = sum(accuracy(trial, tried) is None for trial in final.trials)
    print(
        f"{len(final.trials)} trials, {lost} of them without a result (diverged, refused or failed): see {written[0]}"
    )
    print(f"comparison: {len(experiments)} runs on fresh units")
    print_reused(reused(experiments, environment), len(experiments))
    records = carry_out(experiments, environment, args)
    write_report(whole, args, shown=True)
    for path in written:
        print(path)
    return print_ending(records, args)


def _found(asked: Tuning, suite: Suite, tried: dict[str, RunRecord]) -> tuple[Suite, Passes, list[Experiment]]:
    """The tables with what the search has found, what their rows cost, and their runs."""
    from benchmarks.config.suite import Suite
    from benchmarks.runner.experiment import resolve_all
    from benchmarks.tuning.passes import passes_of
    from benchmarks.tuning.tables import after_search
    from benchmarks.tuning.trials import winners

    best = winners(suite.trials, tried)
    passes = passes_of(best, tried)
    final = after_search(asked, best, passes)
    return final, passes, resolve_all(Suite(final.name, final.title, final.tables).configs())


def _print_runs(asked: Tuning, suite: Suite, trials: list[Experiment], args: argparse.Namespace) -> int:
    """Print the commands of the trials or, when all of these are recorded, those of the tables. Returns the exit code.

    A trial that has a record of any kind has ended; its command is not printed again.
    """
    from benchmarks.records.store import find_record

    environment = environment_of(args)
    found = {e.key: find_record(args.results, environment.record_path(e.config)) for e in trials}
    tried = {key: record for key, record in found.items() if record is not None}
    missing = [experiment for experiment in trials if experiment.key not in tried]
    if missing:
        print_commands(missing, environment, args)
        print(
            f"these are the trials; the same command prints the other runs when {args.results} has the records of all",
            file=sys.stderr,
        )
        return 0
    print_commands(_found(asked, suite, tried)[2], environment, args)
    return 0
