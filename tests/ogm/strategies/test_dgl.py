"""DGL: encoders learn from their own losses alone, the fusion from the joint loss."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.helpers.engines import FOUR, THREE, TWO, flat, strategy, train
from tests.helpers.methods import build64, close, one_step

ALL = (*FOUR, "late", "late_prob")


def by_two_passes(fusion: str, modalities: tuple[str, ...]) -> dict[str, Tensor]:
    """name -> gradient, as the released code computes them: backward, throw the fusion's away, backward."""
    engine = build64("vanilla", fusion, modalities)
    model, batch = engine.model, engine.loaders["train"].epoch(0)[0]  # type: ignore[index]
    features = model.encode(batch.inputs)
    own = fusion in ("sum", "late", "late_prob")
    logits = model.fusion.unimodal_logits(features) if own else None  # type: ignore[operator]
    for m in modalities:
        z = logits[m] if logits else model.fusion(features, drop=set(modalities) - {m})
        (4 * torch.nn.functional.cross_entropy(z, batch.label)).backward(retain_graph=True)  # type: ignore[no-untyped-call]
    model.fusion.zero_grad()
    fused = model.fusion({m: f.detach() for m, f in features.items()})
    torch.nn.functional.cross_entropy(fused, batch.label).backward()  # type: ignore[no-untyped-call]
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}  # type: ignore[attr-defined]


@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
@pytest.mark.parametrize("fusion", ALL)
def test_one_backward_pass_has_the_gradients_of_two(fusion: str, modalities: tuple[str, ...]) -> None:
    found, expected = one_step(build64("dgl", fusion, modalities)), by_two_passes(fusion, modalities)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        close(found[name], gradient)


def test_without_unimodal_losses_the_encoders_stay_where_they_are() -> None:
    grads = one_step(build64("dgl", options={"alpha": 0.0}))
    assert all(not g.any() for n, g in grads.items() if n.startswith("encoders."))
    assert grads["fusion.head.weight"].any()


def test_further_predictions_of_an_architecture_train_the_fusion_alone() -> None:
    engine = build64("dgl", "centralnet", options={"alpha": 0.0})
    grads = one_step(engine)
    assert {"loss/aux/audio", "loss/aux/visual"} <= engine.logs.keys()
    assert any(g.any() for n, g in grads.items() if n.startswith("fusion.unimodal_heads."))
    assert all(not g.any() for n, g in grads.items() if n.startswith("encoders."))


def test_a_modality_that_is_missing_has_no_loss() -> None:
    engine = build64("dgl", missing=True)
    there = engine.loaders["train"].there  # type: ignore[attr-defined]
    there[:, 0], there[:, 1] = False, True
    one_step(engine)
    assert float(engine.logs["loss/unimodal/audio"]) == 0 and torch.isfinite(flat(train(engine))).all()


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="alpha=-1"):
        strategy("dgl", alpha=-1.0)
