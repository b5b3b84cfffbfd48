"""PDMP: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import pytest
import torch

from ogm.engine import Engine
from ogm.parts.teachers import best_modality, validation_scores
from tests.helpers.engines import THREE, TWO, build, digest, strategy, train
from tests.helpers.methods import Q64


def knows(engine: Engine, accuracy: dict[str, float]) -> Engine:
    """Let each unimodal model be right on a share of the validation samples."""
    label = engine.loaders["val"].data.label  # type: ignore[attr-defined]
    for k, (m, share) in enumerate(accuracy.items()):
        right = torch.arange(len(label)) < share * len(label)
        logits = 5.0 * torch.nn.functional.one_hot(torch.where(right, label, (label + 1) % 4), 4).double()
        inputs = engine.loaders["val"].data.inputs[m]  # type: ignore[attr-defined]
        inputs.zero_()[:, 0, 0, :4] = logits
        model = engine.strategy._trained[m]
        model.encoder = torch.nn.Flatten()
        model.classifier = torch.nn.Linear(inputs[0].numel(), 4, dtype=torch.float64)
        with torch.no_grad():
            model.classifier.weight.zero_()[:, :4] = torch.eye(4)
            model.classifier.bias.fill_(k)  # the same for all classes: it changes nothing
    return engine


@pytest.mark.parametrize(("modalities", "best"), [(TWO, "visual"), (THREE, "text"), (THREE, "audio")])
def test_the_best_alone_dominates(modalities: tuple[str, ...], best: str) -> None:
    engine = build("pdmp", modalities=modalities, options={"kappa": 4.0}, max_norm=None, **Q64)
    knows(engine, {m: 0.8 if m == best else 0.5 for m in modalities})
    accuracy, entropy = validation_scores(engine.strategy._trained, modalities, engine)
    assert accuracy == pytest.approx({m: 0.8 if m == best else 0.5 for m in modalities})
    assert len({round(x, 9) for x in entropy.values()}) == 1
    factors = {m: 4.0 if m == best else 0.25 for m in modalities}
    fixed = build("static_lr", modalities=modalities, options={"factors": factors}, max_norm=None, **Q64)
    assert digest(train(engine, 2)) == digest(train(fixed, 2))
    assert engine.curves[f"factor/{best}"] == [4.0, 4.0]


def test_a_tie_goes_to_the_more_certain_one() -> None:
    assert best_modality({"a": 0.5, "v": 0.5}, {"a": 0.9, "v": 0.4}) == "v"
    assert best_modality({"a": 0.5, "v": 0.5}, {"a": 0.4, "v": 0.4}) == "a"


def test_a_modality_that_nobody_has_is_not_the_best() -> None:
    engine = build("pdmp", missing=True)
    engine.loaders["val"].there[:, 0], engine.loaders["val"].there[:, 1] = False, True  # type: ignore[attr-defined]
    accuracy, _ = validation_scores(engine.strategy._trained, TWO, engine)
    assert accuracy["audio"] == 0
    assert train(engine).strategy.factor.tolist() == [0.5, 2.0]


def test_a_factor_of_one_is_joint_training() -> None:
    assert digest(train(build("pdmp", options={"kappa": 1.0}), 2)) == digest(train(build("vanilla"), 2))


@pytest.mark.parametrize("kappa", [0.5, float("nan"), float("inf")])
def test_wrong_factors_are_named_in_a_line(kappa: float) -> None:
    with pytest.raises(ValueError, match="kappa=") as error:
        strategy("pdmp", kappa=kappa)
    assert "\n" not in str(error.value)
