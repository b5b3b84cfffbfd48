"""Unimodal ensemble (UME): models trained separately, whose predictions are averaged."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from ogm.context import TrainingContext
from ogm.parts.ensembles import average_predictions
from ogm.strategy import Strategy
from ogm.types import Batch, Output, Prerequisite


class UME(Strategy):
    """Average the predictions of unimodal models, without any joint training: the simplest baseline to beat.

    1. Train one ``unimodal`` model per modality; l_m (B, C) are its logits.
    2. Predict with p = sum_m w_m softmax(l_m), or with the weighted mean of the logits. For each sample the weights are
       renormalised over the modalities it has.

    Args:
        rule: ``"prob_mean"`` averages probabilities, ``"logit_mean"`` averages logits.
        weights: Modality -> weight, 0 or more. Default: all modalities count equally (w_m = 1/M).

    Differences:
        - No official code was found. Ours: averaging probabilities, as third parties describe the method.
        - Choosing the weights on a validation set is not offered: this strategy has no training in which to choose
          them.
        - The models are taken as they are after the last epoch of their runs.

    References:
        - Paper: Du et al., ICML 2023.
        - Code: none was found.
    """

    category = "baseline"
    title = "Uni-Modal Ensemble"
    paper = "Du et al., ICML 2023"
    stages = "one unimodal run per modality; nothing is trained jointly"
    trains = False
    needs_engine = True

    def __init__(
        self, rule: Literal["prob_mean", "logit_mean"] = "prob_mean", *, weights: Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        if weights is not None and not (all(w >= 0 for w in weights.values()) and sum(weights.values()) > 0):
            raise ValueError(f"weights={dict(weights)}: the weights must be 0 or more, and not all 0")
        self.rule: Literal["prob_mean", "logit_mean"] = rule
        self.prediction = rule if weights is None else f"weighted {rule}"
        self.weights = None if weights is None else dict(weights)

    def setup(self) -> None:
        """Check the modalities in ``weights``."""
        if self.weights is not None and self.weights.keys() != set(self.modalities):
            raise ValueError(f"weights={self.weights}: give exactly one weight to each of {', '.join(self.modalities)}")

    def prerequisites(self, modalities: Sequence[str]) -> dict[str, Prerequisite]:
        """Name one ``unimodal`` run per modality."""
        return {m: Prerequisite("unimodal", {"modality": m}) for m in modalities}

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        """Predict with the average of the unimodal models that are not dropped."""
        outputs = {m: self._trained[m](batch.inputs[m]) for m in self.modalities if m not in drop}
        unimodal_logits = {m: output.logits for m, output in outputs.items()}
        fused = average_predictions(
            unimodal_logits, {m: batch.has_all([m]) for m in unimodal_logits}, self.rule, self.weights
        )
        return Output(fused, unimodal_logits, {m: output.features[m] for m, output in outputs.items()})

    def step(self, batch: Batch, engine: TrainingContext) -> Output:
        """Raise ValueError: there is nothing to train."""
        raise ValueError("UME averages models trained by earlier runs: evaluate it, there is nothing to train")
