"""What a model predicted on a split, as it is kept, and every measure of it: nothing here needs the model.

Logits are kept in half precision, after the largest of each sample was subtracted: softmax and argmax do not change,
and the small differences between the likeliest classes, which decide, keep their digits. All measures are computed from
what is kept, so that they can be recomputed to the last digit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.config.suite import OWN

Floats = NDArray[np.float64]
BINS = 15  # of the confidence, for the calibration error, as Guo et al. have it
LOWEST = float(np.finfo(np.float16).min)


@dataclass(frozen=True, eq=False)
class Predictions:
    """The logits of N samples of C classes.

    Args:
        logits: (1 + M, N, C) float16: of the method's own prediction, then of each modality alone; each sample's
            largest is 0. NaN where the sample lacks the modality.
        label: (N,) int64 class numbers.
        modalities: The M names, in the order of ``logits``.
    """

    logits: NDArray[np.float16]
    label: NDArray[np.int64]
    modalities: tuple[str, ...]

    @property
    def digest(self) -> str:
        """The sha256 of all of it, as 64 hex digits."""
        about = f"{self.logits.shape} {' '.join(self.modalities)}\n".encode()
        content = self.logits.astype("<f2").tobytes() + self.label.astype("<i8").tobytes()
        return hashlib.sha256(about + content).hexdigest()

    def heads(self) -> dict[str, Floats]:
        """The logarithms of the class probabilities, (N, C), of each of ``logits``: ``own``, ``branch/<modality>``."""
        names = [OWN, *(f"branch/{m}" for m in self.modalities)]
        return {name: _log_softmax(x.astype(np.float64)) for name, x in zip(names, self.logits, strict=True)}

    def by_rule(self) -> dict[str, Floats]:
        """The logarithms of the class probabilities by each rule of prediction, (N, C).

        Returns:
            ``own``: the method's. ``branch/<modality>``: its logits alone. Where there are several modalities:
            ``logit_sum``, of the sum of their logits, and ``prob_mean``, the mean of their probabilities, over the
            modalities that a sample has. Rows of NaN where a sample lacks what the rule needs.
        """
        rules = self.heads()
        if len(self.modalities) > 1:
            stacked = np.stack([rules[f"branch/{m}"] for m in self.modalities])
            there = ~np.isnan(stacked).any(axis=2, keepdims=True)  # (M, N, 1)
            summed = np.where(there, stacked, 0.0).sum(axis=0)
            rules["logit_sum"] = _log_softmax(np.where(there.any(axis=0), summed, np.nan))
            with np.errstate(divide="ignore", invalid="ignore"):  # no modality: 0 / 0, NaN
                mean = np.where(there, np.exp(stacked), 0.0).sum(axis=0) / there.sum(axis=0)
                rules["prob_mean"] = np.log(np.maximum(mean, np.finfo(np.float64).tiny))
        return rules


def centred(logits: Floats, present: NDArray[np.bool_] | None = None) -> NDArray[np.float16]:
    """Logits as they are kept.

    Args:
        logits: (N, C).
        present: (N,), which samples have the modality; None: all.

    Returns:
        (N, C): less each row's largest, rounded; rows of NaN where the modality is absent, and where a logit is not
        finite.
    """
    with np.errstate(invalid="ignore"):  # infinity less infinity is NaN, as it should be
        shifted = logits - logits.max(axis=1, keepdims=True)
    kept: NDArray[np.float16] = np.maximum(shifted, LOWEST).astype(np.float16)
    kept[~np.isfinite(logits).all(axis=1)] = np.nan
    if present is not None:
        kept[~present] = np.nan
    return kept


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def curve_measures(log_probabilities: Floats, label: NDArray[np.int64]) -> dict[str, float]:
    """The measures that every epoch has.

    Args:
        log_probabilities: (N, C); rows of NaN are left out.
        label: (N,) class numbers.

    Returns:
        ``accuracy``, ``macro_f1`` (the mean over the classes that occur among labels or predictions, as
        scikit-learn's) and ``loss``, the mean cross-entropy; empty where there is no sample.
    """
    log_probabilities, label = _counted(log_probabilities, label)
    if not len(label):
        return {}
    confusion = _confusion(log_probabilities, label)
    hits, count = np.diag(confusion), confusion.sum(axis=0) + confusion.sum(axis=1)
    f1 = (2 * hits / np.maximum(count, 1))[count > 0].mean()
    loss = -log_probabilities[np.arange(len(label)), label].mean()
    return {"accuracy": float(hits.sum() / len(label)), "macro_f1": float(f1), "loss": float(loss)}


def measures(log_probabilities: Floats, label: NDArray[np.int64]) -> dict[str, Any]:
    """Every measure of a prediction.

    Args:
        log_probabilities: (N, C); rows of NaN are left out.
        label: (N,) class numbers.

    Returns:
        What ``curve_measures`` has, and ``mAP``, the average precision of each class against the rest, averaged over
        the classes that occur; ``ece``, the expected calibration error over 15 bins of equal width (Guo et al., ICML
        2017); ``recall``, a list with each class's, None for a class that does not occur.
    """
    from sklearn.metrics import average_precision_score  # brings SciPy: a second that readers of records do not need

    found: dict[str, Any] = curve_measures(log_probabilities, label)
    log_probabilities, label = _counted(log_probabilities, label)
    if not len(label):
        return {}
    confusion, probabilities = _confusion(log_probabilities, label), np.exp(log_probabilities)
    support = confusion.sum(axis=1)
    precisions = [average_precision_score(label == c, probabilities[:, c]) for c in np.flatnonzero(support)]
    found["mAP"] = float(np.mean(precisions))
    found["ece"] = _calibration_error(probabilities, label)
    found["recall"] = [float(confusion[c, c] / n) if n else None for c, n in enumerate(support)]
    return found


def _counted(log_probabilities: Floats, label: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    there = ~np.isnan(log_probabilities).any(axis=1)
    return log_probabilities[there], label[there]


def _confusion(log_probabilities: Floats, label: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each class (row) was predicted as each (column)."""
    classes = log_probabilities.shape[1]
    pairs = label * classes + log_probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _calibration_error(probabilities: Floats, label: NDArray[np.int64]) -> float:
    """The mean distance of confidence and accuracy over bins of the confidence, weighted by their samples."""
    confidence, hit = probabilities.max(axis=1), probabilities.argmax(axis=1) == label
    number = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(number, weights=hit - confidence, minlength=BINS)  # summed over the samples of a bin
    return float(np.abs(gaps).sum() / len(label))


def scores(splits: Mapping[str, Predictions]) -> dict[str, dict[str, dict[str, Any]]]:
    """Every measure of every rule on every split, as a record has them: split -> rule -> measure -> value."""
    return {
        split: {rule: found for rule, x in kept.by_rule().items() if (found := measures(x, kept.label))}
        for split, kept in splits.items()
    }


def curve_scores(kept: Predictions) -> dict[str, float]:
    """The measures of one epoch: ``accuracy``, ... of the method's prediction, ``accuracy/<modality>``, ... of each."""
    found: dict[str, float] = {}
    for head, log_probabilities in kept.heads().items():
        suffix = head.removeprefix(OWN).removeprefix("branch")
        found |= {f"{name}{suffix}": x for name, x in curve_measures(log_probabilities, kept.label).items()}
    return found
