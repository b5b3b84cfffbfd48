"""Unimodal ensemble: models trained alone, their probabilities averaged. The simplest thing that must be beaten."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ogm.engine import Engine
from ogm.losses import full
from ogm.strategy import Strategy
from ogm.types import Batch, Need, Output


class UME(Strategy):
    """Du et al., ICML 2023 (spec methods_loss.md, section 5): one ``unimodal`` run per modality, no joint training.

    ``rule="prob_mean"`` averages probabilities, ``"logit_mean"`` logits, over the modalities a sample has, all alike or
    by ``weights`` (modality -> 0 or more). The models are taken as they stand at the end of their runs. The spec's
    weights chosen on validation are left out: an ensemble has no training in which to choose them.
    """

    category = "baseline"
    paper = "Du et al., ICML 2023"
    stages = "one unimodal run per modality; nothing is trained jointly"
    trains = False
    needs_engine = True

    def __init__(
        self, rule: Literal["prob_mean", "logit_mean"] = "prob_mean", *, weights: Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        if weights is not None and not (all(w >= 0 for w in weights.values()) and sum(weights.values()) > 0):
            raise ValueError(f"weights={dict(weights)}: each must be 0 or more, and not all 0")
        self.rule: Literal["prob_mean", "logit_mean"] = rule
        self.weights = None if weights is None else dict(weights)

    def setup(self) -> None:
        if self.weights is not None and self.weights.keys() != set(self.modalities):
            raise ValueError(f"weights={self.weights}: one for each of {', '.join(self.modalities)}")

    def needs(self, modalities: Sequence[str]) -> dict[str, Need]:
        return {m: Need("unimodal", {"modality": m}) for m in modalities}

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        parts = {m: self._trained[m](batch.inputs[m]) for m in self.modalities if m not in drop}
        own = {m: part.logits for m, part in parts.items()}
        fused = ensemble(own, {m: batch.have([m]) for m in own}, self.rule, self.weights)
        return Output(fused, own, {m: part.features[m] for m, part in parts.items()})

    def step(self, batch: Batch, engine: Engine) -> Output:
        raise ValueError("UME puts together what earlier runs have trained: evaluate it, there is nothing to train")


def ensemble(
    unimodal_logits: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    rule: Literal["prob_mean", "logit_mean"],
    weights: Mapping[str, float] | None = None,
) -> Tensor:
    """(B, C) log of the mean probabilities, or the mean logits, of the modalities present in each sample.

    ``weights`` of the modalities, of which those present count; none: all alike. A sample that has none with a weight
    lets all speak: what they say of nothing.
    """
    said = full(torch.stack(list(unimodal_logits.values())))  # (M, B, C)
    each = torch.tensor([1.0 if weights is None else weights[m] for m in unimodal_logits])
    vote = torch.stack([present[m] for m in unimodal_logits]) * each.to(said)[:, None]  # (M, B)
    vote = torch.where(vote.sum(0) > 0, vote, 1.0)
    share = (vote / vote.sum(0))[..., None]
    if rule == "logit_mean":
        return (share * said).sum(0)
    return (said.log_softmax(2) + share.log()).logsumexp(0)
