"""A table's numbers in every view that the page offers: of each measure, at each selected epoch, by each rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.config.suite import OWN, Row, Table
from benchmarks.config.units import unit_of
from benchmarks.records.record import SELECTIONS, RunRecord
from benchmarks.reporting.frames import SELECTION, Reader, score, values
from benchmarks.reporting.replication import overlap_ratio
from benchmarks.reporting.statistics import Summary, summary

Floats = NDArray[np.float64]
MEASURES = ("accuracy", "macro_f1", "mAP", "ece", "loss")
OF_EVERY_EPOCH = ("accuracy", "macro_f1", "loss")  # the others are scored at the epoch that validation selects
PERCENT = ("accuracy", "macro_f1", "mAP", "ece")
LOWER_IS_BETTER = ("ece", "loss")
PARTS = ("mean", "std", "low", "high", "difference", "difference_low", "difference_high", "wins", "pairs")
POINTS = 40  # of a curve on the page
CURVES = ("test/accuracy", "val/accuracy", "test/loss", "train/loss/fused")
CURVES_BY_MODALITY = ("test/accuracy", "train/discrepancy_ratio", "train/coefficient")


def views(table: Table, records: Mapping[str, RunRecord]) -> list[dict[str, Any]]:
    """What a reader may choose to see of a table.

    Args:
        table: Its rows and their runs.
        records: Key -> record.

    Returns:
        For each view with a number in any row: ``measure``, ``selection``, ``rule``, and ``rows``, in the table's
        order: the PARTS of each, None for what it has not; rows that the view does not have are None. ``own`` is the
        rule that each row names, so that only the other rules leave out rows that name one themselves. Percentages,
        but for the loss. Intervals are those of ``statistics.summary`` over the units; differences are to the row
        compared with. There is no test: the table's own is of accuracy, at the epoch that validation selects.
    """
    found = [records[c.key] for row in table.rows for c in row.configs if c.key in records]
    rules = sorted({rule for r in found for rule in r.scores.get("test", {})} - {OWN})
    choices = [(measure, SELECTION, rule) for rule in (OWN, *rules) for measure in MEASURES]
    choices += [(measure, s, OWN) for s in SELECTIONS if s != SELECTION for measure in OF_EVERY_EPOCH]
    units = {row.label: _units(row) for row in table.rows}
    ratios = {row.label: overlap_ratio(row.configs, records) for row in table.rows}
    out = []
    for measure, selection, rule in choices:
        scale = 100.0 if measure in PERCENT else 1.0
        of_row = {
            row.label: scale * np.array(numbers)
            for row in table.rows
            if (read := _reader(row, measure, selection, rule)) and (numbers := values(row, records, read))
        }
        if of_row:
            rows = [_parts(row, of_row, units, ratios[row.label], measure) for row in table.rows]
            out.append({"measure": measure, "selection": selection, "rule": rule, "rows": rows})
    return out


def _reader(row: Row, measure: str, selection: str, rule: str) -> Reader | None:
    """Where a record has a number of this row; None where the row does not belong in the view."""
    if rule != OWN and row.rule != OWN:
        return None
    used = row.rule if rule == OWN else rule
    if used == OWN and measure in OF_EVERY_EPOCH:
        return lambda r: r.test.get(selection, {}).get(measure)
    return score(used, measure) if selection == SELECTION else None


def _units(row: Row) -> list[int]:
    """The number of each run's unit of replication."""
    number: dict[Any, int] = {}
    return [number.setdefault(unit_of(c.dataset_args), len(number)) for c in row.configs]


def _parts(
    row: Row, of_row: Mapping[str, Floats], units: Mapping[str, Sequence[int]], ratio: float, measure: str
) -> list[float | None] | None:
    if row.label not in of_row:
        return None
    ours = of_row[row.label]
    runs, over_units = summary(list(ours)), summary(_by_unit(ours, units[row.label]), ratio)
    found = [runs.mean, runs.std, over_units.low, over_units.high]
    theirs = of_row.get(row.against) if row.against is not None else None
    if theirs is not None and len(theirs) == len(ours):
        several = len(set(units[row.label])) > 1
        difference = ours - theirs
        numbers = _by_unit(difference, units[row.label]) if several else list(difference)
        spread: Summary = summary(numbers, ratio)
        better = [x < 0 if measure in LOWER_IS_BETTER else x > 0 for x in numbers]
        ends = [spread.low, spread.high] if several else [math.nan, math.nan]
        found += [spread.mean, *ends, float(sum(better)), float(len(numbers))]
    return [rounded(x) for x in (*found, *[math.nan] * (len(PARTS) - len(found)))]


def _by_unit(numbers: Floats, units: Sequence[int]) -> list[float]:
    """The mean over the runs of each unit."""
    sums, counts = np.bincount(units, weights=numbers), np.bincount(units)
    return [float(x) for x in sums / counts]


def rounded(number: Any, digits: int = 4) -> float | None:
    """A number for the page; None where there is none. Whole numbers are written without a point."""
    if number is None or not math.isfinite(number):
        return None
    short = round(float(number), digits)
    return int(short) if short == int(short) else short


def row_curves(row: Row, records: Mapping[str, RunRecord], modalities: Sequence[str]) -> dict[str, Any]:
    """The course of training: mean and standard deviation over a row's runs.

    Args:
        row: The row. One whose runs are not all done has no curves.
        records: Key -> record.
        modalities: Whose curves are wanted.

    Returns:
        ``epochs``, at most POINTS of them, from 1; and ``curves``: name -> [means, stds] at these epochs, accuracies
        in percent. No std of a single run. Empty where there are not two epochs.
    """
    found = [records.get(c.key) for c in row.configs]
    done = [r for r in found if r is not None and r.status == "done"]
    length = len(done[0].curves.get("test/accuracy", ())) if done else 0
    if len(done) < len(found) or length < 2:
        return {}
    shown = np.unique(np.linspace(0, length - 1, min(length, POINTS)).round().astype(int))
    curves = {}
    for name in (*CURVES, *(f"{curve}/{m}" for curve in CURVES_BY_MODALITY for m in modalities)):
        series = [r.curves.get(name, ()) for r in done]
        if all(len(x) == length for x in series):
            numbers = np.array(series, dtype=float)[:, shown] * (100 if "accuracy" in name else 1)
            std = [_short(x, name) for x in numbers.std(axis=0, ddof=1)] if len(done) > 1 else []
            curves[name] = [[_short(x, name) for x in numbers.mean(axis=0)], std]
    return {"epochs": [int(e) + 1 for e in shown], "curves": curves}


def _short(number: float, curve: str) -> float | None:
    """A point of a curve: a tenth of a percent, or three digits."""
    if not math.isfinite(number):
        return None
    return rounded(number, 1) if "accuracy" in curve else rounded(float(f"{number:.3g}"), 8)
