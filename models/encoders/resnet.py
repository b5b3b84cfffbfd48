"""ResNets, torchvision's: with 18 layers the encoder of the OGM-GE paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import nn
from torchvision.models import get_model

from models.encoder import Encoder, Level, Pool, Pooling, channels, initialise
from models.weights import load, set_channels


class ResNet18(Encoder):
    """He et al., 2016, with as many input channels as ``shape`` (C, H, W) or (C, T, H, W) has.

    Frames go through it as images and are pooled over positions, then over time. Without ``weights``, convolutions are
    Kaiming normal (fan-out) as in the released OGM-GE code; ``weights`` is "imagenet" or a file (models/weights.py).
    """

    source = "He et al., 2016"
    name: ClassVar[str] = "resnet18"
    widths = (64, 128, 256, 512)

    def __init__(self, shape: Sequence[int], *, weights: str | None = None, pool: Pooling = "mean") -> None:
        super().__init__()
        self.dim = self.widths[-1]
        network = get_model(self.name, weights=None)
        set_channels(network, channels(shape))
        network.avgpool, network.fc = nn.Identity(), nn.Identity()
        if weights is None:
            initialise(network)
        else:
            load(network, weights, self.name, "fc")
        self.stages = nn.Sequential(
            *(layer for name, layer in network.named_children() if name not in ("avgpool", "fc"))
        )
        self.over_time = Pool(pool, self.dim)

    def levels(self) -> Sequence[Level]:
        return [self.stages[:5], *self.stages[5:]]  # the stem belongs to the first stage


class ResNet34(ResNet18):
    """Blocks of two convolutions, 16 of them."""

    name = "resnet34"


class ResNet50(ResNet18):
    """Blocks of three convolutions: features are 2,048 wide."""

    name = "resnet50"
    widths = (256, 512, 1024, 2048)
