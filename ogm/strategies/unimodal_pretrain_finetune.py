"""Unimodal pre-training, then joint fine-tuning: a control for methods with unimodal teachers."""

from __future__ import annotations

from collections.abc import Sequence

from ogm.parts.teachers import load_encoders, unimodal_prerequisites
from ogm.strategy import Strategy
from ogm.types import Prerequisite


class UnimodalPretrainFinetune(Strategy):
    """Joint training that starts from encoders trained alone.

    A method with teachers must beat this control to show that its distillation loss helps, and not just the longer
    training.

    1. Train one ``unimodal`` model per modality. Keep each encoder at its best validation epoch.
    2. Start joint training from these encoders and a newly initialised fusion. All parameters are trained as in
       ``vanilla``, with the learning rate and number of epochs of the run.

    Differences:
        - None: the definition is this suite's own.

    References:
        - This suite.
    """

    category = "stage"
    title = "Unimodal pre-training, then joint training"
    paper = "this suite"
    stages = "one unimodal run per modality first: where the encoders start"

    def __init__(self) -> None:
        super().__init__()

    def prerequisites(self, modalities: Sequence[str]) -> dict[str, Prerequisite]:
        """Name one ``unimodal`` run per modality."""
        return unimodal_prerequisites(modalities)

    def setup(self) -> None:
        """Load the pre-trained encoders."""
        load_encoders(self._encoders, {m: self._trained[m].encoder for m in self.modalities})
