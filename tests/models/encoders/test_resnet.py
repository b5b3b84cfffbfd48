"""ResNets against torchvision's own."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from tests.helpers.models import encoder


@pytest.mark.parametrize(
    ("name", "dim", "channels"), [("resnet18", 512, 1), ("resnet34", 512, 2), ("resnet50", 2048, 3)]
)
def test_a_resnet_is_torchvisions_without_its_classifier(name: str, dim: int, channels: int) -> None:
    ours = encoder(name, (channels, 33, 40)).eval()
    theirs = torchvision.models.get_model(name)
    theirs.conv1, theirs.fc = nn.Conv2d(channels, 64, 7, 2, 3, bias=False), nn.Identity()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    x = torch.randn(2, channels, 33, 40)
    assert ours.dim == dim
    torch.testing.assert_close(ours(x), theirs.eval()(x))
    first = ours.stages[0].weight
    assert first.shape[1] == channels
    assert float(first.detach().std()) == pytest.approx(
        (2 / (64 * 49)) ** 0.5, rel=0.05
    )  # fan-out: 64 kernels of 7 x 7


def test_stages_are_what_fusions_may_look_at() -> None:
    ours, x = encoder("resnet50", (3, 64, 64)).eval(), torch.randn(1, 3, 64, 64)
    maps = x
    for level, width, side in zip(ours.levels(), ours.widths, (16, 8, 4, 2), strict=True):
        maps = level(maps)
        assert maps.shape == (1, width, side, side)
    torch.testing.assert_close(ours(x), maps.mean((2, 3)))
