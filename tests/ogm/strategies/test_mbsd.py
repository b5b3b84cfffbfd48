"""MBSD: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import torch

from ogm.strategies.mbsd import pair_terms
from tests.helpers.engines import THREE, build, digest, flat, train
from tests.helpers.methods import LOGITS


def test_the_weaker_learns_from_the_stronger_and_never_the_other_way() -> None:
    a, v = (torch.tensor(LOGITS[m], requires_grad=True) for m in "av")
    label = torch.tensor([0, 2, 1])
    lesson = pair_terms(a, v, label)
    (lesson.weight * (lesson.kl + lesson.rs)).sum().backward()
    moved = [[bool(row.any()) for row in z.grad] for z in (a, v)]  # type: ignore[union-attr]
    assert moved == [[False, True, False], [True, False, False]]  # the third: both are wrong
    assert not lesson.weight.requires_grad


def test_a_tie_teaches_nothing() -> None:
    same = torch.tensor([[3.0, 0.0]], requires_grad=True)
    lesson = pair_terms(same, same.detach().clone(), torch.tensor([0]))
    assert all(x.detach().item() == 0 for x in lesson)


def test_the_literal_variant_trains() -> None:
    engine = train(build("mbsd", modalities=THREE, options={"variant": "bb_literal"}))
    assert torch.isfinite(flat(engine)).all() and digest(engine) != digest(train(build("mbsd", modalities=THREE)))
