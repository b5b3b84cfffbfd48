"""UDI: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ogm.strategies import udi
from tests.helpers.engines import THREE, TWO, build, refusal, strategy, train
from tests.helpers.methods import Q64, close, rows, weights


def test_the_anchor_is_the_best_alone_and_stays_as_it_was() -> None:
    engine = build("udi", **Q64)
    teacher = engine.strategy._trained["visual"]
    with torch.no_grad():  # a model of visual that says the class: no other can be better
        inputs, label = engine.loaders["val"].data.inputs["visual"], engine.loaders["val"].data.label
        inputs.zero_()[:, 0, 0, :4] = nn.functional.one_hot(label, 4).double()
        teacher.encoder.over_time = nn.Identity()
    teacher.forward = lambda x: udi.Output(9 * x[:, 0, 0, :4])  # type: ignore[method-assign]
    train(engine, 2)
    assert engine.strategy._anchor == "visual" and int(engine.strategy.anchor) == 1
    close(weights(engine.model.encoders["visual"]), weights(teacher.encoder))
    close(weights(engine.strategy.heads["visual"]), weights(teacher.classifier))
    assert all(p.grad is None for p in engine.model.encoders["visual"].parameters())


def test_what_nobody_uses_does_not_move() -> None:
    engine = build("udi", modalities=THREE)
    before = {a: weights(q) for a, q in engine.strategy.estimators.items()}
    fusion = weights(engine.model.fusion)
    train(engine)
    anchor = engine.strategy._anchor
    assert {a for a, q in engine.strategy.estimators.items() if not torch.equal(before[a], weights(q))} == {anchor}
    assert torch.equal(fusion, weights(engine.model.fusion))


@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_without_interaction_a_follower_is_trained_alone(
    modalities: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udi.UDI, "set_weights", lambda *_: None)  # they stay 0
    engine = build("udi", modalities=modalities, max_norm=None, **Q64)
    engine.strategy.on_epoch_start(engine)
    for m in engine.strategy._followers:
        alone = build("unimodal", modalities=modalities, max_norm=None, options={"modality": m}, **Q64)
        alone.strategy.classifier.load_state_dict(engine.strategy.heads[m].state_dict())
        together = build("udi", modalities=modalities, max_norm=None, **Q64)
        train(alone), train(together)
        close(weights(alone.model.encoders[m]), weights(together.model.encoders[m]))
        close(weights(alone.strategy.classifier), weights(together.strategy.heads[m]))


def test_the_weights_are_those_of_the_gradients_and_measuring_changes_nothing() -> None:
    engine = build("udi", modalities=THREE, **Q64)
    plan = engine.strategy
    for m in THREE:
        engine.model.encoders[m].stages[0][1] = nn.BatchNorm2d(8).double()
        plan._trained[m].encoder.stages[0][1] = nn.BatchNorm2d(8).double()
    plan.on_epoch_start(engine)
    before = weights(engine.model)
    plan.set_weights(engine)
    assert torch.equal(before, weights(engine.model)) and all(p.grad is None for p in engine.model.parameters())
    batch = engine.loaders["train"].epoch(0)[0]
    engine._train_mode()
    output = plan.forward(engine.model, batch)
    for m in plan._followers:
        terms = plan.terms(m, output, batch, engine)
        ours = list(engine.model.encoders[m].parameters())
        flat = {
            x: torch.cat([g.flatten() for g in torch.autograd.grad(t, ours, retain_graph=True)])
            for x, t in terms.items()
        }
        con, com = (float(torch.relu(flat["cls"] @ flat[x])) for x in ("con", "com"))
        found = plan.alpha[THREE.index(m)].tolist()
        assert found == pytest.approx([con / (con + com + 1e-8), com / (con + com + 1e-8)])
    assert plan.alpha[THREE.index(plan._anchor)].tolist() == [0, 0]


def test_q_is_fitted_before_the_follower_is_judged_by_it() -> None:
    engine = build("udi", options={"estimator_lr": 0.05}, **Q64)
    train(engine, 4)
    curve = engine.curves[f"loss/estimator/{engine.strategy._followers[0]}"]
    assert curve[-1] < curve[0]
    groups = engine.optimizer.param_groups
    assert {g["initial_lr"] for g in groups if not g.get("clip", True)} == {0.05}


def by_pairs(follower: Tensor, mean: Tensor, log_variance: Tensor, valid: Tensor) -> Tensor:
    def log_q(f: Tensor) -> Tensor:
        return -udi.estimator_loss(f.expand_as(mean), mean, log_variance)

    others = torch.stack([log_q(f) for f, counts in zip(follower, valid.tolist(), strict=True) if counts]).mean(0)
    return -udi.estimator_loss(follower, mean, log_variance) - others


def test_the_bound_is_that_over_all_pairs() -> None:
    follower, mean, log_variance = (rows(6, seed=k) for k in range(3))
    valid = torch.tensor([True, True, False, True, True, False])
    close(udi.complement(follower, mean, log_variance), by_pairs(follower, mean, log_variance, torch.ones(6).bool()))
    found = udi.complement(follower, mean, log_variance, valid)[valid]
    close(found, by_pairs(follower, mean, log_variance, valid)[valid])
    nothing = udi.complement(follower, mean[:1].expand(6, -1), log_variance[:1].expand(6, -1))
    assert float(nothing.mean()) == pytest.approx(0, abs=1e-12)  # q that ignores the anchor: no information


def test_predictions_add_up_over_what_a_sample_has() -> None:
    engine = train(build("udi", missing=True, **Q64))
    output, batch = next(iter(engine.predict("val")))
    seen = torch.stack([batch.has_all([m]) for m in TWO])[..., None]
    close(output.logits, (seen * torch.stack([output.unimodal_logits[m] for m in TWO])).sum(0))
    output, batch = next(iter(engine.predict("val", drop=["audio"])))
    has = batch.has_all(["visual"])
    close(output.logits[has], output.unimodal_logits["visual"][has])


@pytest.mark.parametrize("options", [{"width": 0}, {"estimator_lr": 0.0}, {"estimator_lr": float("nan")}])
def test_wrong_options_are_named_in_a_line(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}=") as error:
        strategy("udi", **options)
    assert "\n" not in str(error.value)


def test_encoders_that_exchange_signals_are_refused() -> None:
    assert "trains the encoders separately" in (refusal("udi", "mmtm") or "")
