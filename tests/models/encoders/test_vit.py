"""The vision transformer, by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tests.helpers.models import encoder


def test_it_sees_whole_patches() -> None:
    """Patches in reading order, one block, the norm, the mean."""
    made: Any = encoder("vit", (1, 9, 8), patch=4, width=8, layers=1, heads=2).double()
    x = torch.randn(2, 1, 9, 8, dtype=torch.float64)
    assert made.maps(x).shape == (2, 8, 3, 2)
    tokens = made.patch(nn.functional.pad(x, (0, 0, 0, 3))).flatten(2).mT + made.positions.flatten(1).mT
    torch.testing.assert_close(made(x), made.norm(made.blocks[0](tokens)).mean(1))
