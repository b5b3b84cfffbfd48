"""UME: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import pytest
import torch

from ogm.parts.ensembles import average_predictions
from tests.helpers.engines import (
    THREE,
    TWO,
    build,
    train,
)
from tests.helpers.methods import rows


def test_weights_count_for_the_modalities_that_are_there() -> None:
    logits = {m: rows(3, 4, seed=i) for i, m in enumerate(TWO)}
    there = {"audio": torch.tensor([True, True, False]), "visual": torch.tensor([True, False, True])}
    p = {m: z.softmax(1) for m, z in logits.items()}
    found = average_predictions(logits, there, "prob_mean", {"audio": 3.0, "visual": 1.0}).exp()
    torch.testing.assert_close(found[0], 0.75 * p["audio"][0] + 0.25 * p["visual"][0])
    torch.testing.assert_close(found[1], p["audio"][1])
    torch.testing.assert_close(found[2], p["visual"][2])
    nobody = {m: torch.zeros(3, dtype=torch.bool) for m in TWO}
    assert torch.isfinite(average_predictions(logits, nobody, "logit_mean")).all()


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_an_ensemble_is_evaluated_not_trained(modalities: tuple[str, ...], missing: bool) -> None:
    engine = build("ume", modalities=modalities, missing=missing)
    for output, batch in engine.predict("val"):
        assert torch.isfinite(output.logits).all() and output.unimodal_logits.keys() == set(modalities)
        alone = batch.has_all(modalities[:1]) & ~torch.stack([batch.has_all([m]) for m in modalities[1:]]).any(0)
        expected = output.unimodal_logits[modalities[0]].softmax(1)[alone]
        torch.testing.assert_close(output.logits.softmax(1)[alone], expected)
    with pytest.raises(ValueError, match="nothing to train"):
        train(engine)
