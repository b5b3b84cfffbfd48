"""A Conformer, torchaudio's, for spectrograms and other sequences."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torchaudio.models import Conformer as Layers

from models.attention import dense
from models.encoder import Encoder, Level, Pool, Pooling, as_steps, steps


class Conformer(Encoder):
    """Gulati et al., 2020, at the width of its smallest, without its subsampling: a linear layer makes steps of it.

    ``shape`` is (T, F), or a spectrogram's (C, bins, T), read along time. GroupNorm in place of BatchNorm: no sample
    sees another, so two processes can equal one.
    """

    source = "Gulati et al., 2020; torchaudio"

    def __init__(
        self,
        shape: Sequence[int],
        *,
        width: int = 144,
        layers: int = 4,
        heads: int = 4,
        kernel: int = 31,
        dropout: float = 0.0,
        pool: Pooling = "mean",
    ) -> None:
        super().__init__()
        if layers < 1 or heads < 1 or width % heads or kernel % 2 == 0:
            raise ValueError(
                f"width={width}, layers={layers}, heads={heads}, kernel={kernel}: the width must be a multiple of the "
                "number of heads, the kernel odd"
            )
        self.dim, self.widths = width, (width,) * (layers + 1)
        self.project = dense(steps(shape)[1], width)
        self.layers: nn.ModuleList = Layers(
            width, heads, 4 * width, layers, kernel, dropout=dropout, use_group_norm=True
        ).conformer_layers
        self.over_time = Pool(pool, width)

    def embed(self, x: Tensor) -> Tensor:
        return self.project(as_steps(x)).mT

    def levels(self) -> Sequence[Level]:
        return [self.embed, *(partial(_layer, layer) for layer in self.layers)]


def _layer(layer: nn.Module, maps: Tensor) -> Tensor:
    """(N, D, T) through a layer that wants (T, N, D), with nothing padded."""
    out: Tensor = layer(maps.permute(2, 0, 1), None)
    return out.permute(1, 2, 0)
