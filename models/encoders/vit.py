"""A vision transformer, for images, frames and spectrograms of any size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import Block, embedding, on_maps
from models.encoder import Encoder, Level, Pool, Pooling, channels, initialise


class ViT(Encoder):
    """Dosovitskiy et al., 2021, at the width of DeiT-Ti, with the mean over patches in place of a class token.

    Images are padded with zeros to whole patches. For the official sizes and weights there is torchvision:vit_b_16.
    """

    source = "Dosovitskiy et al., 2021"

    def __init__(
        self,
        shape: Sequence[int],
        *,
        patch: int = 16,
        width: int = 192,
        layers: int = 12,
        heads: int = 3,
        dropout: float = 0.0,
        pool: Pooling = "mean",
    ) -> None:
        super().__init__()
        if patch < 1 or layers < 1:
            raise ValueError(f"patch={patch}, layers={layers}: must be 1 or more")
        self.dim, self.widths = width, (width,) * (layers + 1)
        self.patch = nn.Conv2d(channels(shape), width, patch, patch)
        initialise(self.patch)
        self.positions = embedding(width, *(-(-size // patch) for size in shape[-2:]))
        self.blocks = nn.ModuleList(Block(width, heads, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.over_time = Pool(pool, width)

    def embed(self, x: Tensor) -> Tensor:
        size = self.patch.kernel_size[0]
        height, width = x.shape[-2:]
        return self.patch(F.pad(x, (0, -width % size, 0, -height % size))) + self.positions

    def levels(self) -> Sequence[Level]:
        *early, last = (partial(on_maps, block) for block in self.blocks)
        return [self.embed, *early, lambda maps: on_maps(self.norm, last(maps))]
