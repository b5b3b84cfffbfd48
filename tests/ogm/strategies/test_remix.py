"""Remix: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ogm.engine import Engine
from ogm.strategies.remix import bits_from_uniform, weakest
from tests.helpers.engines import SAMPLES, THREE, TWO, build, flat, strategy, train
from tests.helpers.methods import build64, close


def remixed(fusion: str = "concat", modalities: tuple[str, ...] = TWO, **how: Any) -> Engine:
    """An engine whose warm-up is over, at the start of a remixed epoch."""
    engine = train(build64("remix", fusion, modalities, **how))
    engine.strategy.on_epoch_start(engine)
    return engine


def epoch(engine: Engine) -> list[Any]:
    return list(engine.loaders["train"].epoch(1, engine.strategy.epoch_sampling(SAMPLES, engine)))


def test_certainty_is_in_bits_and_the_last_of_the_least_certain_is_kept() -> None:
    assert bits_from_uniform(torch.tensor([[0.0, 0.0, 0.0, 0.0], [99.0, 0.0, 0.0, 0.0]])).tolist() == [0.0, 2.0]
    p = torch.tensor([0.5, 0.25, 0.25])
    assert float(bits_from_uniform(p.log()[None])) == pytest.approx(math.log2(3) - 1.5)
    certainty = torch.tensor([[1.0, 0.0, 2.0], [1.0, 0.0, 1.0], [1.0, 3.0, 1.0]])
    there = torch.ones(3, 3, dtype=torch.bool)
    assert weakest(certainty, there).tolist() == [2, 1, 2]
    there[2, 0] = there[2, 2] = False
    assert weakest(certainty, there).tolist() == [1, 1, 1]


def test_the_weakest_is_judged_without_augmentation_by_the_heads() -> None:
    engine = remixed(modalities=THREE, missing=True)
    data = engine.loaders["train"].pick(torch.arange(SAMPLES), SAMPLES)  # type: ignore[attr-defined]
    engine.model.eval()
    features = {m: e(data.inputs[m]) for m, e in engine.model.encoders.items()}
    zeros = {m: torch.where(data.present[m][:, None], f, 0.0) for m, f in features.items()}
    bits = torch.stack([bits_from_uniform(engine.strategy.heads[m](f)) for m, f in zeros.items()])
    kept = engine.strategy.choose(engine)
    assert torch.equal(kept, bits.detach().masked_fill(~data.presence(THREE), torch.inf).argmin(0))
    assert len(kept.unique()) > 1 and data.presence(THREE)[kept, torch.arange(SAMPLES)].all()


def test_an_epoch_shows_every_sample_once_in_batches_of_one_modality() -> None:
    engine = remixed(modalities=THREE)
    engine.strategy._kept = torch.tensor([0] * 20 + [2] * 33 + [0] * 7)
    batches = epoch(engine)
    assert [(b.group, len(b)) for b in batches] == [(0, 16), (0, 16), (0, 1), (2, 16), (2, 11)]
    assert sorted(torch.cat([b.index for b in batches]).tolist()) == list(range(SAMPLES))
    order = torch.cat([b.index for b in batches[:3]]).tolist()
    assert order != sorted(order) and order != torch.cat([b.index for b in epoch_of(engine, 2)[:3]]).tolist()
    for b in batches:
        assert [bool(b.present[m].all()) for m in THREE] == [m == engine.strategy.shown(b) for m in THREE]
        assert [bool(b.present[m].any()) for m in THREE] == [m == engine.strategy.shown(b) for m in THREE]


def epoch_of(engine: Engine, number: int) -> list[Any]:
    return list(engine.loaders["train"].epoch(number, engine.strategy.epoch_sampling(SAMPLES, engine)))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("fusion", ["concat", "gated", "mmtm"])
def test_what_is_hidden_does_not_move(fusion: str, optimizer: str) -> None:
    engine = remixed(fusion, optimizer=optimizer)
    for batch in (epoch(engine)[0], epoch(engine)[-1]):
        engine.logs = {}
        shown = engine.strategy.shown(batch)
        (hidden,) = set(TWO) - {shown}
        before = {m: weights(engine, m) for m in TWO}
        engine.strategy.step(batch, engine)
        assert torch.equal(weights(engine, hidden), before[hidden])
        assert not torch.equal(weights(engine, shown), before[shown])


def weights(engine: Engine, m: str) -> Tensor:
    own = [*engine.model.encoders[m].parameters(), *engine.strategy.heads[m].parameters()]
    return torch.cat([p.detach().reshape(-1) for p in own]).clone()


@pytest.mark.parametrize("fusion", ["concat", "gated", "late"])
def test_a_step_is_that_of_samples_without_the_other_modalities(fusion: str) -> None:
    engine = remixed(fusion)
    batch = epoch(engine)[0]
    m = engine.strategy.shown(batch)
    engine.model.train()
    output = engine.model.fuse(engine.model.encode(batch.inputs, batch.present), batch.present)
    ce = torch.nn.functional.cross_entropy
    loss = ce(output.logits, batch.label) + ce(engine.strategy.heads[m](output.features[m]), batch.label)
    parameters = [*engine.model.encoders[m].parameters(), *engine.model.fusion.parameters()]
    expected = torch.autograd.grad(loss, parameters, allow_unused=True)
    engine.update, engine.logs = lambda: None, {}  # type: ignore[method-assign]
    engine.strategy.step(batch, engine)
    for p, grad in zip(parameters, expected, strict=True):
        assert p.grad is not None or grad is None
        close(torch.zeros_like(p) if p.grad is None else p.grad, torch.zeros_like(p) if grad is None else grad)


def test_one_encoder_runs_per_step_and_nothing_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = remixed()
    batch, ran = epoch(engine)[0], []
    for m, encoder in engine.model.encoders.items():
        encoder.register_forward_hook(lambda *_, m=m: ran.append(m))

    def waits(*_: object, **__: object) -> None:
        raise AssertionError("the host waits for the device")

    engine.update, engine.logs = lambda: None, {}  # type: ignore[method-assign]
    for name in ("item", "__bool__", "__float__", "__int__", "__index__", "tolist", "nonzero", "cpu", "numpy"):
        monkeypatch.setattr(Tensor, name, waits)
    engine.strategy.step(batch, engine)
    assert ran == [engine.strategy.shown(batch)]


def test_a_last_batch_of_one_sample_needs_no_statistics_of_its_own() -> None:
    engine = remixed()
    batch = epoch(engine)[0].select(slice(0, 1))
    norm = nn.BatchNorm1d(8, dtype=torch.float64)
    m = engine.strategy.shown(batch)
    plain = engine.model.encoders[m]
    model = SimpleNamespace(encoders={m: nn.Sequential(plain, norm)})
    found = engine.strategy.encode(m, batch, model)[m]
    close(found, plain(batch.inputs[m]) / math.sqrt(1 + norm.eps))
    assert norm.training and norm.num_batches_tracked == 0


def test_the_warm_up_is_a_share_of_the_run() -> None:
    for share, first in ((0.0, 0), (0.01, 1), (0.25, 1), (0.5, 2), (1.0, 4)):
        engine = build("remix", options={"warmup": share})
        for number in range(4):
            engine.epoch = number
            engine.strategy.on_epoch_start(engine)
            assert (engine.strategy._kept is None) == (number < first), (share, number)


def test_heads_that_know_nothing_keep_the_last_modality() -> None:
    engine = build("remix", options={"warmup": 0.0})
    for p in engine.strategy.heads.parameters():
        p.data.zero_()
    train(engine)
    assert engine.curves["kept/visual"] == [1.0] and engine.curves["kept/audio"] == [0.0]
    assert torch.isfinite(flat(train(engine, 3))).all()


def test_wrong_options_are_refused() -> None:
    for options in ({"warmup": 1.5}, {"w": -1.0}, {"gamma": float("nan")}):
        with pytest.raises(ValueError, match=r"choose warmup in \[0, 1\]"):
            strategy("remix", **options)
