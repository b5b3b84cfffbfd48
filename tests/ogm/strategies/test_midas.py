"""MIDAS: partners of another class, samples made of two, and the weight of the weaker modality."""

from __future__ import annotations

import pytest
import torch

from ogm.context import Context
from ogm.parts.global_batch import global_order
from ogm.strategies.midas import Mixture, draw_partners, hardness
from ogm.types import Batch
from tests.helpers.engines import THREE, TWO, build, digest, flat, strategy, train
from tests.helpers.methods import build64, one_step


def drawn(modalities: tuple[str, ...], step: int = 0) -> tuple[Mixture, torch.Tensor]:
    """The misaligned samples of a batch of nine, in which sample 5 comes first."""
    plan = build("midas", modalities=modalities).strategy
    batch = Batch({}, torch.arange(9) % 3, torch.tensor([5, 1, 2, 3, 4, 0, 6, 7, 8]))
    order = global_order(batch.index)
    label = order.rows(batch.label)
    return plan.draw(order, batch, label, Context(step=step)), label  # type: ignore[operator]


def test_both_directions_of_every_pair() -> None:
    mixture, label = drawn(TWO)
    first, second = (mixture.source[m] for m in TWO)
    assert torch.equal(first[:9], second[9:]) and torch.equal(second[:9], first[9:])
    assert torch.equal(mixture.anchor, first[:9].repeat(2)) and mixture.anchor[:9].tolist() == [
        5,
        1,
        2,
        3,
        4,
        0,
        6,
        7,
        8,
    ]
    assert mixture.valid.all() and (label[first] != label[second]).all()
    other, _ = drawn(TWO, step=1)
    assert not torch.equal(other.source["visual"], second)


def test_three_sources_for_three_modalities() -> None:
    mixture, label = drawn(THREE)
    sources = torch.stack(list(mixture.source.values()))
    assert ((sources == mixture.anchor).sum(0) == 1).all()  # the anchor gives one modality, a partner each other
    assert (label[sources] != label[mixture.anchor]).sum(0).tolist() == [2] * 9
    assert len({int(column.argmax()) for column in (sources == mixture.anchor).int().T}) == 3


def test_partners_do_not_depend_on_where_a_sample_stands() -> None:
    label, uniform = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([0.1, 0.9, 0.4, 0.99, 0.0], dtype=torch.float64)
    whole = draw_partners(label, label, uniform)
    assert torch.equal(whole[3:], draw_partners(label[3:], label, uniform[3:]))
    assert (label[whole] != label).all()


def test_only_replaced_modalities_are_compared() -> None:
    features = {"a": torch.tensor([[1.0, 0.0], [1.0, 0.0]]), "v": torch.tensor([[1.0, 0.0], [0.0, 2.0]])}
    source = {"a": torch.tensor([0, 0]), "v": torch.tensor([1, 0])}
    assert hardness(features, source, torch.tensor([0, 0])).tolist() == [0.0, 0.0]  # v replaced, nothing replaced
    assert hardness(features, source, torch.tensor([1, 1])).tolist() == [1.0, 0.5]


def test_the_warm_up_trains_encoders_and_heads_alone() -> None:
    engine = build64("midas", options={"warmup": 0.3})
    grads = one_step(engine)
    assert not [n for n in grads if n.startswith("fusion.")] and [n for n in grads if n.startswith("encoders.")]
    assert "loss/fused" not in engine.logs and engine.strategy.first_final_epoch(4) == 1
    engine.epoch = 1
    assert [n for n in one_step(engine) if n.startswith("fusion.")] and "loss/misaligned" in engine.logs
    engine.epoch, engine.epochs = 0, 0
    with pytest.raises(ValueError, match=r"midas warms up .* pass epochs="):
        one_step(engine)


def test_swapped_features_reach_the_encoders() -> None:
    plain, mixed = (one_step(build64("midas", options={"lam": lam})) for lam in (0.0, 1.0))
    multiloss = one_step(build64("equal_weight_multiloss"))
    for name, gradient in multiloss.items():
        assert torch.equal(plain[name], gradient)
        assert name.startswith("heads.") == torch.equal(plain[name], mixed[name]), name  # c has no gradient


def test_alpha_grows_within_an_epoch_and_belongs_to_it() -> None:
    engine, going_on = (build("midas", options={"reset": reset, "eta": 0.5}) for reset in ("epoch", "never"))
    after = []
    for run in (engine, going_on):
        run.strategy.alpha.copy_(torch.tensor([3.0, 1.0]))  # of the epoch before
        run.epoch = 1
        one_step(run)
        after.append(run.strategy.alpha.clone())
    assert float(engine.strategy.alpha_epoch) == 1 and after[0].max() <= 1.5
    assert all(a.min() == 1 for a in after)
    train(engine)
    for m, a in zip(TWO, engine.strategy.alpha, strict=True):
        assert float(a) >= 1 and m in engine.strategy.heads  # type: ignore[arg-type, operator]


def test_one_class_leaves_alpha_alone() -> None:
    engine = build64("midas")
    engine.loaders["train"].data.label.zero_()  # type: ignore[attr-defined]
    engine.strategy.alpha.copy_(torch.tensor([1.0, 2.0]))
    grads = one_step(engine)
    assert float(engine.logs["loss/misaligned"]) == 0 and engine.strategy.alpha.tolist() == [1.0, 2.0]
    assert all(torch.isfinite(g).all() for g in grads.values())


def test_missing_modalities() -> None:
    for modalities in (TWO, THREE):
        engines = [train(build("midas", modalities=modalities, missing=True), 2) for _ in range(2)]
        assert torch.isfinite(flat(engines[0])).all() and digest(engines[0]) == digest(engines[1])
    engine = build64("midas", missing=True)
    there = engine.loaders["train"].there  # type: ignore[attr-defined]
    there[:, 0], there[:, 1] = True, False  # no anchor has everything
    one_step(engine)
    assert float(engine.logs["loss/misaligned"]) == 0


def test_what_is_refused() -> None:
    for options in ({"lam": -1.0}, {"eta": -0.1}, {"warmup": 1.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            strategy("midas", **options)
    with pytest.raises(ValueError, match=r"midas swaps features .* choose a fusion of features"):
        build("midas", "mmtm")
