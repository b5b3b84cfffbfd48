"""UnimodalPretrainFinetune: joint training from encoders that were trained alone."""

from __future__ import annotations

import torch

from ogm.types import Prerequisite
from tests.helpers.engines import TWO, build, strategy
from tests.helpers.methods import weights


def test_its_encoders_start_as_the_unimodal_runs_ended() -> None:
    engine, fresh = build("unimodal_pretrain_finetune"), build("vanilla")
    for m, encoder in engine.model.encoders.items():
        assert torch.equal(weights(encoder), weights(engine.strategy._trained[m].encoder))  # type: ignore[arg-type]
        assert not torch.equal(weights(encoder), weights(fresh.model.encoders[m]))
    assert torch.equal(weights(engine.model.fusion), weights(fresh.model.fusion))


def test_each_encoder_comes_from_its_best_epoch() -> None:
    runs = strategy("unimodal_pretrain_finetune").prerequisites(TWO)
    assert runs == {m: Prerequisite("unimodal", {"modality": m}, "val_best") for m in TWO}
