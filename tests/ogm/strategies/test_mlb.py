"""MLB: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import pytest
import torch

from ogm.parts.heads import unimodal_head_parts
from ogm.strategies.mlb import pace_factors
from tests.helpers.engines import TWO
from tests.helpers.methods import D, build64, close, one_step


def test_paces_vanish_at_balance_and_stay_in_bounds() -> None:
    rho = torch.linspace(0, 40, 2001, dtype=D)
    for beta in (1.0, 2.0, 3.0):
        k = torch.stack([pace_factors({"a": r}, 0.8, beta)[0] for r in rho])
        assert (k.diff() >= 0).all() and k.min() > 0 and k.max() <= beta and float(k[50]) == 1
    assert k.diff().abs().max() < 0.05  # no jump


@pytest.mark.parametrize("fusion", ["concat", "sum", "film"])
def test_mlb_scales_what_is_a_modalitys_own_and_nothing_else(fusion: str) -> None:
    sums, engine = one_step(build64("equal_weight_multiloss", fusion)), build64("mlb", fusion)
    found = one_step(engine)
    k = {m: engine.logs[f"coefficient/{m}"] for m in TWO}
    assert any(x > 1 for x in k.values()) and any(x < 1 for x in k.values())
    parts = list(unimodal_head_parts(engine.model.fusion, engine.model.fusion.dims))
    assert len(parts) == {"concat": 2, "sum": 4, "film": 0}[fusion]
    for m, p, columns in parts:
        name = next(n for n, q in engine.model.named_parameters() if q is p)
        sums[name][..., columns] *= k[m]
    for name, grad in sums.items():
        part, m = name.split(".")[:2]
        close(found[name], grad * (k[m] if part in ("encoders", "heads") else 1.0))
