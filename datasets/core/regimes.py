"""The regimes of SynthAV: what sound and picture show of the class, as tables whose information is known.

In a regime both cues are always there: every clip has a tone and a shape of one of the eight classes, which need not be
the clip's own class. Write the class y in bits, y = 4 b2 + 2 b1 + b0. A clip is drawn in three steps.

1. What the two cues say without noise is drawn from the regime's table P(a, v | y):
   additive and redundant: both are y;
   complementary: a keeps b2 and b1, and its b0 is a fair coin: tones of neighbouring pitch are confused; v keeps
   b1 and b0, and its b2 is a fair coin: shapes four places apart are. Only the pair has all three bits;
   synergy: classes 0 to 5 are shown as they are. In classes 6 and 7 bit b0 is replaced by a fair coin c in the sound
   and by c xor b0 in the picture, so that neither modality knows it and the pair does. No sum of one term per modality
   can express that: a fusion whose logits are such a sum, as those of concat are, cannot learn it.
2. A cue is replaced by one of the eight, all equally likely, with probability ``error``: one for sound, one for
   picture, independently. In ``redundant`` the error is common, so that both cues are always the same.
3. The strength u of each cue is uniform in [0, 1]. It sets where in ``snr_db`` the loudness of the tone lies, and where
   in ``contrast`` the colour of the shape. In ``additive`` the errors are graded by it: they have the probability
   2 (1 - u) ``error``, so that weak evidence is wrong more often, and a reader who weighs both cues by their strengths
   does better than one who trusts the better modality. In ``redundant`` the strength is common, too.

The information is that of the cues about the class, for a reader who sees cues without error; in ``additive`` that of
cues and strengths. The tables are exact but for ``additive``, where the strength is replaced by the midpoints of
``LEVELS`` equal intervals: twice as many change the information by less than 0.005 bits and accuracies by less than
0.2 %. What noise in sound and picture takes away comes on top, so these are bounds of what a network can reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datasets.core.information import averaging_accuracy, best_accuracy, decompose

CUES = 8
LEVELS = 6  # of strength, in the tables


@dataclass(frozen=True)
class Regime:
    """``rule`` says what cues show before errors, ``error`` how often sound and picture err; see the module."""

    rule: str
    error: tuple[float, float]
    graded: bool = False  # errors depend on the strength
    common: bool = False  # one strength and one error for both cues

    def shown(self) -> np.ndarray:
        """P(a, v | y) before errors, (8, 8, 8)."""
        table = np.zeros((CUES, CUES, CUES))
        for y, c, d in np.ndindex(CUES, 2, 2):
            table[y][_RULES[self.rule](y, c, d)] += 1 / 4
        return table

    def draw(self, rng: np.random.Generator, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The cues (n, 2), which tone and which shape, and their strengths (n, 2) in [0, 1], of the classes (n,)."""
        n = len(label)
        edges = self.shown().reshape(CUES, -1).cumsum(1)
        pair = (rng.random((n, 1)) >= edges[label, :-1]).sum(1)
        drawn = rng.random((n, 2)), rng.random((n, 2)), rng.integers(CUES, size=(n, 2))
        strength, chance, other = (x[:, [0, 0]] if self.common else x for x in drawn)
        wrong = chance < self._error(strength)
        return np.where(wrong, other, np.stack([pair // CUES, pair % CUES], axis=1)), strength

    def joint(self, levels: int = LEVELS) -> np.ndarray:
        """P(y, a, v), (8, 8, 8); where errors are graded, P(y, (a, u_a), (v, u_v)), (8, 8 levels, 8 levels)."""
        shown = self.shown() / CUES
        if self.common:
            chance, same = self.error[0], np.eye(CUES) / CUES
            mixed: np.ndarray = (1 - chance) * shown + chance * shown.sum((1, 2))[:, None, None] * same
            return mixed
        levels = levels if self.graded else 1
        e = self._error((np.arange(levels)[:, None] + np.array([0.5, 0.5])) / levels)[:, :, None, None]
        channel = (1 - e) * np.eye(CUES) + e / CUES  # (levels, modalities, cue, what is seen)
        table: np.ndarray = np.einsum("yav,laA,kvV->yAlVk", shown, channel[:, 0], channel[:, 1], optimize=True)
        return table.reshape(CUES, CUES * levels, CUES * levels) / levels**2

    def _error(self, strength: np.ndarray) -> np.ndarray:
        """The probabilities (n, 2) that cues of these strengths (n, 2) are replaced."""
        weak: np.ndarray = 2 * (1 - strength) if self.graded else np.ones_like(strength)
        return weak * self.error


_RULES = {  # class, two fair coins -> tone, shape
    "same": lambda y, c, d: (y, y),
    "complementary": lambda y, c, d: (y & 6 | c, y & 3 | 4 * d),
    "synergy": lambda y, c, d: (y, y) if y < 6 else (y & 6 | c, y & 6 | c ^ y & 1),
}

REGIMES = {
    "additive": Regime("same", (0.2, 0.1), graded=True),
    "complementary": Regime("complementary", (0.05, 0.05)),
    "synergy": Regime("synergy", (0.02, 0.02)),
    "redundant": Regime("same", (0.1, 0.1), common=True),
}


def presence(p_audio: float, p_visual: float) -> np.ndarray:
    """P(y, a, v), (8, 9, 9), of cues that are right or absent, independently of each other; the ninth is absence."""
    sound, picture = (np.hstack([p * np.eye(CUES), np.full((CUES, 1), 1 - p)]) for p in (p_audio, p_visual))
    table: np.ndarray = sound[:, :, None] * picture[:, None, :] / CUES
    return table


def describe(joint: np.ndarray) -> list[str]:
    """The information of the cues about the class and what perfect readers of them reach, a line each."""
    parts = decompose(joint)
    return [
        f"audio alone {parts.first:.3f} bits, visual alone {parts.second:.3f} bits, both {parts.pair:.3f} bits, "
        f"of {np.log2(len(joint)):.0f}",
        f"redundant {parts.redundant:.3f}, only audio {parts.unique_first:.3f}, only visual {parts.unique_second:.3f}, "
        f"synergy {parts.synergy:.3f} bits (decomposition BROJA, Bertschinger et al. 2014)",
        f"best accuracy from the cues: audio {100 * best_accuracy(joint.sum(2)):.2f} %, "
        f"visual {100 * best_accuracy(joint.sum(1)):.2f} %, both {100 * best_accuracy(joint):.2f} %, "
        f"two separate readers averaged {100 * averaging_accuracy(joint):.2f} %",
    ]
