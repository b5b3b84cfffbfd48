"""WeakBoost: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import torch

from tests.helpers.engines import (
    TWO,
)
from tests.helpers.methods import one_hot_logits, run_once


def test_weak_boost_only_boosts_the_weak() -> None:
    for confidence in (0.1, 0.5, 1.0, 2.0, 9.0):
        logs, grads = run_once("weak_boost", *one_hot_logits(audio=3.0, visual=confidence))
        k = {m: float(logs[f"coefficient/{m}"]) for m in TWO}
        strong = "audio" if confidence < 3 else "visual"
        assert min(k.values()) >= 1 and max(k.values()) <= 2 and k[strong] == 1
        assert torch.equal(grads[strong], torch.ones_like(grads[strong]))
