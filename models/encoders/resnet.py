"""ResNets, torchvision's: with 18 layers the encoder of the OGM-GE paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import nn
from torchvision.models import get_model

from models.encoder import Encoder, Level, channels
from models.layers import Pooling, TimePooling, initialise_convolutions
from models.weights import load_weights, set_channels


class ResNet18(Encoder):
    """The ResNet of torchvision with 18 layers, for any number of input channels, without its classifier.

    Frames go through it as images and are pooled over positions, then over time. Without ``weights``, convolutions
    start Kaiming normal (fan-out), as in the released OGM-GE code.

    Args:
        shape: Of a sample, (C, H, W) or (C, T, H, W).
        weights: "imagenet", or the path of a state dict under torchvision's names; None to start untrained.
        pool: How frames are pooled over time.

    Raises:
        ValueError: For an input of another shape, or weights that are not there or do not fit.

    References:
        - He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
        - GeWu-Lab/OGM-GE_CVPR2022@343dc1d, utils/utils.py, ``weight_init``.
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
            initialise_convolutions(network)
        else:
            load_weights(network, weights, self.name, "fc")
        self.stages = nn.Sequential(
            *(layer for name, layer in network.named_children() if name not in ("avgpool", "fc"))
        )
        self.over_time = TimePooling(pool, self.dim)

    def levels(self) -> Sequence[Level]:
        """Return the four stages of residual blocks; the stem belongs to the first."""
        return [self.stages[:5], *list(self.stages)[5:]]


class ResNet34(ResNet18):
    """As ``resnet18``, with 34 layers: 16 blocks of two convolutions."""

    name = "resnet34"


class ResNet50(ResNet18):
    """As ``resnet18``, with 50 layers: 16 blocks of three convolutions, and features that are 2,048 wide."""

    name = "resnet50"
    widths = (256, 512, 1024, 2048)
