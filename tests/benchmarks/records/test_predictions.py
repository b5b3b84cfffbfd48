"""Every measure against scikit-learn or a number worked out by hand; what is kept decides as what was computed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, log_loss, recall_score

from benchmarks.records.predictions import Predictions, centred, curve_scores, measures, scores


def drawn(samples: int, classes: int, seed: int = 0, scale: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, C) and labels that they know something of."""
    random = np.random.default_rng(seed)
    label = random.integers(0, classes, samples)
    return scale * random.normal(size=(samples, classes)) + 2 * np.eye(classes)[label], label


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


@pytest.mark.parametrize("classes", [2, 5, 40])  # of 40, some do not occur
def test_measures_are_scikit_learns(classes: int) -> None:
    logits, label = drawn(60, classes)
    found, predicted = measures(log_softmax(logits), label), logits.argmax(1)
    occurring = np.unique(label)
    assert found["accuracy"] == (predicted == label).mean()
    assert found["macro_f1"] == pytest.approx(f1_score(label, predicted, average="macro"), abs=1e-12)
    assert found["loss"] == pytest.approx(
        log_loss(label, np.exp(log_softmax(logits)), labels=range(classes)), abs=1e-12
    )
    precisions = [average_precision_score(label == c, np.exp(log_softmax(logits))[:, c]) for c in occurring]
    assert found["mAP"] == pytest.approx(np.mean(precisions), abs=1e-12)
    recalls = recall_score(label, predicted, labels=occurring, average=None)
    assert [found["recall"][c] for c in occurring] == pytest.approx(list(recalls))
    assert all(found["recall"][c] is None for c in set(range(classes)) - set(occurring))


def test_the_calibration_error_by_hand() -> None:
    """Two bins: at .62, 1 of 2 right; at .95, 2 of 2 right. (2 |.5 - .62| + 2 |1 - .95|) / 4 = .085."""
    first = np.array([0.62, 0.62, 0.95, 0.95])
    found = measures(np.log(np.stack([first, 1 - first], 1)), np.array([0, 1, 0, 0]))
    assert found["ece"] == pytest.approx(0.085, abs=1e-12)


def test_what_is_kept_decides_as_what_was_computed() -> None:
    logits, label = drawn(5000, 10, scale=30.0)
    logits[:, 1] = logits[:, 0] + np.random.default_rng(1).normal(size=5000) * 1e-5  # nearly equal, at any height
    kept = centred(logits.astype(np.float32).astype(np.float64))
    assert (kept.astype(np.float64).argmax(1) == logits.astype(np.float32).argmax(1)).all() and kept.max() == 0
    ours = measures(log_softmax(kept.astype(np.float64)), label)
    assert ours["loss"] == pytest.approx(
        measures(log_softmax(logits - logits.max(1, keepdims=True)), label)["loss"], rel=1e-3
    )
    assert np.isfinite(centred(np.array([[0.0, -1e30]]))).all()


def test_rules_over_the_modalities_that_a_sample_has() -> None:
    (audio, label), (visual, _) = drawn(6, 3, 1), drawn(6, 3, 2)
    has = np.array([True, True, False, True, True, False])
    kept = Predictions(np.stack([centred(audio + visual), centred(audio), centred(visual, has)]), label, ("a", "v"))
    rules = kept.by_rule()
    assert list(rules) == ["own", "branch/a", "branch/v", "logit_sum", "prob_mean"]
    assert np.isnan(rules["branch/v"][~has]).all()
    probabilities = np.exp(log_softmax(audio)), np.exp(log_softmax(visual))
    mean = np.where(has[:, None], sum(probabilities) / 2, probabilities[0])
    np.testing.assert_allclose(np.exp(rules["prob_mean"]), mean, atol=2e-3)
    np.testing.assert_allclose(rules["logit_sum"], log_softmax(audio + has[:, None] * visual), atol=2e-2)
    found = scores({"val": kept})["val"]
    assert found["branch/v"]["accuracy"] == (visual[has].argmax(1) == label[has]).mean()
    assert curve_scores(kept)["accuracy/v"] == found["branch/v"]["accuracy"]
    assert curve_scores(kept)["loss"] == found["own"]["loss"]
    nowhere = Predictions(np.stack([centred(audio), centred(visual, has & False)]), label, ("v",))
    assert "branch/v" not in scores({"val": nowhere})["val"] and not [
        name for name in curve_scores(nowhere) if name.endswith("/v")
    ]
    assert all(math.isfinite(x) for x in curve_scores(nowhere).values())


def test_the_digest_is_of_every_logit_label_and_name() -> None:
    logits, label = drawn(20, 4)
    kept = Predictions(centred(logits)[None].repeat(2, 0), label, ("audio",))
    other = kept.logits.copy()
    other[1, 7, 2] = np.nextafter(other[1, 7, 2], np.float16(-9))
    labels = label.copy()
    labels[3] = (labels[3] + 1) % 4
    variants = [Predictions(other, label, ("audio",)), Predictions(kept.logits, labels, ("audio",))]
    variants.append(Predictions(kept.logits, label, ("visual",)))
    assert len({kept.digest, *(v.digest for v in variants)}) == 4
