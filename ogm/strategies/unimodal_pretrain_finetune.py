"""Unimodal pre-training, then joint fine-tuning: a control for methods with unimodal teachers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from ogm.strategies.umt import teachers
from ogm.strategy import Strategy
from ogm.types import Need


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
    paper = "this suite"
    stages = "one unimodal run per modality first: where the encoders start"

    def __init__(self) -> None:
        super().__init__()

    def needs(self, modalities: Sequence[str]) -> dict[str, Need]:
        return teachers(modalities)

    def setup(self) -> None:
        start_from(self._encoders, {m: self._trained[m].encoder for m in self.modalities})


def start_from(encoders: Mapping[str, nn.Module], trained: Mapping[str, object]) -> None:
    """Copy the weights and buffers of encoders trained earlier.

    Args:
        encoders: modality -> the encoder to be initialised.
        trained: modality -> the encoder trained earlier, of the same architecture.

    Raises:
        ValueError: if the two encoders of a modality have different architectures.
    """
    for m, encoder in encoders.items():
        pretrained = trained[m]
        assert isinstance(pretrained, nn.Module)
        try:
            encoder.load_state_dict(pretrained.state_dict())
        except RuntimeError:  # torch's own message has a line for each of its parts
            raise ValueError(
                f"{m}: the encoder does not have the architecture of the one that was trained earlier"
            ) from None
