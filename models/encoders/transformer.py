"""A transformer, for sequences of features: words, acoustic frames, whatever comes step by step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from models.attention import Block, dense, embedding, on_maps
from models.encoder import Encoder, Level, Pool, Pooling, as_steps, steps


class Transformer(Encoder):
    """Pre-norm blocks (spec fusion.md, section 0, for their initialisation) on steps with learned positions.

    ``shape`` is (T, F), or a spectrogram's (C, bins, T), read along time; ``pool`` makes one feature of all steps.
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
        length, features = steps(shape)
        self.dim, self.widths = width, (width,) * (layers + 1)
        self.project, self.positions = dense(features, width), embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.over_time = Pool(pool, width)

    def embed(self, x: Tensor) -> Tensor:
        x = self.project(as_steps(x))
        return (x + self.positions[: x.shape[1]]).mT

    def levels(self) -> Sequence[Level]:
        *early, last = (partial(on_maps, block) for block in self.blocks)
        return [self.embed, *early, lambda maps: on_maps(self.norm, last(maps))]
