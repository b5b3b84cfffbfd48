"""Train each encoder alone first, then all of them together, from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from ogm.strategies.umt import teachers
from ogm.strategy import Strategy
from ogm.types import Need


class UnimodalPretrainFinetune(Strategy):
    """This suite's control for methods with teachers: joint training that starts from ``unimodal`` runs' encoders.

    Each as it was after its best validation epoch; the fusion starts afresh, and everything trains as in ``vanilla``,
    with the run's learning rate and epochs. What a teacher's loss adds to this is not owed to the longer training.
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
    """Give encoders the weights and statistics of those trained before them. ValueError if they are built otherwise."""
    for m, encoder in encoders.items():
        before = trained[m]
        assert isinstance(before, nn.Module)
        try:
            encoder.load_state_dict(before.state_dict())
        except RuntimeError:  # torch's own message has a line for each of its parts
            raise ValueError(f"{m}: the encoder is not built like the one that was trained before it") from None
