"""Means, intervals, paired tests and ranks, against scipy, against counting by hand, and at their edges."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.reporting.statistics import holm, mean_ranks, paired, sign_flip_p, summary

OURS = [0.841, 0.853, 0.829, 0.860, 0.847]
THEIRS = [0.799, 0.812, 0.801, 0.790, 0.848]


def test_summary_is_numpys_mean_and_scipys_interval() -> None:
    found = summary(OURS)
    interval = stats.ttest_1samp(OURS, 0).confidence_interval(0.95)
    assert found.n == 5
    assert found.mean == pytest.approx(np.mean(OURS))
    assert found.std == pytest.approx(np.std(OURS, ddof=1))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_one_value_has_a_mean_and_no_spread() -> None:
    found = summary([0.5])
    assert (found.n, found.mean) == (1, 0.5)
    assert all(math.isnan(x) for x in (found.std, found.low, found.high))


def test_no_values_have_no_mean() -> None:
    with pytest.raises(ValueError, match="no values"):
        summary([])


def test_paired_is_scipys_paired_interval() -> None:
    found = paired(OURS, THEIRS)
    interval = stats.ttest_rel(OURS, THEIRS).confidence_interval(0.95)
    assert (found.difference.low, found.difference.high) == pytest.approx((interval.low, interval.high))
    assert found.wins == 4
    assert found.difference.mean == pytest.approx(np.mean(OURS) - np.mean(THEIRS))


def test_paired_needs_pairs() -> None:
    with pytest.raises(ValueError):
        paired([1.0, 2.0], [1.0])


def test_equal_results_differ_by_nothing() -> None:
    found = paired(OURS, OURS)
    assert (found.difference.mean, found.difference.low, found.difference.high) == (0, 0, 0)
    assert (found.wins, found.p) == (0, 1.0)


@pytest.mark.parametrize(
    "differences", [[1.0, 2.0, 3.0], [1.0, -1.0, 2.0], [0.1, 0.2, -0.3, 0.0], [0.031, -0.002, 0.04, 0.022, 0.011]]
)
def test_sign_flip_counts_every_pattern(differences: list[float]) -> None:
    patterns = itertools.product([1, -1], repeat=len(differences))
    sums = [abs(math.fsum(s * d for s, d in zip(signs, differences, strict=True))) for signs in patterns]
    expected = sum(x >= abs(math.fsum(differences)) - 1e-12 for x in sums) / len(sums)
    assert sign_flip_p(differences) == pytest.approx(expected)
    theirs = stats.permutation_test((np.array(differences),), np.mean, permutation_type="samples", n_resamples=math.inf)
    assert sign_flip_p(differences) == pytest.approx(theirs.pvalue)


def test_sign_flip_knows_its_limits() -> None:
    assert sign_flip_p([1.0, 2.0, 3.0]) == 0.25  # the least that three pairs can give
    assert math.isnan(sign_flip_p([1.0]))


def test_many_differences_are_drawn_and_drawn_alike() -> None:
    differences = list(np.random.default_rng(1).normal(0.3, 1, 30))
    p = sign_flip_p(differences)
    assert p == sign_flip_p(differences)
    assert p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.02)


def test_holm_by_hand() -> None:
    # ordered .01 .03 .04 -> .01 x 3, .03 x 2, max(.04 x 1, .06)
    assert holm([0.04, 0.01, math.nan, 0.03])[:2] == pytest.approx([0.06, 0.03])
    assert holm([0.04, 0.01, math.nan, 0.03])[3] == pytest.approx(0.06)
    assert math.isnan(holm([0.04, 0.01, math.nan, 0.03])[2])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_mean_ranks_by_hand() -> None:
    # run 0: b, a, c; run 1: a and b share the first two places, c last
    assert mean_ranks([[0.8, 0.9], [0.9, 0.9], [0.1, 0.2]]) == [1.75, 1.25, 3.0]
