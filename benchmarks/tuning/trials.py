"""The trials of a search: which settings are tried on which data, how they are judged, and which one wins."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from benchmarks.config.method_defaults import search_space
from benchmarks.config.run_config import RunConfig, nest
from benchmarks.config.search import draw, draw_lr
from benchmarks.config.suite import Row, Trial, replicate
from benchmarks.config.units import sample_of
from benchmarks.records.record import RunRecord, canonical, write_whole
from benchmarks.tuning.request import Tuning

FIRST_UNIT = 1000  # number of the first tuning unit; the fresh units of the tables are numbered from 0 to 999
JUDGED_BY = "val_best"  # the selection whose validation accuracy judges a trial
COLUMNS = ("method", "trial", "options", "lr", "units", "val_accuracy", "state", "competes", "chosen")


def trials_of(row: Row, asked: Tuning) -> list[Trial]:
    """The trials of one row: its defaults, then settings that are drawn.

    Args:
        row: The row with its default settings.
        asked: How many trials, on how many units, and what is given and therefore not searched.

    Returns:
        The trials by their number. Each value has a stream of its own, named by the tuning seed, the method, the number
        of the trial and the option.
    """
    default, given = row.configs[0], nest(asked.given)
    fixed = given.get("method_args", {})
    space = {option: of for option, of in search_space(default.method).items() if option not in fixed}
    trials = []
    for number in range(asked.trials):
        config = default
        if number:
            name = (asked.tuning_seed, default.method, number)
            options = draw(space, list(default.encoders), *name)
            config = with_settings(default, {**default.method_args, **options}, draw_lr(default.lr, *name))
        runs = tuple(on_unit(config, given, FIRST_UNIT + unit) for unit in range(asked.units))
        trials.append(Trial(row.label, number, runs, competes=number > 0 or not names_a_modality(default, space)))
    return trials


def names_a_modality(config: RunConfig, space: Collection[str]) -> bool:
    """Whether a run treats modalities differently by an option that a search draws for each of them alike.

    Args:
        config: The run.
        space: The options that are searched.
    """
    by_modality = [value for option in space if isinstance(value := config.method_args.get(option), Mapping)]
    return any(len({value.get(modality) for modality in config.encoders}) > 1 for value in by_modality)


def with_settings(config: RunConfig, method_args: Mapping[str, Any], lr: float) -> RunConfig:
    """The same run with other options of its method, and another learning rate."""
    return config.model_copy(update={"method_args": dict(method_args), "lr": lr})


def on_unit(config: RunConfig, given: Mapping[str, Any], number: int) -> RunConfig:
    """The same run on another unit: another draw or split of the data, or the same data with another training seed.

    Args:
        config: The run.
        given: The settings that all rows share.
        number: The number of the unit.
    """
    place = replicate(config, given.get("dataset_args", {}), number)
    return config.model_copy(
        update={"seed": place["seed"], "dataset_args": {**config.dataset_args, **place["dataset_args"]}}
    )


def accuracy(trial: Trial, records: Mapping[str, RunRecord]) -> Fraction | None:
    """What a trial is judged by: the mean validation accuracy over its units, at the epochs that validation selects.

    Args:
        trial: The trial.
        records: Key -> record.

    Returns:
        A fraction without rounding errors, so that ties are ties; None unless all of its runs are done.
    """
    found = [records.get(config.key) for config in trial.configs]
    done = [record for record in found if record is not None and record.status == "done"]
    if len(done) < len(found):
        return None
    return sum(map(_validation_accuracy, done), Fraction(0)) / len(done)


def _validation_accuracy(record: RunRecord) -> Fraction:
    share = record.curves["val/accuracy"][record.selected[JUDGED_BY]]
    assert share is not None  # records with such a gap are not loaded
    samples = record.data.get("report", {}).get("val", {"found": 0})["found"]
    return Fraction(round(share * samples), samples) if samples else Fraction(share)


def winner(trials: Sequence[Trial], records: Mapping[str, RunRecord]) -> Trial:
    """The trial with the best mean validation accuracy.

    Args:
        trials: All trials of a row, the default first.
        records: Key -> record.

    Returns:
        Of equal ones the earliest; the default if no trial that competes has an accuracy. A trial that diverged, was
        refused or failed on any unit loses to all others.
    """
    judged = [(t, value) for t in trials if t.competes and (value := accuracy(t, records)) is not None]
    return max(judged, key=lambda pair: pair[1])[0] if judged else trials[0]


def winners(trials: Sequence[Trial], records: Mapping[str, RunRecord]) -> dict[str, Trial]:
    """Row -> its best trial, for the rows all of whose trials have ended."""
    of_row: dict[str, list[Trial]] = {}
    for trial in trials:
        of_row.setdefault(trial.row, []).append(trial)
    return {
        label: winner(tried, records)
        for label, tried in of_row.items()
        if all(config.key in records for trial in tried for config in trial.configs)
    }


def state(trial: Trial, records: Mapping[str, RunRecord]) -> str:
    """'done', or how many of a trial's runs are not and why."""
    found = [records.get(config.key) for config in trial.configs]
    if all(record is not None and record.status == "done" for record in found):
        return "done"
    count = Counter("missing" if record is None else record.status for record in found)
    words = [f"{what} {number}/{len(found)}" for what, number in count.items() if what != "done"]
    reasons = dict.fromkeys(record.reason for record in found if record is not None and record.reason)
    return ": ".join([", ".join(words), *(["; ".join(reasons)] if reasons else [])])


def write_trials(trials: Sequence[Trial], records: Mapping[str, RunRecord], folder: Path) -> Path:
    """Write trials.csv, a line for each trial.

    Args:
        trials: All trials.
        records: Key -> record.
        folder: The results folder.

    Returns:
        The file.

    Raises:
        Unwritable: The file cannot be written.
    """
    best = winners(trials, records)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for trial in trials:
        first, value = trial.configs[0], accuracy(trial, records)
        judged = "" if value is None else f"{float(value):.6f}"
        chosen = "" if trial.row not in best else _yes_or_no(best[trial.row] == trial)
        options, units = canonical(first.method_args), " ".join(map(_unit, trial.configs))
        competes = "yes" if trial.competes else "no"
        table.writerow(
            (trial.row, trial.number, options, first.lr, units, judged, state(trial, records), competes, chosen)
        )
    path = folder / "trials.csv"
    write_whole(path, text.getvalue())
    return path


def _yes_or_no(answer: bool) -> str:
    return "yes" if answer else "no"


def _unit(config: RunConfig) -> str:
    drawn = sample_of(config.dataset_args)
    return ",".join([*(f"{name}={value}" for name, value in drawn), f"seed={config.seed}"])
