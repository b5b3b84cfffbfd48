"""How sure a few runs make us: means with their spread, paired differences with an interval and a test, ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import SupportsFloat

import numpy as np
from scipy import stats

EXACT = 20  # differences whose 2 ** EXACT patterns of signs can all be counted, in 10 ms
DRAWS = 99_999  # patterns drawn where there are more


@dataclass(frozen=True)
class Summary:
    """n numbers. ``std`` is the sample's (n - 1); [low, high] holds the mean with 95 % confidence (Student's t).

    One number has no spread: std, low and high are NaN.
    """

    n: int
    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """``ours - theirs``, run by run. ``wins``: differences above zero (a tie is none). ``p``: ``sign_flip_p``."""

    difference: Summary
    wins: int
    p: float


def summary(values: Sequence[float]) -> Summary:
    """Raises ValueError for no values: the mean of nothing is nothing to print."""
    n = len(values)
    if n == 0:
        raise ValueError("there is no mean of no values")
    mean = float(np.mean(values))
    if n == 1:
        return Summary(1, mean, math.nan, math.nan, math.nan)
    std = float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.975, n - 1)) * std / math.sqrt(n)
    return Summary(n, mean, std, mean - half, mean + half)


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Paired:
    """Both in the same order of runs. Raises ValueError where the lengths differ."""
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    return Paired(summary(differences), sum(d > 0 for d in differences), sign_flip_p(differences))


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p of the mean under random signs: were the two methods alike, either could have been called ours.

    Up to EXACT differences every pattern of signs is counted, and p cannot fall below 2 ** (1 - n); beyond, scipy draws
    patterns with a fixed seed. NaN for one difference, whose only possible p is 1.
    """
    n = len(differences)
    if n < 2:
        return math.nan
    if n > EXACT:
        drawn = stats.permutation_test(
            (np.asarray(differences),), np.mean, permutation_type="samples", n_resamples=DRAWS, vectorized=True, rng=0
        )
        return float(drawn.pvalue)
    sums = np.zeros(1)
    for d in differences:
        sums = np.concatenate([sums + d, sums - d])  # sums[0] has every sign as it was found
    rounding = 1e-12 * float(np.abs(differences).sum())
    return float(np.mean(np.abs(sums) >= abs(sums[0]) - rounding))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction for having made all these tests (Scand. J. Statist. 6, 1979). A NaN is no test."""
    tests = sorted((p, i) for i, p in enumerate(ps) if not math.isnan(p))
    corrected, least = [math.nan] * len(ps), 0.0
    for step, (p, i) in enumerate(tests):
        least = max(least, min(1.0, p * (len(tests) - step)))
        corrected[i] = least
    return corrected


def mean_ranks(scores: Sequence[Sequence[SupportsFloat]]) -> list[float]:
    """scores[method][run] -> each method's rank (1 is the highest score; ties share), averaged over the runs."""
    return [float(r) for r in stats.rankdata(-np.asarray(scores, dtype=float), axis=0).mean(axis=1)]
