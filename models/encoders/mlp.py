"""A multilayer perceptron, for features that somebody else has extracted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from models.encoder import Encoder, Level
from models.layers import linear


class MLP(Encoder):
    """Linear layers with ReLU on the whole input as one vector.

    Args:
        shape: Of a sample, any.
        widths: Width of each layer.

    Raises:
        ValueError: For no layer, or a width below 1.
    """

    source = "common use"

    def __init__(self, shape: Sequence[int], *, widths: Sequence[int] = (256, 256)) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(f"widths={list(widths)}: one or more layers, each at least 1 wide")
        self.dim, self.widths = widths[-1], tuple(widths)
        sizes = [math.prod(shape), *widths]
        self.layers = nn.ModuleList(nn.Sequential(linear(a, b), nn.ReLU()) for a, b in zip(sizes, widths, strict=False))

    def fold(self, x: Tensor) -> tuple[Tensor, int]:
        """Flatten an input (B, ...) to a map (B, D, 1) with one position, of one frame."""
        return x.flatten(1)[..., None], 1

    def levels(self) -> Sequence[Level]:
        """Return one level per layer, on maps (B, D, 1)."""
        return [partial(_apply, layer) for layer in self.layers]


def _apply(layer: nn.Module, maps: Tensor) -> Tensor:
    """Apply a layer to maps (B, D, 1) with one position."""
    out: Tensor = layer(maps[..., 0])
    return out[..., None]
