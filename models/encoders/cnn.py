"""A small convolutional encoder, for work on a CPU and for small inputs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from models.encoder import Encoder, Level, Pool, Pooling, channels, initialise


class CNN(Encoder):
    """4 x [3x3 convolution, GroupNorm, ReLU], then the mean over positions (spec synthav.md, section 2).

    ``shape`` is a sample's, (C, H, W) or (C, T, H, W); ``widths`` the channels of the four stages, strides 2, 2, 2, 1.
    GroupNorm, not BatchNorm: no sample sees another, so two processes can equal one.
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
        initialise(self)
        self.over_time = Pool(pool, self.dim)

    def levels(self) -> Sequence[Level]:
        return list(self.stages)
