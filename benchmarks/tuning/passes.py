"""What a run costs in passes through encoders, so that methods can be compared at equal cost.

A pass is one sample going forward or backward through one encoder. Records that counted them are believed. Where a
record has no counts, a method's own statement (``Strategy.passes``) stands in: passes of a step, times epochs, and
those of the runs that it builds on; what a method does between epochs is not in it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.config.suite import Trial
from benchmarks.records.passes import passes
from benchmarks.records.record import RunRecord, write_whole
from benchmarks.runner.experiment import Experiment, resolve


@dataclass(frozen=True)
class Passes:
    """What the rows of a comparison cost.

    Args:
        of_row: Row -> passes of one of its runs, with those of the runs that it builds on. Only rows with a result.
        measured: Whether they were counted while the runs were made; otherwise they are what the methods state.
    """

    of_row: Mapping[str, float]
    measured: bool


def passes_of(rows: Mapping[str, Trial], records: Mapping[str, RunRecord]) -> Passes:
    """Find out what the rows of a comparison cost, all of them in the same way.

    Args:
        rows: Row -> the trial with its settings.
        records: Key -> record, of the trials' runs.
    """
    made = {label: [records[c.key] for c in trial.configs if c.key in records] for label, trial in rows.items()}
    done = {label: found for label, found in made.items() if found and all(r.status == "done" for r in found)}
    counts = {
        label: [count for record in found if (count := passes(record)) is not None] for label, found in done.items()
    }
    if all(len(counts[label]) == len(found) for label, found in done.items()):
        return Passes({label: sum(count) / len(count) for label, count in counts.items()}, True)
    return Passes({label: declared(resolve(rows[label].configs[0])) for label in done}, False)


def declared(experiment: Experiment) -> float:
    """The passes that a method states, per training sample, over all epochs, with those of the runs it builds on.

    A backward pass goes back through every encoder that was called, but not through more than there are.
    """
    step = experiment.strategy.passes(len(experiment.encoders))
    own = step.forward + step.backward * min(step.forward, len(experiment.encoders))
    before = {p.experiment.key: p.experiment for p in experiment.prerequisites.values()}
    return float(own * experiment.epochs) + sum(map(declared, before.values()))


def write_passes(costs: Passes, baseline: str, folder: Path) -> Path:
    """Write passes.csv: what each row costs, how often it costs what the baseline does, and how that is known.

    Args:
        costs: What the rows cost.
        baseline: The row that the others are compared with.
        folder: The results folder.

    Returns:
        The file.

    Raises:
        Unwritable: The file cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("method", "passes", "times_baseline", "source"))
    source = "counted" if costs.measured else "stated, per training sample"
    for label, number in costs.of_row.items():
        times = f"{number / costs.of_row[baseline]:.3f}" if baseline in costs.of_row else ""
        table.writerow((label, f"{number:g}", times, source))
    path = folder / "passes.csv"
    write_whole(path, text.getvalue())
    return path
