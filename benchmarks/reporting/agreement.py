"""Whether two results folders rank methods alike: rank correlations of mean accuracies, with an interval."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.config.run_config import RunConfig
from benchmarks.config.suite import Table
from benchmarks.records.record import RunRecord
from benchmarks.records.store import records_by_key
from benchmarks.records.suite_file import read
from benchmarks.reporting.frames import SELECTION, exact_accuracies, state, unit_means
from benchmarks.reporting.replication import overlap_ratio
from benchmarks.reporting.statistics import LEAST_UNITS, LEVEL, RESAMPLES

LEAST_ROWS = 3  # in common: two can only be in the same or in the opposite order
SEED = 0  # of the bootstrap, always
DIGITS = 9  # of means in percent that are compared: equal means stay equal however they were added up


@dataclass(frozen=True)
class Ranking:
    """The complete rows of a folder's ranked table.

    Args:
        folder: Where they were read.
        scores: Row label -> the accuracy in percent in each unit; the units are the same for all rows.
        left_out: Row label -> why it has no mean.
        overlap: 0 where units are independent draws of the data; for splits of one data set, samples tested on to
            samples trained on (``overlap_ratio``); NaN where that is not known.
    """

    folder: Path
    scores: Mapping[str, Sequence[float]]
    left_out: Mapping[str, str]
    overlap: float

    @property
    def units(self) -> int:
        """How many draws or splits of the data there are."""
        return len(next(iter(self.scores.values()), ()))


@dataclass(frozen=True)
class Correlation:
    """A rank correlation and the ends of its 95 % interval; NaN where there is none."""

    value: float
    low: float
    high: float


def read_ranking(folder: Path) -> Ranking:
    """The accuracies, at the epoch that validation selected, of the one ranked table of a folder.

    Args:
        folder: A folder that ``compare`` made.

    Returns:
        Its rows that are complete; the others are named in ``left_out``.

    Raises:
        ValueError: There is no suite.json, or not one ranked table, or its runs were shortened.
    """
    made = read(folder)
    if made and made.suite.quick:
        raise ValueError(f"{folder}: its runs were shortened (--quick), and rank nothing")
    ranked = [table for table in made.suite.tables if table.ranked] if made else []
    if len(ranked) != 1:
        raise ValueError(f"{folder}: it has {len(ranked)} ranked tables, but must have one, as compare makes it")
    return ranking(folder, ranked[0], records_by_key(folder))


def ranking(folder: Path, table: Table, records: Mapping[str, RunRecord]) -> Ranking:
    """As ``read_ranking``, of a table and records that have been read already."""
    scores, left_out = {}, {}
    configs: list[RunConfig] = []
    for row in table.rows:
        accuracies = exact_accuracies(row, records, SELECTION)
        if accuracies is None:
            left_out[row.label] = state(row, records)
        else:
            scores[row.label] = [float(100 * a) for a in unit_means(row, accuracies)]
            configs += row.configs
    return Ranking(folder, scores, left_out, overlap_ratio(configs, records))


def correlations(first: Ranking, second: Ranking) -> dict[str, Correlation]:
    """Spearman's rho and Kendall's tau-b of the mean accuracies of the rows that both have.

    The interval is the percentile bootstrap's. Units are resampled within each folder, independently of the other
    folder, and within a folder for all rows together, since rows are paired by unit. Resampling adds noise to means
    that have some already, so where methods are close the interval lies lower than one for noiseless means would.
    Splits of one data set share samples to train on, so their means vary more than those of independent units do.
    The deviation of a resample of n splits from the mean is multiplied by sqrt(1 + n overlap), which gives it the
    variance that Nadeau and Bengio (2003) derive.

    Args:
        first: One folder.
        second: The other one.

    Returns:
        ``rho`` and ``tau``. No interval where a folder has fewer than LEAST_UNITS units, or an ``overlap`` that is NaN.

    Raises:
        ValueError: They have fewer than LEAST_ROWS rows in common.
    """
    common = [label for label in first.scores if label in second.scores]
    if len(common) < LEAST_ROWS:
        raise ValueError(
            f"{first.folder} and {second.folder} have {len(common)} complete rows in common; it takes {LEAST_ROWS}"
        )
    scores = [np.array([one.scores[label] for label in common]) for one in (first, second)]
    means = [s.mean(1)[None] for s in scores]
    resampled = None
    if all(one.units >= LEAST_UNITS and not math.isnan(one.overlap) for one in (first, second)):
        rng = np.random.default_rng(SEED)
        resampled = [_resampled_means(rng, s, one.overlap) for s, one in zip(scores, (first, second), strict=True)]
    found = {}
    for name, correlate in (("rho", spearman), ("tau", kendall)):
        low, high = math.nan, math.nan
        if resampled:
            # NaN where all means of a resample are equal, so that there is no order to compare
            low, high = np.nanquantile(correlate(*resampled), [LEVEL / 2, 1 - LEVEL / 2])
        found[name] = Correlation(float(correlate(*means)[0]), float(low), float(high))
    return found


def _resampled_means(rng: np.random.Generator, scores: np.ndarray, overlap: float) -> np.ndarray:
    """(RESAMPLES, rows): means over units that are drawn with replacement, of scores (rows, units)."""
    n = scores.shape[1]
    weights = rng.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
    mean = scores.mean(1)
    means: np.ndarray = mean + math.sqrt(1 + n * overlap) * (weights @ scores.T - mean)
    return means


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's rho of each line, (B,), of means (B, rows); ties share their mean rank; NaN where all are equal."""
    ranks = [stats.rankdata(x.round(DIGITS), axis=1) - (x.shape[1] + 1) / 2 for x in (first, second)]
    return _cosine(*ranks)


def kendall(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of each line, (B,), of means (B, rows); NaN where all are equal."""
    above, below = np.triu_indices(first.shape[1], 1)
    signs = [np.sign(x[:, above] - x[:, below]) for x in (first.round(DIGITS), second.round(DIGITS))]
    return _cosine(*signs)


def _cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    both, sizes = (first * second).sum(1), (first**2).sum(1) * (second**2).sum(1)
    cosine: np.ndarray = np.divide(both, np.sqrt(sizes), out=np.full(len(both), math.nan), where=sizes > 0)
    return cosine


def agreement_frame(rankings: Sequence[Ranking]) -> pd.DataFrame:
    """One row per two folders: how many rows and units, rho and tau with the ends of their intervals."""
    lines = []
    for first, second in itertools.combinations(rankings, 2):
        line: dict[str, Any] = {"first": str(first.folder), "second": str(second.folder)}
        line |= {"rows": len(first.scores.keys() & second.scores.keys())}
        line |= {"units_first": first.units, "units_second": second.units}
        for name, found in correlations(first, second).items():
            line |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        lines.append(line)
    return pd.DataFrame(lines)


def matrix(frame: pd.DataFrame, name: str, folders: int) -> list[str]:
    """The correlations of every two of so many folders, in lines of text; they are numbered from 1 in their order."""
    cells = [["1" if i == j else "" for j in range(folders)] for i in range(folders)]
    pairs = itertools.combinations(range(folders), 2)
    for (i, j), line in zip(pairs, frame.to_dict("records"), strict=True):
        value, low, high = (line[column] for column in (name, f"{name}_low", f"{name}_high"))
        ends = "" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]"
        cells[i][j] = cells[j][i] = ("-" if math.isnan(value) else f"{value:.2f}") + ends
    head = [name, *(str(i + 1) for i in range(folders))]
    table = [head, *([str(i + 1), *row] for i, row in enumerate(cells))]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]
