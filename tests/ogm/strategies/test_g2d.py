"""G2D: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import pytest
import torch

from ogm.strategies.g2d import trained_modalities, weak_to_strong
from tests.helpers.engines import THREE, TWO, build, digest, train
from tests.helpers.methods import weights


def test_the_weakest_go_first() -> None:
    scores = {m: torch.tensor(s) for m, s in (("a", 0.7), ("b", 0.2), ("c", 0.5))}
    assert weak_to_strong(scores) == ["b", "c", "a"]
    assert weak_to_strong({m: torch.tensor(0.5) for m in "cab"}) == ["c", "a", "b"]  # a tie: their own order
    alone = [trained_modalities(["b", "c", "a"], epoch, [2, 1]) for epoch in range(4)]
    assert alone == [["b"], ["b"], ["c"], ["b", "c", "a"]]


@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_a_suppressed_encoder_stands_still(modalities: tuple[str, ...]) -> None:
    engine = build("g2d", modalities=modalities, options={"tau": [1] * (len(modalities) - 1)})
    encoders = engine.model.encoders
    for phase in range(len(modalities)):
        before = {m: weights(e) for m, e in encoders.items()}
        head = weights(engine.model.fusion)
        train(engine)
        moved = {m for m, e in encoders.items() if not torch.equal(before[m], weights(e))}
        order = [modalities[k] for k in engine.strategy.order.tolist()]  # type: ignore[union-attr, operator]
        assert moved == ({order[phase]} if phase < len(modalities) - 1 else set(modalities))
        assert not torch.equal(head, weights(engine.model.fusion))


def test_g2d_without_teachers_and_phases_is_joint_training() -> None:
    plain = build("g2d", options={"alpha": 0.0, "beta": 0.0, "tau": [0]})
    assert digest(train(plain, 2)) == digest(train(build("vanilla"), 2))
