"""EqualWeightMultiloss: the joint loss plus one loss per modality."""

from __future__ import annotations

import torch

from tests.helpers.engines import TWO, build, digest, train


def test_the_losses_are_those_of_all_logits_each_with_weight_one() -> None:
    engine = train(build("equal_weight_multiloss"))
    assert set(engine.curves) >= {"loss/fused", *(f"loss/unimodal/{m}" for m in TWO)}
    output, batch = next(iter(engine.predict("val")))
    for m, head in engine.strategy.heads.items():  # type: ignore[union-attr, operator]
        assert torch.equal(output.unimodal_logits[m], head(output.features[m]))
    losses = engine.strategy.losses(output, batch, engine)
    assert torch.equal(
        losses["unimodal/audio"], torch.nn.functional.cross_entropy(output.unimodal_logits["audio"], batch.label)
    )


def test_shared_heads_are_those_of_the_fusion() -> None:
    engine = build("equal_weight_multiloss", options={"heads": "shared"})
    assert not list(engine.strategy.parameters())
    output, _ = next(iter(engine.predict("val")))
    torch.testing.assert_close(torch.stack(list(output.unimodal_logits.values())).sum(0), output.logits)
    assert digest(train(engine)) != digest(train(build("vanilla")))
