"""The engine: micro-batches, frozen modules, numbers that are not finite."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.engines import (
    build,
    train,
)


def test_micro_batches_are_refused_where_they_would_not_be() -> None:
    with pytest.raises(ValueError, match="leave micro_batch out"):
        train(build("vanilla", missing=True, micro_batch=5))


def test_debug_stops_at_the_first_number_that_is_none() -> None:
    engine = build("ogm", debug=True)
    with torch.no_grad():
        next(engine.model.encoders["audio"].parameters()).fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="step 0"):
        engine.train_epoch()


def test_parameters_without_a_gradient_are_left_alone() -> None:
    engine = build("ogm_ge")
    frozen = engine.model.encoders["audio"].stages[0]
    before = [p.clone() for p in frozen.parameters()]
    engine.freeze(frozen)
    train(engine)
    assert all(torch.equal(a, b) for a, b in zip(before, frozen.parameters(), strict=True))
