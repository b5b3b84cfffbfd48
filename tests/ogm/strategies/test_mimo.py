"""MIMO: a smooth maximum of the unimodal losses beside the joint loss."""

from __future__ import annotations

import math

import pytest
import torch

from ogm.strategies.mimo import penalty
from tests.helpers.engines import THREE, TWO, build, flat, strategy, train
from tests.helpers.methods import build64, close, one_step


def test_the_gradient_is_that_of_the_smooth_maximum() -> None:
    """By automatic differentiation of step 1 as it stands, through encoders, heads and fusion."""
    options = {"lam": 3.0, "mu": 0.2}
    engine, plain = (
        build64("mimo", modalities=THREE, options=options),
        build64("equal_weight_multiloss", modalities=THREE),
    )
    found = one_step(engine)
    batch = plain.loaders["train"].epoch(0)[0]  # type: ignore[index]
    losses = plain.strategy.losses(plain.strategy.forward(plain.model, batch), batch, plain)
    unimodal = torch.stack([losses[f"unimodal/{m}"] for m in THREE])
    (losses["fused"] + 3.0 * 0.2 * (unimodal / 0.2).logsumexp(0)).backward()  # type: ignore[no-untyped-call]
    named = (*plain.model.named_parameters(), *plain.strategy.named_parameters())  # type: ignore[attr-defined]
    for name, p in named:
        close(found[name], p.grad)
    close(engine.logs["loss/penalty"], 0.6 * (unimodal.detach() / 0.2).logsumexp(0))  # type: ignore[arg-type]
    assert sum(float(engine.logs[f"sigma/{m}"]) for m in THREE) == pytest.approx(1)


def test_a_sharp_maximum_trains_the_worst_modality_alone() -> None:
    value, sigma = penalty(torch.tensor([3.2, 3.1, 0.0], dtype=torch.float64), 100.0, 0.001)
    assert float(value) == pytest.approx(320) and sigma.tolist() == pytest.approx([1.0, 0.0, 0.0])
    value, sigma = penalty(torch.tensor([0.7, 0.7], dtype=torch.float64), 1.0, 0.1)
    assert float(value) == pytest.approx(0.7 + 0.1 * math.log(2)) and sigma.tolist() == [0.5, 0.5]


def test_a_modality_that_no_sample_has_is_left_out() -> None:
    losses, nobody = torch.tensor([0.0, 0.3], dtype=torch.float64), torch.tensor([False, False])
    value, sigma = penalty(losses, 2.0, 1.0, torch.tensor([False, True]))
    assert float(value) == pytest.approx(0.6) and sigma.tolist() == [0.0, 1.0]
    assert [x.tolist() for x in penalty(losses, 2.0, 1.0, nobody)] == [0.0, [0.0, 0.0]]
    assert math.isinf(penalty(torch.tensor([math.inf, math.inf]), 2.0, 1.0)[0])  # divergence is not hidden
    engine = build64("mimo", missing=True)
    there = engine.loaders["train"].there  # type: ignore[attr-defined]
    there[:, 0], there[:, 1] = False, True
    grads = one_step(engine)
    assert float(engine.logs["sigma/audio"]) == 0 and not grads["heads.audio.weight"].any()
    assert torch.isfinite(flat(train(build("mimo", missing=True), 2))).all()


def test_without_a_penalty_it_is_joint_training() -> None:
    found, plain = one_step(build64("mimo", options={"lam": 0.0})), one_step(build64("vanilla"))
    for name, gradient in plain.items():
        close(found[name], gradient)
    assert {n for n in found if n not in plain} == {f"heads.{m}.{p}" for m in TWO for p in ("weight", "bias")}


@pytest.mark.parametrize("options", [{"lam": -1.0}, {"mu": 0.0}, {"mu": math.nan}])
def test_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        strategy("mimo", **options)
