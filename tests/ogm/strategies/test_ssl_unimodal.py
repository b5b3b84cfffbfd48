"""SSLUnimodal: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ogm.engine import Engine
from ogm.strategies.ssl_unimodal import vicreg
from tests.helpers.engines import TWO, build, train
from tests.helpers.methods import rows, weights


def test_vicreg_asks_for_spread_and_for_independence() -> None:
    collapsed = vicreg(torch.ones(6, 4), torch.ones(6, 4))
    assert float(collapsed["invariance"]) == 0 and float(collapsed["variance"]) == pytest.approx(0.99)
    copied = rows(64, 1).expand(64, 2)
    assert float(vicreg(copied, copied)["covariance"]) > 0.5
    one = vicreg(rows(1), rows(1, seed=1))
    assert all(torch.isfinite(x) for x in one.values())
    some = torch.tensor([True, True, False, True])
    kept = vicreg(rows(4)[some], rows(4, seed=1)[some])
    for name, value in vicreg(rows(4), rows(4, seed=1), some).items():
        torch.testing.assert_close(value, kept[name])


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("ssl_unimodal", {}),
        ("ssl_unimodal", {"objective": "vicreg"}),
        ("ssl_crossmodal", {}),
        ("ssl_crossmodal", {"objective": "avid"}),
    ],
)
def test_without_labels_means_that_labels_do_not_matter(method: str, options: dict[str, Any]) -> None:
    """Not even through the clipping of gradients; and only the heads that watch learn them."""

    def made(shuffled: bool) -> Engine:
        engine = build(method, options=options, max_norm=0.1)
        if shuffled:
            data = engine.loaders["train"].data  # type: ignore[attr-defined]
            data.label = data.label.flip(0)
        return train(engine, 2)

    one, other = made(False), made(True)
    assert torch.equal(weights(one.model), weights(other.model))
    assert not torch.equal(weights(one.strategy), weights(other.strategy))
    start = build(method, options=options)
    learned = TWO if method == "ssl_crossmodal" else ("visual",)
    for m in TWO:
        still = torch.equal(weights(start.model.encoders[m]), weights(one.model.encoders[m]))
        assert still == (m not in learned)
