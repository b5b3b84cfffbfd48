"""OGMGE: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.strategies.ogm_ge import OGMGE
from ogm.types import Batch, Output
from tests.helpers.engines import (
    SAMPLES,
    TWO,
    build,
    digest,
    train,
)
from tests.helpers.methods import one_hot_logits


def test_a_batch_of_one_and_a_tensor_of_one() -> None:
    train(build("ogm_ge", size=1))
    encoders = {m: nn.Linear(1, 1) for m in TWO}
    plan = OGMGE(alpha=0.5).attach(encoders)
    for e in encoders.values():
        e.weight.grad = torch.full((1, 1), 0.25)
    logits, label = one_hot_logits(audio=3.0, visual=1.0)
    plan.on_gradients(Output(logits["audio"], logits), Batch({}, label, torch.arange(4)), Context())
    assert all(torch.isfinite(e.weight.grad).all() for e in encoders.values() if e.weight.grad is not None)
    assert encoders["visual"].weight.grad == pytest.approx(0.25, abs=1e-6)


def test_where_no_sample_has_all_modalities_nothing_is_modulated() -> None:
    vanilla, ge = build("vanilla", missing=True), build("ogm_ge", missing=True)
    for engine in (vanilla, ge):
        loader = engine.loaders["train"]
        loader.there[:, 0] = torch.arange(SAMPLES) % 2 == 0  # type: ignore[attr-defined]
        loader.there[:, 1] = torch.arange(SAMPLES) % 2 == 1  # type: ignore[attr-defined]
        train(engine)
    assert digest(vanilla) == digest(ge)
    assert set(ge.curves["coefficient/audio"]) == {1.0}


def test_the_noise_has_the_spread_of_the_unscaled_gradient() -> None:
    encoders = {m: nn.Linear(200, 200, bias=False) for m in TWO}
    plan = OGMGE(alpha=0.8).attach(encoders)
    raw = {m: 3 * torch.randn(200, 200, generator=torch.Generator().manual_seed(i)) for i, m in enumerate(TWO)}

    def edited(step: int, seed: int = 0) -> dict[str, Tensor]:
        for m, e in encoders.items():
            e.weight.grad = raw[m].clone()
        logits, label = one_hot_logits(audio=3.0, visual=1.0)
        ctx = Context(step=step, seed=seed)
        plan.on_gradients(Output(logits["audio"], logits), Batch({}, label, torch.arange(4)), ctx)
        k = {m: float(ctx.logs[f"coefficient/{m}"]) for m in TWO}
        assert k["audio"] < 1 == k["visual"]
        return {
            m: (e.weight.grad - k[m] * raw[m]) / raw[m].std() for m, e in encoders.items() if e.weight.grad is not None
        }

    noise = edited(0)
    for z in noise.values():
        assert abs(float(z.std()) - 1) < 0.03 and abs(float(z.mean())) < 0.03
    assert not torch.allclose(noise["audio"], noise["visual"], atol=0.1)
    again, later, other = edited(0), edited(1), edited(0, seed=1)
    for m in TWO:
        torch.testing.assert_close(noise[m], again[m])
        assert not torch.allclose(noise[m], later[m], atol=0.1) and not torch.allclose(noise[m], other[m], atol=0.1)
