"""A small convolutional encoder, for work on a CPU and for small inputs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from models.encoder import Encoder, Level, channels
from models.layers import Pooling, TimePooling, initialise_convolutions


class CNN(Encoder):
    """Stages of a 3x3 convolution, GroupNorm and ReLU, then the mean over positions.

    All stages but the last halve height and width. It has GroupNorm in place of BatchNorm, so that no sample sees
    another, and two processes can equal one.

    Args:
        shape: Of a sample, (C, H, W) or (C, T, H, W).
        widths: Channels of each stage, multiples of min(8, width / 4).
        pool: How frames are pooled over time.

    Raises:
        ValueError: For widths that will not do, or an input of another shape.
    """

    source = "this suite"

    def __init__(
        self, shape: Sequence[int], *, widths: Sequence[int] = (16, 32, 64, 64), pool: Pooling = "mean"
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 4 or any(w % min(8, w // 4) for w in widths):
            raise ValueError(
                f"widths={list(widths)}: each must be at least 4 and a multiple of its min(8, width/4) groups"
            )
        self.dim, self.widths = widths[-1], tuple(widths)
        stages, before = [], channels(shape)
        for number, width in enumerate(widths):
            stride = 1 if number == len(widths) - 1 else 2
            convolution = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
            stages.append(nn.Sequential(convolution, nn.GroupNorm(min(8, width // 4), width), nn.ReLU(inplace=True)))
            before = width
        self.stages = nn.Sequential(*stages)
        initialise_convolutions(self)
        self.over_time = TimePooling(pool, self.dim)

    def levels(self) -> Sequence[Level]:
        """Return one level per stage."""
        return list(self.stages)
