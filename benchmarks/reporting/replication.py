"""What a table's units of replication are, what they allow to conclude, and the notes that say so."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.config.run_config import RunConfig
from benchmarks.config.units import DRAWS, RESPLITS, overlapping, unit_of
from benchmarks.records.record import RunRecord
from benchmarks.reporting.statistics import LEAST_UNITS, LEVEL, units_needed

DIFFERENCE = "percentage points, paired by unit: mean"
INTERVAL = " [95 % confidence interval of the mean, Student's t over units]"
CORRECTED = (
    " [95 % confidence interval of the mean, corrected resampled t over splits (Nadeau and Bengio 2003): their "
    "variance times 1/{units} + {ratio:.3g}, which is samples tested on to samples trained on]"
)
RANGE = " (the least to the greatest difference)"
GROUP = " group: settings that share a letter cannot be told apart ({} of all pairs, Holm-corrected for all of them)."
TEST = "; p: two-sided {}, Holm-corrected for all comparisons of all tables here"
SIGN_FLIP, RESAMPLED = "sign-flip permutation test over units", "corrected resampled t-test over splits"


def overlap_ratio(configs: Sequence[RunConfig], records: Mapping[str, RunRecord]) -> float:
    """The ``ratio`` that ``benchmarks.reporting.statistics`` takes.

    Args:
        configs: The runs of one row, or of rows that share their units.
        records: Key -> record; its data report has the numbers of samples.

    Returns:
        0 for independent draws of the data. For splits of one data set: samples tested on to samples trained on,
        averaged over the runs, where samples that share a recording count as one; NaN where a record does not say it.
    """
    if not overlapping({unit_of(c.dataset_args) for c in configs}):
        return 0.0
    reports = [records[c.key].data.get("report", {}) for c in configs if c.key in records]
    if not reports or any(not {"train", "test"} <= report.keys() for report in reports):
        return math.nan
    return float(np.mean([_independent(report["test"]) / _independent(report["train"]) for report in reports]))


def _independent(report: Mapping[str, Any]) -> int:
    return int(report.get("independent", report["found"]))


def unit_note(configs: Sequence[RunConfig]) -> str:
    """What the unit is, and how many there are."""
    units = {unit_of(c.dataset_args) for c in configs}
    if overlapping(units):
        varied = ", ".join(n for n in (*DRAWS, *RESPLITS) if len({dict(unit).get(n) for unit in units}) > 1)
        return (
            f"a split of one data set ({varied}); there are {len(units)}. They share samples to train on, so they are "
            "no independent draws of the data. Runs on the same split are averaged first."
        )
    if len(units) > 1:
        return f"a draw of the data (data_seed); there are {len(units)}. Runs on the same data are averaged first."
    return (
        "a draw of the data; there is one, so the numbers do not say how far they carry over to other data. Runs "
        "differ in their training seeds alone."
    )


def difference_note(numbers: pd.DataFrame, units: int, ratio: float) -> str:
    """How differences were compared and, where units are too few for an interval, how many it would take.

    Args:
        numbers: The table's frame.
        units: How many there are.
        ratio: Their ``overlap_ratio``.
    """
    tested = int(numbers["p_holm"].notna().sum())
    text = DIFFERENCE if units > 1 else "percentage points, paired by training seed: mean"
    spans = units >= LEAST_UNITS and not math.isnan(ratio)
    text += (CORRECTED.format(units=units, ratio=ratio) if ratio else INTERVAL) if spans else RANGE
    text += f"; wins: {'units' if units > 1 else 'runs'} with a higher accuracy"
    if tested:
        return f"{text}{TEST.format(RESAMPLED if ratio else SIGN_FLIP)} ({tested} in this table)."
    if math.isnan(ratio) and units >= LEAST_UNITS:
        return (
            f"{text}. No interval and no p-value: the records do not say how many samples they trained and tested on."
        )
    text += ". No p-value: " + _why_no_test(units, ratio, several=bool(numbers["p"].notna().any()))
    if units >= LEAST_UNITS:
        return f"{text}."
    text += f". No interval: it takes at least {LEAST_UNITS} units"
    if units == 1:
        return f"{text}; how many to find 1 point, one unit cannot tell."
    variances = numbers["difference_std"].dropna() ** 2
    if variances.empty or ratio:
        return f"{text}."
    std = math.sqrt(variances.mean())
    return (
        f"{text}. As the differences vary here (by {std:.1f} points between units, root mean square of the rows), "
        f"{units_needed(std)} units find a difference of 1 point with 80 % power (paired t-test, 5 %, one comparison)."
    )


def _why_no_test(units: int, ratio: float, *, several: bool) -> str:
    if units == 1:
        return "runs on the same data are no replication"
    if several:
        return f"corrected for all comparisons here, none below {LEVEL} could be had with {units} units"
    if not ratio:
        return f"with {units} units none below 0.05 could be had"
    return f"it takes at least {LEAST_UNITS} splits" if units < LEAST_UNITS else "no comparison is complete"


def rank_note(numbers: pd.DataFrame, units: int, ratio: float) -> str:
    """What ranks are averaged over, and what tells the groups apart; arguments as of ``difference_note``."""
    interval = " [95 % interval, bootstrap over units]" if units >= LEAST_UNITS and ratio == 0 else ""
    averaged = f" mean rank: averaged over the units{interval}." if units > 1 else ""
    tests = "corrected resampled t-tests" if ratio else "sign-flip tests"
    grouped = GROUP.format(tests) if (numbers["group"] != "").any() else ""
    return f"by accuracy; equal hits share a rank.{averaged}{grouped}"
