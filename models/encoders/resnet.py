"""ResNet-18, torchvision's, trained from scratch: the encoder of the OGM-GE paper."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models import resnet18

from models.encoder import Encoder, channels, initialise


class ResNet18(Encoder):
    """He et al., 2016, with as many input channels as ``shape`` (C, H, W) or (C, T, H, W) has; features are 512 wide.

    Frames go through it as images and are averaged over time and positions; convolutions Kaiming normal (fan-out) as in
    the released OGM-GE code.
    """

    dim = 512

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        network = resnet18(weights=None)
        inputs = channels(shape)
        if inputs != 3:
            network.conv1 = nn.Conv2d(inputs, 64, 7, 2, padding=3, bias=False)
        network.avgpool, network.fc = nn.Identity(), nn.Identity()
        self.stages = nn.Sequential(
            *(layer for name, layer in network.named_children() if name not in ("avgpool", "fc"))
        )
        initialise(self)

    def maps(self, x: Tensor) -> Tensor:
        maps: Tensor = self.stages(x)
        return maps
