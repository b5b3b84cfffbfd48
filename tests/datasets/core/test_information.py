"""The partial information decomposition: textbook cases, a brute-force minimum, and what must hold for every table."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from datasets.core.information import averaging_accuracy, best_accuracy, decompose, mutual_information


def gate(rule: Callable[[int, int], tuple[int, int, int]]) -> np.ndarray:
    """P(y, a, v) of a rule of two fair bits."""
    table = np.zeros((4, 2, 2))
    for bits in itertools.product((0, 1), repeat=2):
        table[rule(*bits)] += 0.25
    return table


AND = 0.75 * np.log2(4 / 3) + 0.25 * 2 - 0.5  # I(Y; A): H(1/4) minus half a bit


@pytest.mark.parametrize(
    ("rule", "redundant", "first", "second", "synergy"),
    [
        (lambda a, v: (a, a, a), 1, 0, 0, 0),  # RDN
        (lambda a, v: (2 * a + v, a, v), 0, 1, 1, 0),  # UNQ; I_min would say 1 bit redundant and 1 bit of synergy
        (lambda a, v: (a ^ v, a, v), 0, 0, 0, 1),  # XOR
        (lambda a, v: (a & v, a, v), AND, 0, 0, 0.5),
        (lambda a, v: (a, a, v), 0, 1, 0, 0),
    ],
)
def test_textbook_cases(
    rule: Callable[[int, int], tuple[int, int, int]], redundant: float, first: float, second: float, synergy: float
) -> None:
    parts = decompose(gate(rule))
    found = (parts.redundant, parts.unique_first, parts.unique_second, parts.synergy)
    assert found == pytest.approx((redundant, first, second, synergy), abs=1e-4)


def test_it_is_the_minimum_that_a_search_finds() -> None:
    """With two values each, a table with given marginals has one free number per class: all of them can be tried."""
    rng = np.random.default_rng(0)
    for _ in range(2):
        joint = rng.dirichlet(np.ones(8)).reshape(2, 2, 2)
        rows, columns = joint.sum(2), joint.sum(1)
        steps = []
        for r, c in zip(rows, columns, strict=True):
            low, high = max(0, r[0] - c[1]), min(r[0], c[0])
            corner = np.linspace(low, high, 61)
            steps.append(np.stack([corner, r[0] - corner, c[0] - corner, c[1] - r[0] + corner], axis=1))
        least = min(mutual_information(np.stack(pair).clip(0)) for pair in itertools.product(*steps))
        assert decompose(joint).synergy == pytest.approx(mutual_information(joint) - least, abs=1e-3)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_parts_are_not_negative_and_add_up(seed: int) -> None:
    joint = np.random.default_rng(seed).dirichlet(np.full(60, 0.3)).reshape(4, 3, 5)
    parts, turned = decompose(joint), decompose(joint.swapaxes(1, 2))
    assert min(parts.redundant, parts.unique_first, parts.unique_second, parts.synergy) > -1e-3
    assert parts.redundant + parts.unique_first == pytest.approx(mutual_information(joint.sum(2)))
    assert parts.redundant + parts.unique_second == pytest.approx(mutual_information(joint.sum(1)))
    total = parts.redundant + parts.unique_first + parts.unique_second + parts.synergy
    assert total == pytest.approx(mutual_information(joint), abs=1e-9)
    assert turned.unique_first == pytest.approx(parts.unique_second, abs=1e-3)


def test_what_separate_readers_miss() -> None:
    joint = gate(lambda a, v: (a ^ v, a, v))
    assert (best_accuracy(joint), best_accuracy(joint.sum(2)), averaging_accuracy(joint)) == (1, 0.5, 0.5)
    joint = gate(lambda a, v: (2 * a + v, a, v))
    assert (best_accuracy(joint), best_accuracy(joint.sum(2)), averaging_accuracy(joint)) == (1, 0.5, 1)
