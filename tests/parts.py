"""Fusions and features to try them on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from models.fusion import Fusion
from models.registry import FUSIONS
from ogm.registry import find

SAMPLES = 5
UNEVEN = {"audio": 4, "visual": 6, "text": 3}
EVEN = {"audio": 6, "visual": 6, "text": 6}


def fusion(name: str, dims: Mapping[str, int], classes: int = 4, **options: Any) -> Fusion:
    """In double precision, with biases that are not zero, so that it shows where they are lost."""
    torch.manual_seed(0)
    made: Fusion = find(name, FUSIONS, "fusion")(dims, classes, **options).double()
    return stirred(made)


def stirred(module: Any) -> Any:
    """Every parameter a little away from where it starts: zeros would hide mistakes."""
    g = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=g, dtype=torch.float64).to(p.dtype))
    return module


def features(dims: Mapping[str, int], seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {m: torch.randn(SAMPLES, d, generator=g, dtype=torch.float64) for m, d in dims.items()}
