"""The small CNN: its stages by hand, and the widths that it refuses."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.models import encoder


def test_a_stage_is_a_convolution_a_norm_and_a_relu() -> None:
    made, x = encoder("cnn", (3, 9, 8), widths=(4, 16)), torch.randn(2, 3, 9, 8)
    (first, norm, _), (second, last, _) = made.stages
    maps = F.relu(F.group_norm(F.conv2d(x, first.weight, stride=2, padding=1), 1, norm.weight, norm.bias))
    maps = F.relu(F.group_norm(F.conv2d(maps, second.weight, stride=1, padding=1), 4, last.weight, last.bias))
    torch.testing.assert_close(made(x), maps.mean((2, 3)))


@pytest.mark.parametrize("widths", [(), (2,), (12, 13)])
def test_widths_without_whole_groups_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="each must be at least 4"):
        encoder("cnn", (1, 8, 8), widths=widths)
