"""Unimodal: one encoder and its head, and nothing else."""

from __future__ import annotations

import pytest
import torch

from ogm.parts.heads import UnimodalModel
from tests.helpers.engines import build, train
from tests.helpers.methods import weights


def test_only_the_one_encoder_is_trained_and_exported() -> None:
    start, engine = build("unimodal"), train(build("unimodal"))
    assert torch.equal(weights(start.model.encoders["audio"]), weights(engine.model.encoders["audio"]))
    assert not torch.equal(weights(start.model.encoders["visual"]), weights(engine.model.encoders["visual"]))
    assert torch.equal(weights(start.model.fusion), weights(engine.model.fusion))
    exported = engine.strategy.export(engine.model)
    assert isinstance(exported, UnimodalModel) and exported.encoder is engine.model.encoders["visual"]
    output, batch = next(iter(engine.predict("val")))
    assert torch.equal(output.logits, exported.eval()(batch.inputs["visual"]).logits)
    assert torch.equal(output.logits, output.unimodal_logits["visual"])


def test_an_unknown_modality_is_named() -> None:
    with pytest.raises(ValueError, match="modality='smell' is unknown: there are audio, visual"):
        build("unimodal", options={"modality": "smell"})
