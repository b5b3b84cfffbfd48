"""ModalityDropout: the probabilities of what is kept."""

from __future__ import annotations

import itertools

import pytest
import torch

from ogm.strategies.modality_dropout import keep_patterns, sample_patterns
from tests.helpers.engines import THREE, build, digest, train


def test_patterns_have_their_probabilities_and_never_drop_everything() -> None:
    rates = [0.5, 0.2, 0.0]
    kept, chance = keep_patterns(rates)
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000  # evenly spread
    drawn = sample_patterns(u, rates, torch.ones(len(u), 3, dtype=torch.bool))
    assert drawn.any(1).all()
    for pattern, c in zip(kept, chance / chance.sum(), strict=True):
        assert float((drawn == pattern).all(1).double().mean()) == pytest.approx(float(c), abs=1e-3)


def test_a_sample_keeps_one_of_the_modalities_that_it_has() -> None:
    u = torch.linspace(0, 0.999, 50, dtype=torch.float64)
    for present in itertools.product((True, False), repeat=3):
        if any(present):
            row = torch.tensor(present)
            drawn = sample_patterns(u, [0.9] * 3, row.expand(50, -1))
            assert (drawn & row).any(1).all()


def test_without_dropping_it_is_joint_training() -> None:
    vanilla = digest(train(build("vanilla", modalities=THREE)))
    assert digest(train(build("modality_dropout", modalities=THREE, options={"p": 0.0}))) == vanilla
    assert digest(train(build("modality_dropout", modalities=THREE))) != vanilla
    with pytest.raises(ValueError, match="no modality \\['smell'\\]"):
        build("modality_dropout", options={"p": {"smell": 0.5}})
