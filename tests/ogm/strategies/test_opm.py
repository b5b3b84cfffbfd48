"""OPM: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ogm.context import Context
from ogm.strategies.opm import drop_features, drop_rates, dropped_share
from ogm.types import Output
from tests.helpers.engines import TWO, build, digest, strategy, train


def test_only_who_is_ahead_is_hidden_and_the_further_the_more() -> None:
    rho = {m: torch.tensor(r) for m, r in {"a": 0.5, "b": 1.0, "c": 1.5, "d": 9.0, "e": torch.nan}.items()}
    q = {m: float(x) for m, x in drop_rates(rho, 0.5, 0.5).items()}
    assert q["a"] == q["b"] == q["e"] == 0 < 0.5 < q["c"] < q["d"] < 0.75


def test_hidden_features_keep_their_mean() -> None:
    """In expectation, over masks, the share of what is hidden and the rescaling cancel if all widths are equal."""
    q, n = {"a": torch.tensor(0.5), "v": torch.tensor(0.0)}, 20000
    features = {m: torch.ones(n, 3) for m in q}
    ctx = Context(seed=3)
    keep = {m: ctx.uniform(torch.arange(n), f"opm/{m}") >= x for m, x in q.items()}
    shown = drop_features(features, keep, dropped_share(q, dict.fromkeys(q, 3)))
    assert float(torch.cat(list(shown.values())).mean()) == pytest.approx(1, abs=0.02)
    assert not torch.equal(*keep.values())


def test_nothing_is_hidden_in_evaluation_or_by_the_coin() -> None:
    idle = train(build("opm", options={"p_exe": 0.0}))
    assert digest(idle) == digest(train(build("vanilla")))
    engine = build("opm", options={"p_exe": 1.0})
    batch = engine.loaders["val"].all()[0]  # type: ignore[index]
    plain = engine.model(batch.inputs)
    assert torch.equal(engine.strategy.forward(engine.model, batch).logits, plain.logits)


def test_a_sample_left_with_nothing_does_not_count() -> None:
    engine = build("opm", options={"q_base": 1.0, "lam": 0.0, "p_exe": 1.0})
    batch = engine.loaders["train"].epoch(0)[0]  # type: ignore[index]
    features = engine.model.encode(batch.inputs)
    with torch.no_grad():  # audio knows the labels, visual nothing
        features["audio"] = 9 * torch.eye(8)[batch.label]
        columns = engine.model.fusion.head.weight.zero_()[:, :8]
        columns.copy_(torch.eye(4, 8))
    batch.present["visual"] = torch.arange(len(batch)) % 2 == 0
    _, left = engine.strategy.on_features(features, batch, engine)
    assert left.weight is not None and torch.equal(left.weight > 0, batch.present["visual"])
    batch.weight = torch.zeros(len(batch))  # no sample at all: a loss of zero, not NaN
    assert float(engine.strategy.loss(engine.model.fuse(features).logits.detach(), batch, engine)) == 0


def test_opm_says_where_it_belongs() -> None:
    encoders = {m: nn.Linear(2, 2) for m in TWO}
    with pytest.raises(ValueError, match="pass fusion="):
        strategy("opm").attach(encoders)
    plan = strategy("opm").attach(encoders, fusion=nn.Linear(4, 3), dims=dict.fromkeys(TWO, 2))
    with pytest.raises(ValueError, match=r"call features = strategy\.transform"):
        plan.backward(Output(torch.zeros(2, 3, requires_grad=True)), torch.tensor([0, 1]))
