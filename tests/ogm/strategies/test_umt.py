"""UMT: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import pytest
import torch

from ogm.parts.teachers import feature_distance, run_teachers
from tests.helpers.engines import CLASSES, TWO, build, digest, strategy, train
from tests.helpers.methods import weights


@pytest.mark.parametrize("method", ["umt", "g2d"])
def test_teachers_do_not_learn(method: str) -> None:
    engine = build(method)
    teachers = engine.strategy._trained
    before = {m: weights(t) for m, t in teachers.items()}
    train(engine, 2)
    for m, teacher in teachers.items():
        assert torch.equal(before[m], weights(teacher)) and not teacher.training
        assert all(p.grad is None for p in teacher.parameters())
        assert all(p is not q for p in teacher.parameters() for q in engine.parameters)


def test_umt_without_weight_is_joint_training_and_with_it_imitates() -> None:
    vanilla, none, umt = build("vanilla"), build("umt", options={"lam": 0.0}), build("umt")
    train(vanilla, 3), train(none, 3), train(umt, 3)
    assert digest(vanilla) == digest(none)
    batch = vanilla.loaders["train"].epoch(0)[0]  # type: ignore[index]
    taught = run_teachers(umt.strategy._trained, TWO, batch)
    far, near = (
        sum(
            float(feature_distance(e.model.encode(batch.inputs)[m], taught[m].features[m]).mean().detach()) for m in TWO
        )
        for e in (vanilla, umt)
    )
    assert near < far / 2


def test_a_teacher_of_another_width_is_refused_in_a_line() -> None:
    one, other = build("umt"), build("umt")
    with pytest.raises(ValueError, match=r"audio: .* wide") as error:
        strategy("umt").attach(
            one.model.encoders,
            dims=dict.fromkeys(TWO, 5),
            num_classes=CLASSES,
            fusion=one.model.fusion,
            trained=other.strategy._trained,
        )
    assert "\n" not in str(error.value)
