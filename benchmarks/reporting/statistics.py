"""What a few units of replication allow to say: means, paired differences with an interval and a test, ranks.

A unit is a draw of the data, or one split of a data set that is always the same (see ``benchmarks.config.units``);
runs on the same data are averaged before anything here sees them.

Splits of one data set share samples to train on. Student's t and the sign-flip test take units as independent and claim
too much there, the more so the more splits there are. So functions take a ``ratio``, samples tested on to samples
trained on, for the corrected resampled t-test of Nadeau and Bengio (Machine Learning 52, 2003): the variance of the
mean of J differences is their variance times 1/J + ratio. A ratio of 0 stands for independent units; NaN for splits
whose ratio no record says, which get neither interval nor test.
"""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import SupportsFloat

import numpy as np
from scipy import stats

LEVEL = 0.05  # of every test and, as 1 - LEVEL, every interval
LEAST_UNITS = 5  # for an interval; with fewer, mean and range are all there is to say
POWER = 0.8  # at which ``units_needed`` plans
EXACT = 20  # differences whose 2 ** EXACT patterns of signs can all be counted, in 10 ms
DRAWS = 99_999  # patterns drawn where there are more
RESAMPLES = 9_999  # of the bootstrap


@dataclass(frozen=True)
class Summary:
    """n numbers.

    Args:
        n: How many.
        mean: Their mean.
        std: The sample's standard deviation (n - 1); NaN for one number.
        low: The lower end of the mean's 95 % interval (Student's t, for splits corrected); NaN for fewer than
            LEAST_UNITS numbers.
        high: Its upper end.
        least: The smallest number.
        greatest: The largest.
    """

    n: int
    mean: float
    std: float
    low: float
    high: float
    least: float
    greatest: float


@dataclass(frozen=True)
class Paired:
    """``ours - theirs``, unit by unit.

    Args:
        difference: The differences.
        wins: How many are above zero (a tie is none).
        improvement: The probability that ours is better in a unit, as observed; a tie counts half.
        p: ``difference_p``.
    """

    difference: Summary
    wins: int
    improvement: float
    p: float


def summary(values: Sequence[float], ratio: float = 0.0) -> Summary:
    """Raises ValueError for no values: the mean of nothing is nothing to print. For ``ratio`` see the module."""
    n = len(values)
    if n == 0:
        raise ValueError("there is no mean of no values")
    mean = float(np.mean(values))
    std = float(np.std(values, ddof=1)) if n > 1 else math.nan
    half = _quantile(n - 1) * std * math.sqrt(1 / n + ratio) if n >= LEAST_UNITS else math.nan
    return Summary(n, mean, std, mean - half, mean + half, min(values), max(values))


@cache
def _quantile(freedom: int) -> float:
    """Of Student's t, for a two-sided interval. Remembered: scipy takes a tenth of a millisecond."""
    return float(stats.t.ppf(1 - LEVEL / 2, freedom))


def paired(ours: Sequence[float], theirs: Sequence[float], ratio: float = 0.0) -> Paired:
    """Both in the same order of units. Raises ValueError where the lengths differ. For ``ratio`` see the module."""
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    wins, ties = sum(d > 0 for d in differences), sum(d == 0 for d in differences)
    found = summary(differences, ratio)
    return Paired(found, wins, (wins + ties / 2) / found.n, difference_p(differences, ratio))


def difference_p(differences: Sequence[float], ratio: float = 0.0) -> float:
    """Two-sided p of the mean: ``sign_flip_p`` over independent units, ``resampled_t_p`` over splits."""
    return sign_flip_p(differences) if ratio == 0 else resampled_t_p(differences, ratio)


def resampled_t_p(differences: Sequence[float], ratio: float) -> float:
    """Two-sided p of the corrected resampled t-test, which fits the interval of ``summary``.

    Random signs would not do here: splits that share samples to train on do not change their signs independently. The
    ratio stands for a correlation of the splits that cannot be estimated from them; the test is therefore approximate,
    and rather too careful where the splits are the folds of one division.

    Args:
        differences: One per split.
        ratio: See the module.

    Returns:
        p with one degree of freedom less than there are splits; NaN for fewer than LEAST_UNITS, and where the ratio is.
    """
    n = len(differences)
    if n < LEAST_UNITS or math.isnan(ratio):
        return math.nan
    mean, std = float(np.mean(differences)), float(np.std(differences, ddof=1))
    if std == 0:
        return float(mean == 0)
    return float(2 * stats.t.sf(abs(mean) / (std * math.sqrt(1 / n + ratio)), n - 1))


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p of the mean under random signs: were the two methods alike, either could have been called ours.

    Up to EXACT differences every pattern of signs is counted, and p cannot fall below 2 ** (1 - n); beyond, scipy draws
    patterns with a fixed seed. NaN where even the least attainable p is not below LEVEL: such a test cannot find
    anything, so it is none.
    """
    n = len(differences)
    if n == 0 or 2.0 ** (1 - n) >= LEVEL:
        return math.nan
    if n > EXACT:
        sums = np.append(math.fsum(differences), _signs(n) @ np.asarray(differences))
    else:
        sums = np.zeros(1)
        for d in differences:
            sums = np.concatenate([sums + d, sums - d])
    rounding = 1e-12 * float(np.abs(differences).sum())
    return float(np.mean(np.abs(sums) >= abs(sums[0]) - rounding))  # sums[0] has every sign as it was found


@cache
def _signs(n: int) -> np.ndarray:
    """DRAWS patterns of n signs: the same for all comparisons, of which a ranking makes hundreds."""
    return np.random.default_rng(0).choice(np.array([-1.0, 1.0]), (DRAWS, n))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction for having made all these tests (Scand. J. Statist. 6, 1979). A NaN is no test."""
    tests = sorted((p, i) for i, p in enumerate(ps) if not math.isnan(p))
    corrected, least = [math.nan] * len(ps), 0.0
    for step, (p, i) in enumerate(tests):
        least = max(least, min(1.0, p * (len(tests) - step)))
        corrected[i] = least
    return corrected


def units_needed(std: float, difference: float = 1.0) -> int:
    """How many units a paired two-sided t-test needs to find a difference with probability POWER.

    Args:
        std: Standard deviation of the paired differences between units, in points.
        difference: The true mean difference that is to be found, in points.

    Returns:
        The least number, at least LEAST_UNITS.
    """

    def power(n: int) -> float:
        centre, critical = difference / std * math.sqrt(n), stats.t.ppf(1 - LEVEL / 2, n - 1)
        return float(stats.nct.sf(critical, n - 1, centre) + stats.nct.cdf(-critical, n - 1, centre))

    if std == 0:
        return LEAST_UNITS
    high = LEAST_UNITS
    while power(high) < POWER:
        high *= 2
    low = max(high // 2, LEAST_UNITS - 1)  # too few, or one less than the least
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high


def mean_ranks(scores: Sequence[Sequence[SupportsFloat]], ratio: float = 0.0) -> list[Summary]:
    """Each method's rank, averaged over the units.

    Args:
        scores: scores[method][unit]; rank 1 is the highest score in a unit, and ties share a rank.
        ratio: See the module.

    Returns:
        A summary of each method's ranks. The interval is the percentile bootstrap's over units, all methods together,
        with a fixed seed (ranks are bounded and skewed, so Student's t does not fit them). It takes units as
        independent, so there is none over splits.
    """
    ranks = stats.rankdata(-np.asarray(scores, dtype=float), axis=0)
    methods, n = ranks.shape
    low = high = np.full(methods, math.nan)
    if n >= LEAST_UNITS and ratio == 0:
        drawn = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
        low, high = np.quantile(ranks[:, drawn].mean(axis=2), [LEVEL / 2, 1 - LEVEL / 2], axis=1)
    std = ranks.std(axis=1, ddof=1) if n > 1 else np.full(methods, math.nan)
    columns = (ranks.mean(axis=1), std, low, high, ranks.min(axis=1), ranks.max(axis=1))
    return [Summary(n, *(float(x) for x in row)) for row in zip(*columns, strict=True)]


def groups(scores: Sequence[Sequence[SupportsFloat]], ratio: float = 0.0) -> list[str]:
    """Which methods cannot be told apart: those that share a letter (Piepho, J. Comput. Graph. Stat. 13, 2004).

    Args:
        scores: scores[method][unit], the best method first.
        ratio: See the module.

    Returns:
        Each method's letters, the best group's first. Every pair is compared by ``difference_p``, with Holm's
        correction for all pairs; empty texts where the units are too few for one that could find a difference.
    """
    numbers = np.asarray(scores, dtype=float)
    pairs = list(itertools.combinations(range(len(numbers)), 2))
    ps = holm([difference_p(list(numbers[i] - numbers[j]), ratio) for i, j in pairs])
    if all(math.isnan(p) for p in ps) or (ratio == 0 and 2.0 ** (1 - numbers.shape[1]) * len(pairs) >= LEVEL):
        return [""] * len(numbers)
    alike = [set(range(len(numbers)))]
    for (i, j), p in zip(pairs, ps, strict=True):
        if p < LEVEL:
            split = [part for group in alike for part in ([group - {i}, group - {j}] if {i, j} <= group else [group])]
            distinct = [group for k, group in enumerate(split) if group not in split[:k]]
            alike = [group for group in distinct if not any(group < other for other in distinct)]
    alike.sort(key=lambda group: sorted(group))
    return [" ".join(_letter(k) for k, group in enumerate(alike) if i in group) for i in range(len(numbers))]


def _letter(number: int) -> str:
    """Letters from a to z, then aa, ab, ..."""
    rest, last = divmod(number, 26)
    return (_letter(rest - 1) if rest else "") + string.ascii_lowercase[last]
