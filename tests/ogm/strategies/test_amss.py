"""AMSS: what its released code and its docstring claim, and its edges."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ogm.context import Context
from ogm.engine import Engine
from ogm.strategies import amss
from ogm.types import Output
from tests.helpers.engines import THREE, TWO, build, strategy
from tests.helpers.methods import Q64, close, gradients, one_step


def convolutions(found: dict[str, Tensor], m: str) -> list[Tensor]:
    return [g for name, g in found.items() if name.startswith(f"encoders.{m}.") and g.ndim == 4]


def at_work(engine: Engine, **keep: float) -> dict[str, Tensor]:
    """Gradients of a step in which the modalities keep these shares of their filters."""
    engine.strategy.information = lambda *_: (torch.ones(len(keep)).double(), torch.ones(len(keep)).double())  # type: ignore[method-assign]
    shares = torch.tensor(list(keep.values()), dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(amss, "keep_shares", lambda *_: shares)
        return one_step(engine)


@pytest.mark.parametrize("mode", ["adaptive", "unbiased", "random"])
def test_so_many_filters_are_updated(mode: str) -> None:
    whole = one_step(build("vanilla", **Q64))
    masked = at_work(build("amss", options={"mode": mode}, **Q64), audio=0.3, visual=0.7)
    for m, kept in (("audio", 3), ("visual", 6)):  # of 8: ceil(2.4), ceil(5.6)
        for g, before in zip(convolutions(masked, m), convolutions(whole, m), strict=True):
            stays = g.flatten(1).abs().sum(1) > 0
            assert int(stays.sum()) == kept
            factor = 1.0
            if mode == "unbiased":
                squares = before.flatten(1).square().sum(1)
                factor = (1 / (squares / squares.sum() + 1 / 8))[stays][:, None, None, None]
            close(g[stays], before[stays] * factor)
    others = {n for n, g in whole.items() if g.ndim != 4 or not n.startswith("encoders.")}
    assert all(torch.equal(whole[n], masked[n]) for n in others)


def test_the_rows_of_any_weight_can_be_filters() -> None:
    whole, masked = gradients("vanilla"), gradients("amss", scope="weights")
    changed = {n for n, g in whole.items() if not torch.equal(g, masked[n])}
    assert changed and all(n.startswith("encoders.") and whole[n].ndim > 1 for n in changed)


def test_filters_are_drawn_by_their_probabilities() -> None:
    p, draws = torch.tensor([0.5, 0.3, 0.15, 0.05, 0.0], dtype=torch.float64), 40_000
    uniform = Context(seed=3).uniform(torch.arange(5 * draws).view(draws, 5), "test")
    ranks = amss.draw_ranks(p.expand(draws, 5), uniform)
    assert (ranks.sort(1).values == torch.arange(5)).all() and (ranks[:, 4] == 4).all()
    first = (ranks == 0).double().mean(0)
    second = torch.stack([sum(p[j] * p[i] / (1 - p[j]) for j in range(5) if j != i) for i in range(5)])
    assert (first - p).abs().max() < 0.011  # 4.4 standard deviations
    assert ((ranks == 1).double().mean(0) - second).abs().max() < 0.011


def test_without_a_gradient_all_filters_are_alike() -> None:
    real = torch.tensor([[True, True, True, False], [True, True, True, True]])
    norms = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1e-200, 0.0, 1e-200, 0.0]], dtype=torch.float64)
    found = amss.filter_probabilities(norms, real)
    close(found, torch.tensor([[1 / 3, 1 / 3, 1 / 3, 0], [0.5, 0, 0.5, 0]], dtype=torch.float64))


def test_shares() -> None:
    one = torch.ones(2, dtype=torch.float64)
    ratio = torch.tensor([0.9, 0.5], dtype=torch.float64)
    keep = amss.keep_shares(ratio, one, 0.2)
    close(
        keep, torch.tensor([0.5, 0.9], dtype=torch.float64).div(0.2).softmax(0).clamp(0.1, 0.9)
    )  # each by the other's
    close(keep, amss.keep_shares(ratio, one, 0.2, "complement"))
    assert amss.keep_shares(ratio, one, 1e-3).tolist() == [0.1, 0.9]
    for unknown in ([0.9, 0.0], [0.9, -1.0], [0.9, float("nan")]):
        assert amss.keep_shares(torch.tensor(unknown).double(), one, 0.2).tolist() == [0.5, 0.5]
    three = torch.tensor([0.9, 0.6, 0.3], dtype=torch.float64)
    ones = torch.ones(3, dtype=torch.float64)
    close(amss.keep_shares(three, ones, 1.0), torch.tensor([0.45, 0.6, 0.75], dtype=torch.float64).softmax(0))
    close(amss.keep_shares(three, ones, 1.0, "complement"), 1 - three.softmax(0))
    assert amss.keep_shares(ones, torch.zeros(3).double(), 0.2).isfinite().all()  # features of no entropy


def test_a_modality_counts_the_samples_that_have_it() -> None:
    engine = build("amss", modalities=THREE, missing=True, **Q64)
    batch = engine.loaders["train"].epoch(0)[0]
    output = engine.model.fuse(engine.model.encode(batch.inputs, batch.present), batch.present).detach()
    information, entropy = engine.strategy.information(output, batch, engine)
    p = batch.label.bincount().double() / len(batch)
    p = p[p > 0]
    for k, m in enumerate(THREE):
        has = batch.has_all([m])
        ce = torch.nn.functional.cross_entropy(output.unimodal_logits[m][has], batch.label[has])
        assert float(information[k]) == pytest.approx(float(-(p * p.log()).sum() - ce + 0.5))
        q = output.features[m][has].softmax(1)
        assert float(entropy[k]) == pytest.approx(float(-(q * q.log()).sum(1).mean()))
    batch.present["text"][:] = False
    information, entropy = engine.strategy.information(output, batch, engine)
    assert information[2].isnan()
    assert amss.keep_shares(information, entropy, 0.2).tolist() == [0.5] * 3


def test_what_is_drawn_is_a_function_of_seed_and_step() -> None:
    one, again, other = (build("amss", seed=0, **Q64) for _ in range(3))
    other.step = 1
    first, second, third = (at_work(e, audio=0.5, visual=0.5) for e in (one, again, other))
    assert all(torch.equal(g, second[n]) for n, g in first.items())
    assert any(not torch.equal(g, third[n]) for n, g in first.items())


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": float("nan")}])
def test_wrong_options_are_named_in_a_line(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="temperature=") as error:
        strategy("amss", **options)
    assert "\n" not in str(error.value)


def test_features_are_needed() -> None:
    engine = build("amss")
    with pytest.raises(ValueError, match="needs the features of every modality"):
        engine.strategy.on_gradients(Output(torch.zeros(2, 4), {m: torch.zeros(2, 4) for m in TWO}), None, engine)


def test_encoders_without_convolutions_are_refused_before_training() -> None:
    encoders = {m: torch.nn.Linear(3, 5) for m in TWO}
    given = {"dims": dict.fromkeys(TWO, 5), "num_classes": 4}
    with pytest.raises(ValueError, match="no encoder has any: say scope='weights'"):
        strategy("amss").attach(encoders, **given)
    strategy("amss", scope="weights").attach(encoders, **given)
