"""MMCosine: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import pytest
import torch

from ogm.strategies.mmcosine import scaled_cosines, smallest_scale
from tests.helpers.engines import build, train


def test_no_norm_matters() -> None:
    g = torch.Generator().manual_seed(0)
    features = {m: torch.randn(5, d, generator=g) for m, d in (("a", 3), ("v", 4))}
    weight = torch.randn(6, 7, generator=g)
    once = scaled_cosines(features, weight, 10.0)
    scaled = scaled_cosines(
        {"a": 100 * features["a"], "v": features["v"]}, weight * torch.tensor([9.0] * 3 + [1.0] * 4), 10.0
    )
    for m in once:
        torch.testing.assert_close(once[m], scaled[m])
        assert once[m].abs().max() <= 10 + 1e-5


def test_a_row_of_zeros_has_no_cosine_and_no_gradient() -> None:
    features = {"a": torch.zeros(2, 3, requires_grad=True), "v": torch.ones(2, 3, requires_grad=True)}
    weight = torch.cat([torch.zeros(1, 6), torch.eye(6)[:3]]).requires_grad_()
    said = scaled_cosines(features, weight, 10.0)
    assert not said["a"].any() and not said["v"][:, 0].any()
    torch.stack(list(said.values())).square().sum().backward()
    assert not features["a"].grad.any() and not weight.grad[0].any() and torch.isfinite(weight.grad).all()  # type: ignore[union-attr]


def test_a_scale_too_small_for_the_classes_is_warned_of() -> None:
    assert smallest_scale(309, 2) == pytest.approx(5.15, abs=0.01)
    with pytest.warns(UserWarning, match="use s="):
        build("mmcosine", options={"s": 1.0})


def test_mmcosine_is_evaluated_by_its_cosines() -> None:
    engine = train(build("mmcosine"))
    batch = engine.loaders["val"].all()[0]  # type: ignore[index]
    whole, less = (engine.strategy.forward(engine.model, batch, drop) for drop in ((), ("audio",)))
    torch.testing.assert_close(whole.logits, sum(whole.unimodal_logits.values()))
    assert torch.equal(less.logits, less.unimodal_logits["visual"])
    assert not engine.model.fusion.head.bias.any()  # its zeros have no gradient to move them
