"""DiagnosingRelearning: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import sys

import pytest
import torch

from ogm.strategies import diagnosing_relearning as relearning
from tests.helpers.engines import build, flat, train
from tests.helpers.methods import Q64


def test_purity_and_clusters() -> None:
    points = torch.tensor([[0.0, 5.0], [0.1, 5.0], [9.0, 5.0], [9.1, 5.0]], dtype=torch.float64)
    assert relearning.scale_columns(points)[:, 0].tolist() == pytest.approx([-1, 2 * 0.1 / 9.1 - 1, 2 * 9 / 9.1 - 1, 1])
    assert not relearning.scale_columns(points)[:, 1].any()  # it says nothing
    found = relearning.cluster_features(points, 2)
    assert found[0] == found[1] != found[2] == found[3]
    assert relearning.purity(torch.tensor([1, 1, 3, 0]), found) == 0.75
    same = relearning.cluster_features(torch.ones(3, 2, dtype=torch.float64), 2)  # fewer different points than classes
    assert same.tolist() == [0, 0, 0]
    none = relearning.cluster_features(torch.zeros(0, 2), 2)
    assert float(relearning.strength(torch.tensor(relearning.purity(none, none)), 3.0)) == 0


def test_encoders_are_pulled_back_by_the_gap_of_their_purities(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, same = build("diagnosing_relearning", **Q64), build("vanilla", **Q64)
    start = {n: p.detach().clone() for n, p in engine.model.named_parameters()}
    purities = {"train": {"audio": 0.9, "visual": 0.5}, "val": {"audio": 0.5, "visual": 0.5}}
    monkeypatch.setattr(engine.strategy, "purities", lambda split, _: purities[split])
    train(engine, 2), train(same, 2)
    a = torch.tanh(torch.tensor(3 * 0.4)).double()
    for (name, p), q in zip(engine.model.named_parameters(), same.model.parameters(), strict=True):
        pull = a if name.startswith("encoders.audio") else 0.0
        torch.testing.assert_close(p, pull * start[name] + (1 - pull) * q, rtol=1e-6, atol=1e-6)
    assert not torch.equal(flat(engine), flat(same))


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ValueError, match=r"pip install 'ogm-balance\[relearning\]'"):
        build("diagnosing_relearning")
