"""MMPareto: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ogm.strategies.mmpareto import combine_gradients
from tests.helpers.engines import build, train
from tests.helpers.methods import D, build64, close, one_step


def naive(joint: list[np.ndarray], own: list[np.ndarray], gamma: float) -> list[np.ndarray]:
    """The integration written out, with the shortest vector searched for on a grid."""
    g, u = (np.concatenate([x.ravel() for x in side]) for side in (joint, own))
    a = 0.5
    if g @ u <= 0:
        grid = np.linspace(0.001, 0.999, 200_001)
        lengths = grid**2 * (g @ g) + 2 * grid * (1 - grid) * (g @ u) + (1 - grid) ** 2 * (u @ u)
        a = grid[lengths.argmin()]
    final = []
    for x, y in zip(joint, own, strict=True):
        v, t = 2 * a * x + 2 * (1 - a) * y, x + y
        short = 1e-6 * np.linalg.norm(t) < np.linalg.norm(v) < np.linalg.norm(t)
        final.append(gamma * v * (np.linalg.norm(t) / np.linalg.norm(v) if short else 1.0))
    return final


@pytest.mark.parametrize("seed", range(8))
def test_integration_is_the_naive_one(seed: int) -> None:
    r = np.random.default_rng(seed)
    joint = [r.normal(size=s) for s in ((3, 4), (5,), (1,))]
    sign, size = (-1) ** seed, 10.0 ** r.integers(-2, 3)
    own = [size * (sign * 0.7 * g + r.normal(size=g.shape)) for g in joint]
    (final,), cosine, _ = combine_gradients(*([[torch.from_numpy(g) for g in side]] for side in (joint, own)), 1.5)
    for ours, theirs in zip(final, naive(joint, own, 1.5), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-3, atol=1e-3 * np.linalg.norm(theirs))
    g, u = (np.concatenate([x.ravel() for x in side]) for side in (joint, own))
    assert np.sign(g @ u) == np.sign(float(cosine))


@pytest.mark.parametrize("seed", range(4))
def test_the_direction_serves_both_losses_and_is_as_long_as_the_sum(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    g = torch.randn(50, generator=generator, dtype=D)
    u = torch.randn(50, generator=generator, dtype=D) - 0.8 * g
    assert g @ u < 0
    ((v,),), _, a = combine_gradients([[g]], [[u]], 1.0)
    assert v @ g > 0 and v @ u > 0 and v.norm() >= (g + u).norm() * (1 - 1e-12)
    if 0.001 < a < 0.999:
        assert float(v @ g) == pytest.approx(float(v @ u))  # neither is favoured


def test_without_conflict_it_is_the_sum_of_losses_enlarged() -> None:
    sums, ours = one_step(build64("equal_weight_multiloss")), build64("mmpareto")
    found = one_step(ours)
    assert found.keys() == sums.keys()
    for name, grad in sums.items():
        if not name.startswith("encoders."):
            close(found[name], grad)
        elif ours.logs[f"cosine/{name.split('.')[1]}"] > 0:
            close(found[name], 1.5 * grad)
        else:
            assert found[name].norm() >= 1.5 * grad.norm() * (1 - 1e-9)


def test_frozen_encoders_are_skipped_but_not_all() -> None:
    engine = build("mmpareto")
    before = [p.clone() for p in engine.model.encoders["audio"].parameters()]
    engine.freeze(engine.model.encoders["audio"])
    train(engine)
    assert all(torch.equal(p, q) for p, q in zip(before, engine.model.encoders["audio"].parameters(), strict=True))
    engine.freeze(*engine.model.encoders.values())
    with pytest.raises(ValueError, match="no gradient"):
        train(engine)
