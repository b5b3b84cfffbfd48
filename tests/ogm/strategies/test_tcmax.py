"""TCMax: a softmax over combinations of samples and classes."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from ogm.context import Context
from ogm.engine import Engine
from ogm.strategies import tcmax
from tests.helpers.engines import THREE, TWO, build, digest, flat, strategy, train
from tests.helpers.methods import build64, close, one_step


def enumerated(engine: Engine, *, missing: bool = False) -> Tensor:
    """The loss of the first batch from every combination, each through the fusion."""
    batch = engine.loaders["train"].epoch(0)[0]  # type: ignore[index]
    features = engine.model.encode(batch.inputs)
    there = {m: batch.has_all([m]) if missing else torch.ones(len(batch), dtype=torch.bool) for m in features}
    rows = list(itertools.product(*(there[m].nonzero()[:, 0].tolist() for m in features)))
    picked = {m: f[torch.tensor([row[i] for row in rows])] for i, (m, f) in enumerate(features.items())}
    whole = torch.stack(list(there.values())).all(0)
    own = engine.model.fusion(features).gather(1, batch.label[:, None])[whole, 0].mean()
    loss: Tensor = engine.model.fusion(picked).logsumexp((0, 1)) - own - math.log(whole.sum())
    return loss.detach()


@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
@pytest.mark.parametrize("fusion", ["concat", "sum", "late"])
def test_an_additive_fusion_has_every_combination(fusion: str, modalities: tuple[str, ...]) -> None:
    engine = build64("tcmax", fusion, modalities, size=9)
    expected = enumerated(engine)
    one_step(engine)
    close(engine.logs["loss/fused"], expected)  # type: ignore[arg-type]
    assert float(expected) >= 0


@pytest.mark.parametrize("fusion", ["film", "gated", "late_prob"])
def test_two_modalities_under_any_fusion_have_every_pair(fusion: str) -> None:
    engine = build64("tcmax", fusion)
    expected = enumerated(engine)
    one_step(engine)
    close(engine.logs["loss/fused"], expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("fusion", ["concat", "film"])
def test_what_is_missing_is_in_no_combination(fusion: str) -> None:
    engine = build64("tcmax", fusion, missing=True)
    expected = enumerated(engine, missing=True)
    one_step(engine)
    close(engine.logs["loss/fused"], expected)  # type: ignore[arg-type]


def test_no_sample_with_all_modalities_is_no_loss() -> None:
    engine = build64("tcmax", missing=True)
    there = engine.loaders["train"].there  # type: ignore[attr-defined]
    there[:, 0], there[:, 1] = True, False
    grads = one_step(engine)
    assert float(engine.logs["loss/fused"]) == 0 and all(not g.any() for g in grads.values())


def test_drawn_combinations_estimate_all_of_them() -> None:
    every, drawn = (build64("tcmax", options={"pairs": pairs}) for pairs in (None, 20_000))
    one_step(every), one_step(drawn)
    assert abs(float(every.logs["loss/fused"]) - float(drawn.logs["loss/fused"])) < 0.05


def test_combinations_are_drawn_of_what_is_there_and_anew_in_every_step() -> None:
    plan = build("tcmax", modalities=THREE).strategy
    present = torch.tensor([[True, False, True], [True, True, False], [False, True, False]])
    first, second = (plan.draw(500, present, Context(step=step)) for step in (0, 1))  # type: ignore[operator]
    assert not torch.equal(first, second)
    for i, picks in enumerate(first):
        assert sorted(set(picks.tolist())) == present[:, i].nonzero()[:, 0].tolist()


def test_what_is_too_much_for_a_fusion_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcmax, "MOST_SAMPLES", 15)
    monkeypatch.setattr(tcmax, "DRAWN", 40)
    sizes = []
    for modalities in (TWO, THREE):
        engine = build64("tcmax", "film", modalities)
        engine.model.fusion.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0]["audio"])))
        one_step(engine)
    assert sizes[:2] == [16, 40] and sizes.count(40) == 2


def test_missing_modalities_train_alike_every_time() -> None:
    engines = [train(build("tcmax", "film", THREE, missing=True), 2) for _ in range(2)]
    assert torch.isfinite(flat(engines[0])).all() and digest(engines[0]) == digest(engines[1])


def test_one_sample_is_plain_cross_entropy() -> None:
    found, plain = one_step(build64("tcmax", size=1)), one_step(build64("vanilla", size=1))
    for name, gradient in plain.items():
        close(found[name], gradient)


def test_no_combination_is_refused() -> None:
    with pytest.raises(ValueError, match="pairs=0"):
        strategy("tcmax", pairs=0)
