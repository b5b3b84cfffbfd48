"""OGM: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import pytest
import torch

from ogm.parts.gradients import modulation_coefficients
from tests.helpers.engines import (
    TWO,
    build,
    digest,
    train,
)
from tests.helpers.methods import D, gradients, run_once


def test_the_journals_coefficient_is_continuous_and_gentler() -> None:
    rho = {"a": torch.tensor(1.0 + 1e-9, dtype=D), "b": torch.tensor(2.0, dtype=D), "c": torch.tensor(0.5, dtype=D)}
    k, paper = modulation_coefficients(rho, 0.8, "journal"), modulation_coefficients(rho, 0.8)
    assert float(k[0]) == pytest.approx(1) and paper[0] < 0.5
    assert k[1] > paper[1] and k[2] == 1
    assert modulation_coefficients({"a": torch.tensor(9.0)}, 5.0, "journal")[0] == 0
    found = {digest(train(build(m, options={"variant": v}))) for m in ("ogm", "ogm_ge") for v in ("paper", "journal")}
    assert len(found) == 4


@pytest.mark.parametrize(("scope", "ndims"), [("weights", {4}), ("conv4d", {4}), ("all", {1, 4})])
def test_scopes(scope: str, ndims: set[int]) -> None:
    before, after = gradients("vanilla"), gradients("ogm", scope=scope)
    changed = {before[n].ndim for n in before if not torch.equal(before[n], after[n])}
    assert changed == ndims


def test_scores_of_zero() -> None:
    label = torch.tensor([0, 1])
    none = torch.tensor([[-900.0, 0.0], [0.0, -900.0]], dtype=torch.float64)  # nothing on the true class
    good = -none
    logs, grads = run_once("ogm", {"audio": none, "visual": good}, label)
    assert float(logs["coefficient/audio"]) == 1 and float(logs["coefficient/visual"]) == 0
    assert not grads["visual"].any()
    logs, _ = run_once("ogm", {"audio": none, "visual": none.clone()}, label)
    assert all(float(logs[f"coefficient/{m}"]) == 1 for m in TWO)


def test_nothing_in_scope_is_an_error_not_silence() -> None:
    engine = build("ogm")
    engine.freeze(*engine.model.encoders.values())
    with pytest.raises(ValueError, match="found no encoder parameter"):
        engine.train_epoch()
