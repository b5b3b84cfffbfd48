"""The tables of a search: defaults beside tuned settings, what tuning gained, and vanilla at the greatest cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmarks.config.run_config import RunConfig
from benchmarks.config.suite import Row, Suite, Table, Trial
from benchmarks.tuning.passes import Passes
from benchmarks.tuning.request import Tuning
from benchmarks.tuning.trials import trials_of, with_settings

BASELINE, ENSEMBLE = "vanilla", "ume"  # the rows that are also given the passes of the most expensive one


def before_search(asked: Tuning) -> Suite:
    """The tables while nothing is found yet, and all trials.

    Args:
        asked: What the command was asked for.

    Returns:
        Tuned rows have no runs.

    Raises:
        ConfigError: One line per mistake.
    """
    compared = asked.suite()
    rows = compared.tables[0].rows
    trials = tuple(trial for row in rows for trial in trials_of(row, asked))
    suite = replace(compared, name="tune", title=_title(asked, compared), trials=trials)
    return replace(suite, tables=(_main(suite, rows, {}), _gain(suite, rows, {})))


def after_search(asked: Tuning, best: Mapping[str, Trial], passes: Passes) -> Suite:
    """The tables with the settings that were found.

    Args:
        asked: What the command was asked for.
        best: Row -> its best trial.
        passes: What the tuned rows cost, by their default's label.
    """
    suite = before_search(asked)
    rows = asked.suite().tables[0].rows
    tables = [_main(suite, rows, best), _gain(suite, rows, best)]
    if (equal := _equal_passes(suite, rows, best, passes)) is not None:
        tables.append(equal)
    return replace(suite, tables=tuple(tables))


def _title(asked: Tuning, compared: Suite) -> str:
    return f"{compared.title}, by default and tuned (trials for each: {asked.trials}, on tuning units: {asked.units})"


def tuned_label(label: str, best: Mapping[str, Trial]) -> str:
    """What a tuned row is called: one whose defaults have won says so."""
    return f"{label} (tuned: its default)" if label in best and not best[label].number else f"{label} (tuned)"


def _tuned(row: Row, best: Mapping[str, Trial]) -> tuple[RunConfig, ...]:
    """A row's runs with its best settings; none while they are not found."""
    if row.label not in best:
        return ()
    found = best[row.label].configs[0]
    return tuple(with_settings(config, found.method_args, found.lr) for config in row.configs)


def _table(suite: Suite, name: str, title: str, rows: Sequence[Row], *, ranked: bool) -> Table:
    one = suite.trials[0].configs[0]
    return Table(name, title, one.dataset, one.dataset, tuple(rows), ranked)


def _main(suite: Suite, rows: Sequence[Row], best: Mapping[str, Trial]) -> Table:
    """Every row with its defaults and tuned, on fresh units; tuned rows are compared with the tuned baseline."""
    both = []
    for row in rows:
        against = None if row.against is None else tuned_label(row.against, best)
        both += [row, Row(tuned_label(row.label, best), _tuned(row, best), against)]
    return _table(suite, "tune", "Default and tuned", both, ranked=True)


def _gain(suite: Suite, rows: Sequence[Row], best: Mapping[str, Trial]) -> Table:
    """Every tuned row compared with the same method's defaults."""
    both = []
    for row in rows:
        tuned = Row(tuned_label(row.label, best), _tuned(row, best), row.label)
        both += [replace(row, against=None), tuned]
    return _table(suite, "gain", "What tuning gained", both, ranked=False)


def _equal_passes(suite: Suite, rows: Sequence[Row], best: Mapping[str, Trial], passes: Passes) -> Table | None:
    """The tuned rows, compared with a baseline that has the passes of the most expensive; None if it has them anyway.

    The baseline, and the ensemble of unimodal models where it is among the rows, are trained for more epochs, with the
    steps of their learning-rate schedules at the same shares of the run. What each row costs, and how that is known,
    stands in passes.csv: figures have the title, too, so it is short.
    """
    if BASELINE not in passes.of_row:
        return None
    most = max(passes.of_row, key=lambda label: passes.of_row[label])
    times = passes.of_row[most] / passes.of_row[BASELINE]
    longer: dict[str, Row] = {}
    for row in rows:
        if row.label in (BASELINE, ENSEMBLE) and row.label in passes.of_row:
            factor = passes.of_row[most] / passes.of_row[row.label]
            configs = tuple(with_epochs(config, factor) for config in _tuned(row, best))
            label = f"{tuned_label(row.label, best)}, {configs[0].epochs} epochs"
            if configs[0].epochs > row.configs[0].epochs:
                longer[row.label] = Row(label, configs)
    if BASELINE not in longer:
        return None
    baseline = longer[BASELINE]
    tuned = [Row(tuned_label(row.label, best), _tuned(row, best), baseline.label) for row in rows]
    others = [replace(row, against=baseline.label) for label, row in longer.items() if label != BASELINE]
    title = f"At the passes of {most}, {times:.1f} x {BASELINE}'s"
    return _table(suite, "equal-passes", title, [baseline, *others, *tuned], ranked=True)


def with_epochs(config: RunConfig, factor: float) -> RunConfig:
    """The same run with more epochs, and the steps of its learning rate at the same shares of it.

    Args:
        config: The run.
        factor: How many times its epochs, rounded to a whole number of them.
    """
    epochs = round(config.epochs * factor)
    steps = tuple(round(step * factor) for step in config.lr_steps)
    return config.model_copy(update={"epochs": epochs, "lr_steps": steps})
