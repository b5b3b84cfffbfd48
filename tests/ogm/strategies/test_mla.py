"""MLA: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ogm.engine import Engine
from ogm.strategies import mla
from ogm.types import Batch
from tests.helpers.engines import THREE, TWO, build, strategy


def test_the_head_keeps_what_it_has_seen() -> None:
    """Along the features taken in, a projected gradient is almost nothing; across them it is untouched."""
    generator = torch.Generator().manual_seed(0)
    seen, grad = (torch.randn(2, 6, dtype=torch.float64, generator=generator) for _ in range(2))
    p = torch.eye(6, dtype=torch.float64)
    for r in seen:
        p = mla.update_projection(p, r, 1e-6, "none")
    kept = mla.project_gradient(grad, p)
    assert float((kept @ seen.T).abs().max()) < 1e-4
    across = torch.linalg.svd(seen).Vh[2:]
    torch.testing.assert_close(kept @ across.T, grad @ across.T)
    one = mla.update_projection(
        p, torch.zeros(6, dtype=torch.float64), 0.1, "fro"
    )  # nothing was there: nothing to take in
    torch.testing.assert_close(one, p / p.norm())


def test_each_turn_is_of_one_encoder_and_the_head_and_the_first_is_unprotected() -> None:
    engine = build("mla", modalities=THREE)
    turns, matrices = [], []

    def update() -> None:
        encoders = engine.model.encoders
        turns.append([m for m in THREE if any(p.grad is not None for p in encoders[m].parameters())])
        assert engine.strategy.shared_head.weight.grad is not None
        matrices.append(engine.strategy.projection.clone())
        Engine.update(engine)

    engine.update = update  # type: ignore[method-assign]
    engine.logs = {}
    engine.strategy.step(engine.loaders["train"].epoch(0)[0], engine)
    assert turns == [["audio"], ["visual"], ["text"]]
    assert torch.equal(matrices[0], torch.eye(len(matrices[0])))
    assert float(matrices[1].norm()) == pytest.approx(1, abs=1e-5) and not torch.equal(matrices[1], matrices[2])


def test_a_prediction_goes_by_its_own_sample_and_what_it_has() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = {m: 3 * torch.randn(5, 4, generator=generator) for m in THREE}
    there = torch.tensor([[True] * 5, [True, False, True, False, True], [True, True, False, False, True]])
    together = mla.confidence_weighted_sum(logits, there)
    for i in range(5):
        torch.testing.assert_close(
            mla.confidence_weighted_sum({m: z[i : i + 1] for m, z in logits.items()}, there[:, i : i + 1])[0],
            together[i],
        )
    weight = mla.confidence_weights(logits, there)
    assert not weight[~there].any() and torch.allclose(weight.sum(0), torch.ones(5))
    torch.testing.assert_close(together[3], logits["audio"][3])
    sure = {"a": torch.tensor([[50.0, 0.0]]), "b": torch.zeros(1, 2)}
    a, b = mla.confidence_weights(sure, torch.ones(2, 1, dtype=torch.bool)).flatten().tolist()
    assert a == pytest.approx(2 / 3) and b == pytest.approx(1 / 3)  # e^0 against e^-log 2


@pytest.mark.parametrize("method", ["mla", "reconboost"])
def test_features_of_unequal_width_share_a_head(method: str) -> None:
    encoders = {"audio": nn.Linear(2, 3), "visual": nn.Linear(2, 5)}
    plan = strategy(method).attach(encoders, dims={"audio": 3, "visual": 5}, num_classes=4)
    model = type("Model", (), {"encoders": encoders})
    batch = Batch({m: torch.randn(6, 2) for m in TWO}, torch.zeros(6, dtype=torch.long), torch.arange(6))
    for drop in ((), ("audio",), TWO):
        output = plan.forward(model, batch, drop)
        assert output.logits.shape == (6, 4) and torch.isfinite(output.logits).all()
    alone = plan.forward(model, batch, ("audio",))
    torch.testing.assert_close(alone.logits, alone.unimodal_logits["visual"])
