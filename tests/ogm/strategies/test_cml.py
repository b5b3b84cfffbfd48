"""CML: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import itertools

import pytest
import torch

from ogm.context import Context
from ogm.engine import Engine
from ogm.strategies.cml import confidence_rise
from tests.helpers.engines import THREE, build, train


def fell(engine: Engine) -> float:
    """Mean, over validation samples, of how much confidence rises where a modality is taken away."""
    confidence_rise = []
    for output, batch in engine.predict("val"):
        for m in engine.strategy.modalities:
            less = engine.strategy.forward(engine.model, batch, (m,)).logits
            confidence_rise.append((less.softmax(1).amax(1) - output.logits.softmax(1).amax(1)).clamp_min(0))
    return float(torch.cat(confidence_rise).detach().mean())


def test_calibration_lowers_the_rise_of_confidence() -> None:
    free, tied = (train(build("cml", options={"lam": lam}), 4) for lam in (0.0, 1.0))
    assert fell(tied) < fell(free)


def test_every_modality_is_taken_away_now_and_then() -> None:
    orders = {tuple(sorted(THREE, key=lambda m: Context(step=s).chance(f"cml/{m}"))) for s in range(60)}
    assert orders == set(itertools.permutations(THREE))


def test_where_both_are_wrong_trick_2_gives_the_confidence_before_no_gradient() -> None:
    label = torch.tensor([2, 2, 0, 1])  # both wrong; before right; both right; only after right
    z = {"before": [[2.0, 1, 0], [0, 0, 1], [1.0, 0, 0], [3.0, 0, 0]], "after": [[4.0, 1, 0], [5.0, 0, 0], [3.0, 0, 0],
                                                                               [0, 3.0, 0]]}  # fmt: skip
    moved, values = {}, {}
    for trick in (False, True):
        before, after = (torch.tensor(x, requires_grad=True) for x in z.values())
        values[trick] = confidence_rise(before, after, label, trick_2=trick)
        values[trick].clamp_min(0).sum().backward()
        moved[trick] = [[bool(row.any()) for row in x.grad] for x in (before, after)]  # type: ignore[union-attr]
    assert torch.equal(values[False], values[True]) and (values[True][:3] > 0).all() and values[True][3] == 0
    assert moved[False] == [[True, True, True, False]] * 2
    assert moved[True] == [[False, True, True, False], [True, True, True, False]]


@torch.no_grad()
def test_the_official_order_is_drawn_for_each_sample() -> None:
    """The penalty and the losses are those of each sample's own order, computed here one sample at a time."""
    engine = build("cml", modalities=THREE, options={"variant": "miwae", "lam": 0.3}, dtype=torch.float64)
    batch = engine.loaders["train"].epoch(0)[0]  # type: ignore[index]
    output = engine.strategy.forward(engine.model, batch)
    losses = engine.strategy.losses(output, batch, engine)
    draws = torch.stack([engine.uniform(batch.index, f"cml/{m}") for m in THREE], 1)
    reduced, penalty = 0.0, 0.0
    orders = [[THREE[j] for j in row.argsort().tolist()] for row in draws]
    for i, order in enumerate(orders):
        alone = {m: f[i : i + 1] for m, f in output.features.items()}
        label, before = batch.label[i : i + 1], output.logits[i : i + 1]
        for k in (1, 2):
            after = engine.model.fusion(alone, drop=order[:k])
            reduced += float(torch.nn.functional.cross_entropy(after, label)) / len(batch) / 3
            penalty += 0.3 * float(confidence_rise(before, after, label).clamp_min(0))
            before = after
    assert len(set(map(tuple, orders))) > 2  # of one step
    assert float(losses["reduced"]) == pytest.approx(reduced) and float(losses["penalty"]) == pytest.approx(penalty)
