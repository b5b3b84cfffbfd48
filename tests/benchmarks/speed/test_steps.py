"""The bench measures what it says: memory of a fresh process, whatever the one that asks has held before."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.speed import steps


@pytest.mark.long
def test_peak_memory_is_the_fresh_processs_own() -> None:
    held = np.ones(200_000_000)  # 1.6 GB in this process
    held.sum()
    peak = steps.peak_bytes("vanilla", 1, "cpu", "fp32")
    assert 100e6 < peak < 1.5e9  # weights' gradients and momentum alone are 180 MB


def test_every_joint_method_is_measured() -> None:
    assert {"vanilla", "ogm", "ogm_ge", "static_lr", "modality_dropout"} <= steps.methods().keys()
