"""PMR: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from ogm.context import Context
from ogm.strategies import pmr
from tests.helpers.engines import CLASSES, THREE, TWO, build, flat, train
from tests.helpers.methods import Q64


def numbers(**values: float) -> dict[str, Tensor]:
    return {m: torch.tensor(x, dtype=torch.float64) for m, x in values.items()}


def plain(tensors: dict[str, Tensor]) -> dict[str, float]:
    return {m: float(x) for m, x in tensors.items()}


@pytest.mark.parametrize(
    ("rule", "scores", "beta"),
    [
        ("binary", {"a": 2.0, "v": 1.0}, {"a": 0, "v": 1}),
        ("binary", {"a": 1.0, "v": 2.0, "t": 1.9}, {"a": 1, "v": 0, "t": 1}),
        ("binary", {"a": 1.5, "v": 1.5}, {"a": 0, "v": 0}),
        ("binary", {"a": 0.0, "v": 0.0}, {"a": 0, "v": 0}),
        ("binary", {"a": float("nan"), "v": 1.0}, {"a": 0, "v": 0}),
        ("clipped", {"a": 1.5, "v": 1.0}, {"a": 0, "v": 0.5}),
        ("clipped", {"a": 9.0, "v": 1.0, "t": 6.0}, {"a": 0, "v": 1, "t": 0.5}),
        ("clipped", {"a": 0.0, "v": 1.0}, {"a": 1, "v": 0}),
        ("clipped", {"a": 0.0, "v": 0.0}, {"a": 0, "v": 0}),
    ],
)
def test_the_lagging_modalities_are_pulled(
    rule: pmr.Coefficient, scores: dict[str, float], beta: dict[str, float]
) -> None:
    assert plain(pmr.prototype_loss_weights(numbers(**scores), rule)) == beta


def test_nearness_is_the_negative_distance() -> None:
    x, c = torch.randn(5, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    known = torch.tensor([True, False, True, True])
    near = pmr.negative_distances(x, c, known)
    for i, k in itertools.product(range(5), (0, 2, 3)):
        assert float(near[i, k]) == pytest.approx(-(float(((x[i] - c[k]) ** 2).sum()) ** 0.5), abs=1e-12)
    assert not near.softmax(1)[:, 1].any()


def test_at_a_prototype_the_slope_is_zero() -> None:
    x = torch.tensor([[1.0, 1.0]], requires_grad=True)
    pmr.negative_distances(x, torch.tensor([[1.0, 1.0], [4.0, 5.0]]), torch.tensor([True, True]))[0, 0].backward()
    assert x.grad is not None and not x.grad.any()


def test_a_class_without_samples_keeps_its_prototype_and_one_without_any_has_no_loss() -> None:
    label, there = torch.tensor([0, 0]), torch.tensor([True, True])
    old = torch.tensor([[5.0], [7.0], [0.0]])
    sums = pmr.class_sums(torch.tensor([[1.0], [2.0]]), label, 3, there)
    blend = pmr.blend_prototypes(old, torch.tensor([False, True, False]), sums, 0.5)
    assert blend.flatten().tolist() == [1.5, 7.0, 0.0]

    engine = build("pmr")
    engine.strategy.on_epoch_start(engine)
    batch = engine.loaders["train"].epoch(0)[0]
    engine.strategy.get_buffer("known_visual")[batch.label[0]] = False
    output = engine.model(batch.inputs)
    losses = engine.strategy.losses(output, batch, Context(model=engine.model))
    assert torch.isfinite(torch.stack(list(losses.values()))).all()
    losses["prototype/visual"].backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in engine.model.parameters())


@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
def test_prototypes_are_class_means_of_features(modalities: tuple[str, ...], missing: bool) -> None:
    engine = train(build("pmr", modalities=modalities, missing=missing, **Q64))
    engine.strategy.on_epoch_start(engine)
    outputs = list(engine.predict("train"))
    for m in modalities:
        features = torch.cat([o.features[m] for o, _ in outputs])
        label = torch.cat([torch.where(b.has_all([m]), b.label, -1) for _, b in outputs])
        means = torch.stack([features[label == k].mean(0) for k in range(CLASSES)])
        torch.testing.assert_close(engine.strategy.get_buffer(f"prototypes_{m}"), means)


def test_of_a_large_training_set_a_tenth_makes_the_prototypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pmr, "WHOLE", 10)
    engine = build("pmr", size=6, **Q64)
    engine.strategy.on_epoch_start(engine)
    first = engine.loaders["train"].epoch(0)[0]
    known = set(first.label.tolist())
    assert engine.strategy.get_buffer("known_audio").nonzero().flatten().tolist() == sorted(known)
    assert torch.isfinite(flat(train(engine, 2))).all()


def test_only_the_lagging_encoder_is_pulled_and_towards_its_own_prototypes() -> None:
    grads = {}
    for method in ("vanilla", "pmr"):
        engine = build(method, **Q64)
        engine.update = lambda: None  # type: ignore[method-assign]
        engine.logs = {}
        engine.strategy.on_epoch_start(engine)
        engine.strategy.step(engine.loaders["train"].epoch(0)[0], engine)
        grads[method] = {
            m: torch.cat([p.grad.flatten() for p in engine.model.encoders[m].parameters() if p.grad is not None])
            for m in TWO
        }
    strong, weak = sorted(TWO, key=lambda m: float(engine.logs[f"beta/{m}"]))
    assert [float(engine.logs[f"beta/{m}"]) for m in (strong, weak)] == [0, 1]
    assert torch.equal(grads["vanilla"][strong], grads["pmr"][strong])
    assert not torch.allclose(grads["vanilla"][weak], grads["pmr"][weak])
