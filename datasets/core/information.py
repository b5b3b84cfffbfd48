"""What two discrete variables tell about a class: mutual information, its partial decomposition, best accuracies.

A table here is a joint distribution P(y, a, v), an array (Y, A, V) that sums to 1: the class first, then what the first
and what the second modality shows. All information is in bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SWEEPS, STEPS = 100, 3000  # at most so many, of proportional fitting and of the alternation around it
FITTED, SETTLED = 1e-9, 1e-7  # largest error of a marginal (a probability), smallest change of information (bits)


@dataclass(frozen=True)
class Decomposition:
    """A partial information decomposition, in bits. The four parts add up to ``pair``.

    ``first`` and ``second`` are what each modality tells alone: redundant + its unique part.
    """

    first: float
    second: float
    pair: float
    redundant: float
    unique_first: float
    unique_second: float
    synergy: float


def mutual_information(joint: np.ndarray) -> float:
    """The mutual information I(Y; X) in bits.

    Args:
        joint: P(y, x), (Y, ...) with any number of axes for x.
    """
    p = joint.reshape(len(joint), -1)
    y, x = np.nonzero(p)
    shared = np.log2(p[y, x]) - np.log2(p.sum(1)[y]) - np.log2(p.sum(0)[x])
    return float((p[y, x] * shared).sum())


def decompose(joint: np.ndarray) -> Decomposition:
    """Redundant, unique and synergistic information by the definition of Bertschinger et al. (2014), known as BROJA.

    The modalities' synergy is the information that is lost when the pair's distribution is replaced by the one that
    tells least about the class, among all in which each modality alone is related to the class as before. That
    distribution is found by the alternating minimisation of Banerjee et al. (2018, algorithm 1), which converges to the
    global minimum; values are right to about 1e-3 bits.

    The older measure I_min of Williams and Beer (2010) is not used: it calls it redundancy when two modalities tell
    equally much, even of two unrelated bits.

    Args:
        joint: P(y, a, v), (Y, A, V).

    References:
        Bertschinger, Rauh, Olbrich, Jost, Ay: Quantifying Unique Information, Entropy 16, 2014.
        Banerjee, Rauh, Montúfar: Computing the Unique Information, ISIT 2018 (arXiv 1709.07487).
    """
    first, second = mutual_information(joint.sum(2)), mutual_information(joint.sum(1))
    pair, least = mutual_information(joint), mutual_information(_least_informative(joint))
    return Decomposition(
        first, second, pair, first + second - least, least - second, least - first, max(0.0, pair - least)
    )


def _least_informative(joint: np.ndarray) -> np.ndarray:
    """The table with the same P(y, a) and P(y, v) in which the pair tells least about the class, (Y, A, V)."""
    weight, rows, columns = (joint.sum(axis, keepdims=True) for axis in ((1, 2), 2, 1))
    table = _ratio(rows * columns, weight)
    before = np.inf
    for _ in range(STEPS):
        now = mutual_information(table)
        if before - now < SETTLED:
            break
        before = now
        table = _fitted(weight * table.sum(0), rows, columns)
    return table


def _fitted(table: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Iterative proportional fitting of each class's (A, V) to its ``rows`` (Y, A, 1) and ``columns`` (Y, 1, V)."""
    for _ in range(SWEEPS):
        table = table * _ratio(rows, table.sum(2, keepdims=True))
        sums = table.sum(1, keepdims=True)
        table = table * _ratio(columns, sums)
        if np.abs(sums - columns).max() < FITTED:
            break
    return table


def _ratio(wanted: np.ndarray, given: np.ndarray) -> np.ndarray:
    """``wanted`` / ``given``, and 0 where ``given`` is 0. The first has the shape of the result."""
    ratio: np.ndarray = np.divide(wanted, given, out=np.zeros_like(wanted), where=given > 0)
    return ratio


def best_accuracy(joint: np.ndarray) -> float:
    """The accuracy of the Bayes classifier, which knows the table and names the most probable class.

    Args:
        joint: P(y, x), (Y, ...) with any number of axes for x.
    """
    return float(joint.max(0).sum())


def averaging_accuracy(joint: np.ndarray) -> float:
    """The accuracy of two separate Bayes classifiers, one per modality, whose class probabilities are averaged.

    Classes that tie share the credit.

    Args:
        joint: P(y, a, v), (Y, A, V).
    """
    first, second = joint.sum(2), joint.sum(1)
    mean = _ratio(first, first.sum(0))[:, :, None] + _ratio(second, second.sum(0))[:, None, :]
    chosen = np.isclose(mean, mean.max(0), atol=1e-9)
    return float((joint * chosen / chosen.sum(0)).sum())
