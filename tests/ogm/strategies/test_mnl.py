"""MNL: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import pytest
import torch

from ogm.context import Context
from ogm.strategies.mnl import guidance, guides, margins, rivals
from ogm.types import Batch, Output
from tests.helpers.engines import THREE, build, flat, strategy, train
from tests.helpers.methods import D, build64, close, rows


def who(margin: list[float], certainty: list[float], present: list[bool] | None = None) -> int | None:
    """The modality that guides a sample."""
    there = torch.tensor([True] * len(margin) if present is None else present)[:, None]
    found = guides(torch.tensor(margin)[:, None], torch.tensor(certainty)[:, None], there)[:, 0].nonzero()
    assert len(found) <= 1
    return int(found) if len(found) else None


def test_who_is_better_in_both_guides_and_a_tie_goes_to_the_later() -> None:
    assert who([2.0, 1.0], [0.6, 0.5]) == 0 and who([1.0, 2.0], [0.5, 0.6]) == 1
    assert who([2.0, 1.0], [0.5, 0.6]) is None
    assert who([1.0, 1.0], [0.5, 0.5]) == 1
    assert who([1.0, 1.0], [0.5, 0.4]) is None  # equality is not enough against a later one
    assert who([1.0, 1.0], [0.4, 0.5]) == 1
    assert who([1.0, 3.0, 2.0], [0.1, 0.3, 0.2]) == 1 and who([1.0, 3.0, 2.0], [0.1, 0.2, 0.3]) is None
    assert who([1.0] * 3, [0.5] * 3) == 2


def test_only_modalities_that_are_there_compare() -> None:
    assert who([1.0, 3.0, 2.0], [0.1, 0.3, 0.2], [True, False, True]) == 2
    assert who([1.0, 3.0], [0.1, 0.3], [False, True]) is None
    assert who([1.0, 3.0], [0.1, 0.3], [False, False]) is None


def test_the_rival_is_a_wrong_class_also_of_two() -> None:
    assert rivals(torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]]), torch.tensor([0, 1])).tolist() == [2, 2]
    label = torch.tensor([0, 1])
    rival = rivals(torch.tensor([[3.0, 1.0], [0.0, 5.0]]), label)
    assert rival.tolist() == [1, 0]
    assert margins(torch.tensor([[[3.0, 1.0], [0.0, 5.0]]]), label, rival).tolist() == [[2.0, 5.0]]


def test_the_guide_gets_no_gradient_and_the_guided_moves_from_the_wrong_classes_it_is_shown() -> None:
    teacher, weak = rows(3, 4, 1), rows(3, 4, 2).requires_grad_()
    label = torch.tensor([0, 1, 3])
    p = teacher.softmax(1)
    expected = torch.stack(
        [
            -sum((1.0 if c == y else 0.7 * p[i, c]) * weak[i].log_softmax(0)[c] for c in range(4)) / 4
            for i, y in enumerate(label.tolist())
        ]
    )
    close(guidance(teacher, weak, label, 0.7).detach(), expected.detach())


def test_the_mean_is_over_all_samples_also_of_a_batch_with_missing_modalities() -> None:
    plan = strategy("mnl")
    plan.modalities = THREE
    unimodal_logits = {m: rows(5, 4, k).requires_grad_() for k, m in enumerate(THREE)}
    label, there = torch.tensor([0, 1, 2, 3, 0]), torch.rand(3, 5, generator=torch.Generator().manual_seed(1)) > 0.4
    batch = Batch({}, label, torch.arange(5), dict(zip(THREE, there, strict=True)))
    z, u = rows(5, 4, 9), [x.detach() for x in unimodal_logits.values()]
    found = plan.losses(Output(z, dict(unimodal_logits)), batch, Context())["guidance"]
    total = torch.zeros((), dtype=D)
    for i, y in enumerate(label.tolist()):
        rival = max((c for c in range(4) if c != y), key=lambda c: float(z[i, c]))
        here = [k for k in range(3) if there[k, i]]
        xi = {k: float(u[k][i, y] - u[k][i, rival]) for k in here}
        q = {k: float(u[k][i].softmax(0)[y]) for k in here}
        for s in here:
            if len(here) > 1 and all(xi[s] > xi[w] and q[s] > q[w] for w in here if w != s):
                p = u[s][i].softmax(0)
                for w in here:
                    if w != s:
                        log_p = u[w][i].log_softmax(0)
                        total = total - log_p[y] - 0.7 * sum(p[c] * log_p[c] for c in range(4) if c != y)
    assert total.item() > 0
    close(found.detach(), total / 20)


def test_without_guidance_it_is_the_multi_loss_on_the_fusions_logits() -> None:
    ours, plain = build64("mnl", modalities=THREE), build64("equal_weight_multiloss", modalities=THREE, options=SHARED)
    for engine in (ours, plain):
        for name in ("train", "val"):
            engine.loaders[name].missing = True  # type: ignore[attr-defined]
            engine.loaders[name].there[:] = torch.eye(3, dtype=torch.bool).repeat(20, 1)  # type: ignore[attr-defined]
    close(flat(train(ours)), flat(train(plain)))


SHARED = {"heads": "shared"}


def test_a_wrong_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="lam=-1"):
        strategy("mnl", lam=-1.0)
    assert torch.isfinite(flat(train(build("mnl", "film", THREE, missing=True)))).all()
