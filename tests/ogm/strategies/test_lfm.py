"""LFM: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datasets.core.loader import Loader
from datasets.registry import load
from ogm.engine import Engine
from ogm.strategies.lfm import divergence, scheduled_weight
from ogm.types import Batch, Output
from tests.helpers.engines import SAMPLES, THREE, TWO, build, digest, flat, strategy, train
from tests.helpers.methods import LOGITS, Q64


def test_alignment_gives_way_to_fitting() -> None:
    for schedule in ("fitted", "heuristic"):
        w = [scheduled_weight(schedule, e, 20) for e in range(20)]
        assert w[:17] == sorted(w[:17]) and 0 < w[0] < 0.5 < min(w[-4:]) < 1  # the polynomial sinks a little at its end
    assert scheduled_weight("fitted", 0, 1) == scheduled_weight("fitted", 0, 200)
    assert scheduled_weight("fitted", 19, 20) == scheduled_weight("fitted", 199, 200)
    with pytest.raises(ValueError, match="pass epochs="):
        scheduled_weight("fitted", 0, 0)


@pytest.mark.parametrize("align", ["mixture_to_branches", "true_js"])
def test_divergence_is_a_symmetric_distance_and_finite(align: Any) -> None:
    a, v = torch.tensor(LOGITS["a"]), torch.tensor(LOGITS["v"])
    torch.testing.assert_close(divergence(a, v, align), divergence(v, a, align))
    assert (divergence(a, v, align) > 0).all() and divergence(a, a + 3, align).abs().max() < 1e-6
    far = torch.tensor([[1000.0, 0.0]], requires_grad=True)
    gap = divergence(far, -far.detach(), align).sum()
    gap.backward()
    assert torch.isfinite(gap) and torch.isfinite(far.grad).all()  # type: ignore[arg-type]


def learner(**options: Any) -> Engine:
    return build("lfm", options={"schedule": "learned", "held_out": 12, "lr_weight": 0.1, **options}, **Q64)


def test_the_learned_weight_follows_the_derivative_it_claims() -> None:
    """Against a naive reference: the held-out loss after one step, at two weights, a difference quotient apart."""
    engine = learner()
    plan, loader = engine.strategy, engine.loaders["train"]
    first = loader.epoch(0, plan.epoch_sampling(SAMPLES, engine))[0]  # type: ignore[index]
    held = loader.pick(plan.sample_order(SAMPLES, engine)[:12], 12)  # type: ignore[attr-defined, operator]
    start = {k: x.clone() for k, x in engine.model.state_dict().items()}

    def after_a_step(w_cls: float) -> Tensor:
        engine.model.load_state_dict(start)
        parts = plan.loss_terms(first, engine)  # type: ignore[operator]
        params = list(engine.model.parameters())
        grads = torch.autograd.grad(w_cls * parts["cls"] + (1 - w_cls) * parts["align"], params)
        with torch.no_grad():
            for p, g in zip(params, grads, strict=True):
                p -= 0.1 * g
            return plan.loss_terms(held, engine)["cls"]  # type: ignore[operator, no-any-return]

    quotient = -float(after_a_step(0.05 + 1e-5) - after_a_step(0.05 - 1e-5)) / 2e-5
    engine.model.load_state_dict(start)
    before = digest(engine)
    plan.on_epoch_start(engine)
    assert digest(engine) == before  # the probe leaves no trace
    assert float(plan.w_cls) - 0.05 == pytest.approx(0.1 * quotient, rel=1e-4)  # type: ignore[arg-type]


def test_held_out_samples_are_never_trained_on() -> None:
    engine = learner()
    aside = set(engine.strategy.sample_order(SAMPLES, engine)[:12].tolist())  # type: ignore[operator]
    seen: set[int] = set()
    step = engine.strategy.step

    def watched(batch: Batch, at: Engine) -> Output:
        seen.update(batch.index.tolist())
        return step(batch, at)

    engine.strategy.step = watched  # type: ignore[method-assign]
    train(engine, 2)
    assert len(aside) == 12 and seen == set(range(SAMPLES)) - aside


@pytest.mark.parametrize("schedule", ["learned", "learned_surrogate"])
def test_a_learned_weight_is_resumed(schedule: str, tmp_path: Path) -> None:
    whole, half, resumed = (learner(schedule=schedule) for _ in range(3))
    for engine in (whole, half):
        engine.strategy.w_cls.fill_(0.5)  # away from its bounds
    train(whole, 4), train(half, 2)
    torch.save(half.state_dict(), tmp_path / "checkpoint.pt")
    resumed.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    train(resumed, 2)
    assert digest(resumed) == digest(whole) and resumed.curves == whole.curves
    assert len(set(whole.curves["w_cls"])) == 4


def test_a_held_out_set_fills_whole_batches_of_the_real_loader() -> None:
    data = load("synthav", {"num_train": 96, "num_val": 16, "num_test": 16})
    engine = learner()
    plan = engine.strategy
    real = Loader(data.train, batch_size=32)
    aside = torch.arange(12).repeat(32 // math.gcd(32, 12))
    batches = list(real.epoch(0, plan.all_modalities(aside)))  # type: ignore[operator]
    counts = torch.cat([b.index for b in batches]).bincount()
    assert all(len(b) == 32 for b in batches) and counts.unique().numel() == 1 and len(counts) == 12


def test_a_weight_is_not_learned_without_the_engine() -> None:
    plan, output = learner().strategy, Output(torch.zeros(2, 4, requires_grad=True))
    with pytest.raises(ValueError, match=r"Engine|engine"):
        plan.backward(output, torch.tensor([0, 1]))


def test_a_training_set_smaller_than_what_is_set_aside() -> None:
    with pytest.raises(ValueError, match="held_out=64 leaves nothing to train on: the training set has 60"):
        build("lfm", options={"schedule": "learned"})


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
def test_alignment_by_contrast_brings_pairs_together(missing: bool) -> None:
    engine = build("lfm", modalities=THREE, missing=missing, options={"align": "infonce"})
    train(engine, 4)
    contrast = engine.curves["loss/align"]
    assert torch.isfinite(flat(engine)).all() and engine.strategy.needs_whole_batch
    weight = [2 * (1 - w) for w in engine.curves["w_cls"]]  # type: ignore[operator]
    assert contrast[-1] / weight[-1] < contrast[0] / weight[0]  # type: ignore[operator]
    with pytest.raises(ValueError, match="pass dims="):
        strategy("lfm", align="infonce").attach({m: nn.Linear(2, 2) for m in TWO})
    assert not strategy("lfm").needs_whole_batch
