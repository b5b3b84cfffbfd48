"""A multilayer perceptron, for features that somebody else has extracted."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from models.encoder import Encoder, Level
from models.fusion import linear


class MLP(Encoder):
    """Linear layers of ``widths``, each with ReLU, on the whole input, of any ``shape``, as one vector."""

    source = "common use"

    def __init__(self, shape: Sequence[int], *, widths: Sequence[int] = (256, 256)) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(f"widths={list(widths)}: one or more layers, each at least 1 wide")
        self.dim, self.widths = widths[-1], tuple(widths)
        sizes = [math.prod(shape), *widths]
        self.layers = nn.ModuleList(nn.Sequential(linear(a, b), nn.ReLU()) for a, b in zip(sizes, widths, strict=False))

    def fold(self, x: Tensor) -> tuple[Tensor, int]:
        return x.flatten(1)[..., None], 1  # a map with one position

    def levels(self) -> Sequence[Level]:
        return [lambda maps, layer=layer: layer(maps[..., 0])[..., None] for layer in self.layers]
