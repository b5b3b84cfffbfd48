"""A transformer, for sequences of features: words, acoustic frames, whatever comes step by step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from models.encoder import Encoder, Level, as_sequence, sequence_shape
from models.layers import (
    Pooling,
    TimePooling,
    TransformerBlock,
    apply_to_maps,
    learned_embedding,
    transformer_linear,
)


class Transformer(Encoder):
    """Pre-norm transformer blocks on the steps of a sequence, with learned positions.

    Args:
        shape: Of a sample, (T, F), or a spectrogram (C, bins, T), which is read along time.
        width: Width of the tokens, and of the feature.
        layers: Number of blocks.
        heads: Attention heads of a block.
        dropout: Dropout of a block.
        pool: How steps are pooled to one feature.

    Raises:
        ValueError: For an input of another shape, or blocks that will not do.

    Differences:
        - Paper: LayerNorm after each branch, ReLU, sinusoidal positions, and a decoder. Ours: LayerNorm before each
          branch and at the end, GELU, learned positions, and the encoder alone.

    References:
        - Vaswani et al., "Attention Is All You Need", NeurIPS 2017.
    """

    source = "Vaswani et al., 2017"

    def __init__(
        self,
        shape: Sequence[int],
        *,
        width: int = 256,
        layers: int = 4,
        heads: int = 4,
        dropout: float = 0.0,
        pool: Pooling = "mean",
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers={layers}: must be 1 or more")
        length, features = sequence_shape(shape)
        self.dim, self.widths = width, (width,) * (layers + 1)
        self.project, self.positions = transformer_linear(features, width), learned_embedding(length, width)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.over_time = TimePooling(pool, width)

    def embed(self, x: Tensor) -> Tensor:
        """Turn sequences (B, T, F) or spectrograms (B, C, bins, T) into maps (B, width, T) of tokens."""
        x = self.project(as_sequence(x))
        return (x + self.positions[: x.shape[1]]).mT

    def levels(self) -> Sequence[Level]:
        """Return the embedding and then one level per block, on maps (B, width, T); the last ends with LayerNorm."""
        *early, last = (partial(apply_to_maps, block) for block in self.blocks)
        return [self.embed, *early, lambda maps: apply_to_maps(self.norm, last(maps))]
