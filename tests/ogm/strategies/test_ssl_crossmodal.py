"""SSLCrossmodal: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import math

import pytest
import torch

from ogm.strategies.ssl_crossmodal import avid_loss
from tests.helpers.engines import build, train


def test_the_bank_keeps_unit_vectors_and_its_first_normalizer() -> None:
    engine = build("ssl_crossmodal", options={"objective": "avid", "negatives": 7})
    plan = engine.strategy
    before = plan.bank.clone()  # type: ignore[union-attr, operator]
    assert not plan.normalizer.any()  # type: ignore[union-attr, operator]
    batch = engine.loaders["train"].epoch(0)[0]  # type: ignore[index]
    plan.step(batch, engine)
    z = plan.normalizer.clone()  # type: ignore[union-attr, operator]
    changed = (plan.bank != before).any(2)  # type: ignore[union-attr, operator]
    for row in changed:
        assert row.nonzero()[:, 0].tolist() == sorted(batch.index.tolist())
    torch.testing.assert_close(plan.bank.norm(dim=2), torch.ones(2, len(changed[0])))  # type: ignore[union-attr, operator]
    train(engine)
    assert torch.equal(plan.normalizer, z) and (z > 0).sum() == 2  # type: ignore[arg-type]


def test_discrimination_rewards_the_right_sample() -> None:
    negative = torch.zeros(1, 4, dtype=torch.float64)
    losses = [float(avid_loss(torch.tensor([s]).double(), negative, torch.tensor(1.0))) for s in (0.0, 1.0, 5.0)]
    assert losses[0] > losses[1] > losses[2]
    naive = -math.log(math.exp(1) / (math.exp(1) + 4)) - 4 * math.log(4 / (1 + 4))
    assert losses[1] == pytest.approx(naive)
