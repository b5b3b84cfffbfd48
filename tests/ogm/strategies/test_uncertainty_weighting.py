"""UncertaintyWeighting: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ogm.strategies.uncertainty_weighting import weighted_loss
from tests.helpers.engines import build, train
from tests.helpers.methods import D, build64, close, one_step


def test_weights_are_trained_apart() -> None:
    engine = build64("uncertainty_weighting")
    _, _, group = engine.optimizer.param_groups
    assert group["weight_decay"] == 0 and group["clip"] is False and len(group["params"]) == 3
    grads = one_step(engine)
    sums = build64("equal_weight_multiloss")
    one_step(sums)
    for name, s in engine.strategy.log_variance.items():
        ce = sums.logs["loss/fused" if name == "fused" else f"loss/unimodal/{name}"]
        close(grads[f"log_variance.{name}"], 0.5 - torch.exp(-s.detach()) * ce)


def test_the_lowest_loss_is_at_log_of_twice_it() -> None:
    loss, s = torch.tensor(0.7, dtype=D), torch.linspace(-3, 3, 6001, dtype=D)
    assert float(s[weighted_loss(loss, s).argmin()]) == pytest.approx(np.log(1.4), abs=1e-3)
    assert float(s[weighted_loss(loss, s, "unit").argmin()]) == pytest.approx(np.log(0.7), abs=1e-3)


def test_a_weight_stays_within_its_bound() -> None:
    engine = build("uncertainty_weighting", options={"bound": 0.01})
    train(engine)
    assert engine.curves["bounded"][0] > 0
    one_step(engine)
    assert all(float(s.detach().abs()) <= 0.0101 for s in engine.strategy.log_variance.values())
