"""Unimodal ensemble: models trained alone, their probabilities averaged. The simplest thing that must be beaten."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ogm.engine import Engine
from ogm.strategy import Strategy
from ogm.types import Batch, Need, Output


class UME(Strategy):
    """Du et al., ICML 2023 (spec methods_loss.md, section 5): one ``unimodal`` run per modality, no joint training.

    ``rule="prob_mean"`` averages probabilities, ``"logit_mean"`` logits, over the modalities a sample has. The models
    are taken as they stand at the end of their runs.
    """

    category = "baseline"
    paper = "Du et al., ICML 2023"
    stages = "one unimodal run per modality; nothing is trained jointly"
    trains = False

    def __init__(self, rule: Literal["prob_mean", "logit_mean"] = "prob_mean") -> None:
        super().__init__()
        self.rule: Literal["prob_mean", "logit_mean"] = rule

    def needs(self, modalities: Sequence[str]) -> dict[str, Need]:
        return {m: Need("unimodal", {"modality": m}) for m in modalities}

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        parts = {m: self._trained[m](batch.inputs[m]) for m in self.modalities if m not in drop}
        own = {m: part.logits for m, part in parts.items()}
        fused = ensemble(own, {m: batch.have([m]) for m in own}, self.rule)
        return Output(fused, own, {m: part.features[m] for m, part in parts.items()})

    def step(self, batch: Batch, engine: Engine) -> Output:
        raise ValueError("UME puts together what earlier runs have trained: evaluate it, there is nothing to train")


def ensemble(
    unimodal_logits: Mapping[str, Tensor], present: Mapping[str, Tensor], rule: Literal["prob_mean", "logit_mean"]
) -> Tensor:
    """(B, C) log of the mean probabilities, or the mean logits, of the modalities present in each sample."""
    there = torch.stack([present[m] for m in unimodal_logits])[..., None]  # (M, B, 1)
    said = torch.stack(list(unimodal_logits.values()))
    votes = there.sum(0).to(said.dtype)
    if rule == "logit_mean":
        return torch.where(there, said, 0.0).sum(0) / votes
    return torch.where(there, said.log_softmax(2), -torch.inf).logsumexp(0) - votes.log()
