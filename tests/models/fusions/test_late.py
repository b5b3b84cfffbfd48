"""Late fusion, sample by sample."""

from __future__ import annotations

import torch

from tests.helpers.models import EVEN, features, fusion


def test_logits_are_averaged_over_the_modalities_that_a_sample_has() -> None:
    made, h = fusion("late", EVEN), features(EVEN)
    there = {
        "visual": torch.tensor([True, False, True, False, True]),
        "text": torch.tensor([True, True, False, False, True]),
    }
    z, unimodal = made(h, there), made.unimodal_logits(h)
    for i in range(5):
        voters = [m for m in EVEN if m not in there or there[m][i]]
        torch.testing.assert_close(z[i], torch.stack([unimodal[m][i] for m in voters]).mean(0))
