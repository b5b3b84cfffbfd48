"""DIMML: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ogm.parts.stages import last_stage_length
from ogm.strategies.di_mml import certainty_weighted_mean, dimension_accuracy, effective_dimensions, interaction
from tests.helpers.engines import CLASSES, build, strategy, train
from tests.helpers.methods import rows, weights


def test_only_what_the_other_lacks_is_pulled() -> None:
    learner, target = rows(4).requires_grad_(), rows(4, seed=1).requires_grad_()
    dims = torch.tensor([True, False, False, True, False])
    pull = interaction(learner, target, dims, 2.0, None)
    scores = (learner * dims) @ (target * dims).T / 2
    torch.testing.assert_close(pull, F.cross_entropy(scores, torch.arange(4), reduction="none"))
    pull.sum().backward()
    assert learner.grad is not None and target.grad is None
    assert torch.equal(learner.grad.abs().sum(0) > 0, dims)
    nothing = interaction(learner, target, torch.zeros(5, dtype=torch.bool), 2.0, None)
    assert not nothing.any()


def test_effective_dimensions_know_the_class() -> None:
    label = torch.arange(200) % 3
    features = rows(200, 6)
    features[:, 1] += 3 * label
    features[:, 4] -= 2 * label
    accuracy = dimension_accuracy(features, label, num_classes=5)  # two classes that nobody belongs to
    assert effective_dimensions(accuracy).nonzero()[:, 0].tolist() == [1, 4]


def test_the_certain_speak_louder() -> None:
    sure, unsure = torch.tensor([[5.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.1, 0.0]])
    here, gone = torch.tensor([True]), torch.tensor([False])
    fused, weight = certainty_weighted_mean([sure, unsure], 0.1, [here, here])
    assert int(fused.argmax()) == 0 and float(weight[0]) > 0.99
    assert torch.equal(certainty_weighted_mean([sure, unsure], 0.1, [gone, here])[0], unsure)
    assert torch.isfinite(certainty_weighted_mean([sure, unsure], 0.1, [gone, gone])[0]).all()


def test_epochs_are_divided_and_never_all_given_away() -> None:
    assert [last_stage_length(e, 20 / 170, None) for e in (0, 1, 2, 4, 20, 100, 170)] == [0, 0, 1, 1, 2, 12, 20]
    assert (
        last_stage_length(20, 0.2, None) == 4
        and last_stage_length(20, 0.2, 7) == 7
        and last_stage_length(5, 0.2, 9) == 4
    )


def test_di_mml_trains_apart_then_the_fusion_alone_from_the_best_epochs() -> None:
    engine = build("di_mml", options={"fuse": 1, "e_c": 1})
    model, plan = engine.model, engine.strategy
    fusion = weights(model.fusion)
    for number in range(3):
        before = {m: weights(e) for m, e in model.encoders.items()}
        train(engine)
        assert torch.equal(fusion, weights(model.fusion))
        assert all(not torch.equal(before[m], weights(e)) for m, e in model.encoders.items())
        assert bool(plan.effective.any()) == (number >= 1)  # type: ignore[union-attr, operator]
    kept = {m: weights(branch[0]) for m, branch in plan.best.items()}  # type: ignore[union-attr, operator]
    heads = weights(plan.heads)  # type: ignore[arg-type]
    train(engine)
    assert not torch.equal(fusion, weights(model.fusion))
    assert all(torch.equal(kept[m], weights(e)) for m, e in model.encoders.items())
    best = weights(nn.ModuleList(branch[1] for branch in plan.best.values()))  # type: ignore[union-attr, operator]
    assert torch.equal(best, weights(plan.heads)) and heads.shape == best.shape  # type: ignore[arg-type]
    assert {len(curve) for curve in engine.curves.values()} == {4}  # entry e of every curve belongs to epoch e
    assert engine.curves["loss/fused"][:3] == [None] * 3 and engine.curves["loss/private/audio"][3] is None


def test_features_of_unlike_width_meet_at_the_widest() -> None:
    encoders = {"audio": nn.Linear(3, 4), "visual": nn.Linear(3, 6)}
    plan = strategy("di_mml").attach(encoders, dims={"audio": 4, "visual": 6}, num_classes=3, fusion=nn.Linear(10, 3))
    wide = plan._wide({"audio": torch.randn(2, 4), "visual": torch.randn(2, 6)})  # type: ignore[operator]
    assert {m: x.shape for m, x in wide.items()} == {"audio": (2, 6), "visual": (2, 6)}
    own = {id(p) for group in plan.param_groups() for p in group["params"]}
    assert {id(p) for p in plan.widen.parameters()} <= own  # type: ignore[union-attr]


@pytest.mark.parametrize("method", ["di_mml", "kd_strong_to_weak"])
def test_encoders_that_exchange_cannot_be_trained_apart(method: str) -> None:
    fusion = nn.Identity()
    fusion.input_kind = "maps"  # type: ignore[assignment]
    engine = build("vanilla")
    with pytest.raises(ValueError, match="lets them exchange"):
        strategy(method).attach(
            engine.model.encoders,
            dims=engine.model.fusion.dims,
            num_classes=CLASSES,
            fusion=fusion,
            trained=build("umt").strategy._trained,
        )
