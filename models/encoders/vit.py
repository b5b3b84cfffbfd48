"""A vision transformer, for images, frames and spectrograms of any size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from models.encoder import Encoder, Level, channels
from models.layers import (
    Pooling,
    TimePooling,
    TransformerBlock,
    apply_to_maps,
    initialise_convolutions,
    learned_embedding,
)


class ViT(Encoder):
    """A vision transformer at the width of DeiT-Ti, for images of any size.

    Images are padded with zeros to whole patches. For the official sizes and weights there is torchvision:vit_b_16.

    Args:
        shape: Of a sample, (C, H, W) or (C, T, H, W).
        patch: Height and width of a patch, in pixels.
        width: Width of the tokens, and of the feature.
        layers: Number of blocks.
        heads: Attention heads of a block.
        dropout: Dropout of a block.
        pool: How frames are pooled over time.

    Raises:
        ValueError: For an input of another shape, or patches or blocks that will not do.

    Differences:
        - Paper: reads the feature from a class token. Ours: the mean over patches.

    References:
        - Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", ICLR 2021.
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
        initialise_convolutions(self.patch)
        self.positions = learned_embedding(width, *(-(-size // patch) for size in shape[-2:]))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.over_time = TimePooling(pool, width)

    def embed(self, x: Tensor) -> Tensor:
        """Turn images (N, C, H, W) into maps (N, width, h, w) of h x w patches."""
        size = self.patch.kernel_size[0]
        height, width = x.shape[-2:]
        patches: Tensor = self.patch(F.pad(x, (0, -width % size, 0, -height % size)))
        return patches + self.positions

    def levels(self) -> Sequence[Level]:
        """Return the embedding and then one level per block, on maps (N, width, h, w); the last ends with LayerNorm."""
        *early, last = (partial(apply_to_maps, block) for block in self.blocks)
        return [self.embed, *early, lambda maps: apply_to_maps(self.norm, last(maps))]
