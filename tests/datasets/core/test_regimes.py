"""The regimes of SynthAV: their tables, the information in them, and draws that follow the tables."""

from __future__ import annotations

import numpy as np
import pytest

from datasets.core.information import Decomposition, best_accuracy, decompose, mutual_information
from datasets.core.regimes import CUES, LEVELS, REGIMES, presence

# redundant, only audio, only visual, synergy (bits), and the best accuracies of audio, visual and both
INFORMATION = {
    "additive": (1.895, 0.000, 0.457, 0.345, 0.8250, 0.9125, 0.9267),
    "complementary": (0.831, 0.879, 0.879, 0.112, 0.48125, 0.48125, 0.93844),
    "synergy": (2.584, 0.000, 0.000, 0.361, 0.8600, 0.8600, 0.98190),
    "redundant": (2.326, 0.000, 0.000, 0.000, 0.9125, 0.9125, 0.9125),
}


@pytest.fixture(scope="module")
def parts() -> dict[str, Decomposition]:
    return {name: decompose(regime.joint()) for name, regime in REGIMES.items()}


@pytest.mark.parametrize("name", REGIMES)
def test_a_table_is_a_distribution_and_classes_are_equally_likely(name: str) -> None:
    joint = REGIMES[name].joint()
    assert (joint >= 0).all()
    assert joint.sum((1, 2)) == pytest.approx(np.full(CUES, 1 / CUES), abs=1e-12)


@pytest.mark.parametrize("name", REGIMES)
def test_the_information_is_what_is_said(name: str, parts: dict[str, Decomposition]) -> None:
    one, joint = parts[name], REGIMES[name].joint()
    found = (one.redundant, one.unique_first, one.unique_second, one.synergy)
    assert found == pytest.approx(INFORMATION[name][:4], abs=2e-3)
    accuracies = (best_accuracy(joint.sum(2)), best_accuracy(joint.sum(1)), best_accuracy(joint))
    assert accuracies == pytest.approx(INFORMATION[name][4:], abs=5e-5)


def test_each_regime_has_most_of_what_it_is_named_after(parts: dict[str, Decomposition]) -> None:
    redundant, synergy = parts["redundant"], parts["synergy"]
    assert max(redundant.unique_first, redundant.unique_second, redundant.synergy) < 1e-3
    assert synergy.synergy == pytest.approx(synergy.pair - synergy.first, abs=1e-3) and synergy.unique_first < 1e-3
    unique = [min(one.unique_first, one.unique_second) for one in parts.values()]
    assert max(unique) == unique[list(parts).index("complementary")] > 0.8
    additive = parts["additive"]
    assert additive.pair - max(additive.first, additive.second) > 0.3  # both know more than the better one


def test_finer_levels_of_strength_change_next_to_nothing() -> None:
    coarse, fine = (REGIMES["additive"].joint(levels) for levels in (LEVELS, 2 * LEVELS))
    for view in (lambda t: t, lambda t: t.sum(2), lambda t: t.sum(1)):
        assert abs(mutual_information(view(coarse)) - mutual_information(view(fine))) < 0.005
        assert abs(best_accuracy(view(coarse)) - best_accuracy(view(fine))) < 0.002


@pytest.mark.parametrize("name", REGIMES)
def test_a_bayes_classifier_of_drawn_cues_reaches_the_ceilings(name: str) -> None:
    """It counts cues in one draw and names the most frequent class of each in another."""
    regime, levels = REGIMES[name], LEVELS if REGIMES[name].graded else 1
    rng, seen = np.random.default_rng(1), []
    label = np.arange(100_000) % CUES
    for _ in range(2):
        cue, strength = regime.draw(rng, label)
        seen.append(cue * levels + np.minimum((strength * levels).astype(int), levels - 1))
    shape = (CUES, CUES * levels, CUES * levels)
    learned, tested = (np.zeros(shape), np.zeros(shape))
    for table, code in zip((learned, tested), seen, strict=True):
        np.add.at(table, (label, *code.T), 1 / len(label))
    for axis, ceiling in zip((2, 1, ()), INFORMATION[name][4:], strict=True):
        chosen, truth = learned.sum(axis).reshape(CUES, -1), tested.sum(axis).reshape(CUES, -1)
        accuracy = truth[chosen.argmax(0), np.arange(truth.shape[1])].sum()
        assert abs(accuracy - ceiling) < 4 * (ceiling * (1 - ceiling) / len(label)) ** 0.5 + 0.004 * (levels > 1)


@pytest.mark.parametrize("name", REGIMES)
def test_draws_follow_the_table_and_strength_is_uniform(name: str) -> None:
    regime, label = REGIMES[name], np.arange(80_000) % CUES
    cue, strength = regime.draw(np.random.default_rng(2), label)
    counts = np.zeros((CUES, CUES, CUES))
    np.add.at(counts, (label, *cue.T), 1)
    joint = regime.joint()
    levels = joint.shape[1] // CUES
    expected = joint.reshape(CUES, CUES, levels, CUES, levels).sum((2, 4)) * len(label)
    assert not counts[expected == 0].any()
    there = expected > 0
    squares = ((counts - expected)[there] ** 2 / expected[there]).sum()
    freedom = there.sum() - CUES
    assert abs(squares - freedom) < 5 * (2 * freedom) ** 0.5
    assert np.histogram(strength[:, 1], 4, (0, 1))[0] == pytest.approx(np.full(4, 20_000), abs=600)
    assert bool((cue[:, 0] == cue[:, 1]).all()) == bool((strength[:, 0] == strength[:, 1]).all()) == regime.common


def test_cues_that_are_absent_now_and_then() -> None:
    """One erasure channel is a worse version of the other: the worse one tells nothing of its own."""
    joint, one = presence(0.7, 0.9), decompose(presence(0.7, 0.9))
    assert joint.sum() == pytest.approx(1)
    assert (one.first, one.second, one.pair) == pytest.approx((2.1, 2.7, 0.97 * 3))
    found = (one.redundant, one.unique_first, one.unique_second, one.synergy)
    assert found == pytest.approx((2.1, 0, 0.6, 0.21), abs=1e-3)
    assert best_accuracy(joint) == pytest.approx(0.97 + 0.03 / 8)
