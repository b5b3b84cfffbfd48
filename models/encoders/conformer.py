"""A Conformer, torchaudio's, for spectrograms and other sequences."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torchaudio.models import Conformer as TorchaudioConformer

from models.encoder import Encoder, Level, as_sequence, sequence_shape
from models.layers import Pooling, TimePooling, transformer_linear


class Conformer(Encoder):
    """The Conformer layers of torchaudio, at the width of the paper's smallest.

    It has GroupNorm in place of BatchNorm, so that no sample sees another, and two processes can equal one.

    Args:
        shape: Of a sample, (T, F), or a spectrogram (C, bins, T), which is read along time.
        width: Width of the tokens, and of the feature.
        layers: Number of layers.
        heads: Attention heads of a layer.
        kernel: Steps that the convolution of a layer spans, odd.
        dropout: Dropout of a layer.
        pool: How steps are pooled to one feature.

    Raises:
        ValueError: For an input of another shape, or layers that will not do.

    Differences:
        - Paper: convolutions first subsample the sequence. Ours: a linear layer on every step.
        - Paper: BatchNorm in the convolution module. Ours: GroupNorm.

    References:
        - Gulati et al., "Conformer: Convolution-augmented Transformer for Speech Recognition", Interspeech 2020.
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
        self.project = transformer_linear(sequence_shape(shape)[1], width)
        self.layers: nn.ModuleList = TorchaudioConformer(
            width, heads, 4 * width, layers, kernel, dropout=dropout, use_group_norm=True
        ).conformer_layers
        self.over_time = TimePooling(pool, width)

    def embed(self, x: Tensor) -> Tensor:
        """Turn sequences (B, T, F) or spectrograms (B, C, bins, T) into maps (B, width, T) of tokens."""
        tokens: Tensor = self.project(as_sequence(x))
        return tokens.mT

    def levels(self) -> Sequence[Level]:
        """Return the embedding and then one level per layer, on maps (B, width, T)."""
        return [self.embed, *(partial(_apply, layer) for layer in self.layers)]


def _apply(layer: nn.Module, maps: Tensor) -> Tensor:
    """Apply a layer of torchaudio, which takes (T, B, D), to maps (B, D, T) with nothing padded."""
    out: Tensor = layer(maps.permute(2, 0, 1), None)
    return out.permute(1, 2, 0)
