"""IPRM: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import pytest
import torch

from ogm.strategies.iprm import great_circle, turned_weights
from tests.helpers.engines import THREE, TWO, build, flat, strategy, train
from tests.helpers.methods import D, build64, close, one_step, rows


def test_a_mixture_lies_on_the_great_circle() -> None:
    x, y = rows(4, seed=1), rows(4, seed=2)
    unit = [z / z.norm(dim=1, keepdim=True) for z in (x, y)]
    angle = (unit[0] * unit[1]).sum(1).arccos()
    mixed = great_circle(3 * x, 0.1 * y, torch.tensor([0.3, 0.7], dtype=D))
    close(mixed.norm(dim=1), torch.ones(4, dtype=D))
    close((mixed * unit[0]).sum(1).arccos(), 0.7 * angle)
    close((mixed * unit[1]).sum(1).arccos(), 0.3 * angle)
    ends = [great_circle(x, y, torch.tensor(w, dtype=D)) for w in ([1.0, 0.0], [0.0, 1.0])]
    close(ends[0], unit[0]), close(ends[1], unit[1])


def test_the_nearer_prediction_gets_the_larger_weight() -> None:
    assert turned_weights(torch.tensor([0.3, 0.1])).tolist() == pytest.approx([0.25, 0.75])
    assert turned_weights(torch.zeros(2, 2)).tolist() == [[0.5, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
def test_the_fusion_is_neither_trained_nor_used(missing: bool) -> None:
    engine = build("iprm", modalities=THREE, missing=missing)
    before = [p.detach().clone() for p in engine.model.fusion.parameters()]
    train(engine, 2)
    assert all(torch.equal(p, q) for p, q in zip(engine.model.fusion.parameters(), before, strict=True))
    output, _ = next(iter(engine.predict("val")))
    for p in engine.model.fusion.parameters():
        p.data.fill_(7.0)
    assert torch.equal(next(iter(engine.predict("val")))[0].logits, output.logits)


def test_a_sample_is_predicted_by_the_modalities_it_has() -> None:
    engine = train(build64("iprm", modalities=THREE, missing=True))
    for output, batch in engine.predict("val"):
        there = batch.presence(THREE)
        for k, m in enumerate(THREE):
            alone = there[k] & (there.sum(0) == 1)
            close(output.logits[alone], output.unimodal_logits[m][alone])
        audio_visual = there[0] & there[1] & ~there[2]
        u = output.unimodal_logits
        mixture = engine.strategy.mix(0, engine.strategy.widened(output.features), engine.strategy.lam[0])
        close(output.logits[audio_visual], (u["audio"] + u["visual"] + mixture)[audio_visual])
    dropped, batch = next(iter(engine.predict("val", drop={"visual", "text"})))
    heard = batch.has_all(["audio"])
    close(dropped.logits[heard], dropped.unimodal_logits["audio"][heard])


def test_weights_follow_over_steps_and_are_those_of_the_prediction() -> None:
    engine = build64("iprm")
    first, hat = engine.strategy.lam.clone(), engine.strategy.lam_hat
    one_step(engine)
    assert torch.equal(engine.strategy.lam, first) and not torch.equal(hat, first)
    expected = 0.8 * first + 0.2 * hat
    one_step(engine, 1)
    close(engine.strategy.lam, expected)
    assert hat.sum(1).tolist() == pytest.approx([1.0])


def test_a_pair_that_no_sample_has_keeps_its_weights() -> None:
    engine = build64("iprm", modalities=THREE, missing=True)
    engine.loaders["train"].there[:, 2] = False  # type: ignore[attr-defined]
    engine.loaders["train"].there[:, 0] = True  # type: ignore[attr-defined]
    train(engine, 2)
    assert torch.isfinite(flat(engine)).all()
    for weights in (engine.strategy.lam, engine.strategy.lam_hat):
        assert weights[1:].tolist() == [[0.5, 0.5]] * 2 and weights[0, 0] != 0.5


def test_one_pair_at_a_time() -> None:
    engine = build64("iprm", modalities=THREE, options={"pairs": "one"})
    assert len(engine.strategy.mix_heads) == 1
    moved = []
    for step in range(12):
        engine.step, before = step, engine.strategy.lam_hat.clone()
        one_step(engine)
        moved.append((engine.strategy.lam_hat != before).any(1).nonzero()[:, 0].tolist())
    assert all(len(pair) == 1 for pair in moved) and {i for (i,) in moved} == {0, 1, 2}
    assert torch.isfinite(flat(train(engine, 2))).all()


def test_features_of_different_widths_are_mapped_to_the_largest() -> None:
    plan = strategy("iprm").attach({m: torch.nn.Identity() for m in TWO}, dims={"audio": 3, "visual": 5}, num_classes=4)
    features = {"audio": torch.randn(6, 3), "visual": torch.randn(6, 5)}
    assert {m: f.shape for m, f in plan.widened(features).items()} == dict.fromkeys(TWO, (6, 5))
    assert plan.widened(features)["visual"] is features["visual"]


def test_half_precision_is_mixed_in_full() -> None:
    x, y = rows(5, 8, 1).bfloat16(), rows(5, 8, 2).bfloat16()
    mixed = great_circle(x, y, torch.tensor([0.5, 0.5]))
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed.norm(dim=1), torch.ones(5))


def test_an_exchanging_fusion_and_a_wrong_share_are_refused() -> None:
    with pytest.raises(ValueError, match="IPRM trains the encoders separately, but MMTM"):
        build("iprm", "mmtm")
    with pytest.raises(ValueError, match=r"alpha=1\.5: the share"):
        strategy("iprm", alpha=1.5)
