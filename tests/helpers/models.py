"""Small encoders, fusions and models, and inputs to try them on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from models.encoder import Encoder
from models.encoders.cnn import CNN
from models.fusion import Fusion
from models.model import MultimodalModel
from models.registry import FUSIONS, encoder_args_from_name, encoder_path
from ogm.registry import find
from tests.helpers.engines import FUSION_OPTIONS

SAMPLES = 5
UNEVEN = {"audio": 4, "visual": 6, "text": 3}
EVEN = {"audio": 6, "visual": 6, "text": 6}
SHAPES = {"audio": (1, 6, 7), "visual": (2, 2, 6, 6), "text": (1, 8, 5)}
OF_FEATURES = [name for name in FUSIONS if find(name, FUSIONS, "fusion").input_kind == "features"]
EXCHANGING = [name for name in FUSIONS if name not in OF_FEATURES]  # encoders exchange signals on their way


def fusion(name: str, dims: Mapping[str, int], classes: int = 4, **options: Any) -> Fusion:
    """A fusion in double precision, with biases that are not zero, so that it shows where they are lost."""
    torch.manual_seed(0)
    made: Fusion = find(name, FUSIONS, "fusion")(dims, classes, **options).double()
    return perturbed(made)


def perturbed(module: Any) -> Any:
    """Move every parameter a little away from where it starts: zeros would hide mistakes."""
    g = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=g, dtype=torch.float64).to(p.dtype))
    return module


def features(dims: Mapping[str, int], seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {m: torch.randn(SAMPLES, d, generator=g, dtype=torch.float64) for m, d in dims.items()}


def encoder(name: str, shape: tuple[int, ...], **options: Any) -> Encoder:
    torch.manual_seed(0)
    made: Encoder = find(name, {name: encoder_path(name)}, "encoder")(shape, *encoder_args_from_name(name), **options)
    return made


def model(name: str, shapes: Mapping[str, tuple[int, ...]] = SHAPES, **options: Any) -> MultimodalModel:
    """Small CNNs under a fusion, in double precision, in evaluation mode, away from where they start."""
    torch.manual_seed(0)
    encoders = {m: CNN(shape, widths=(4, 8, 6)) for m, shape in shapes.items()}
    dims = {m: e.dim for m, e in encoders.items()}
    made = find(name, FUSIONS, "fusion")(dims, 3, **{**FUSION_OPTIONS.get(name, {}), **options})
    whole: MultimodalModel = perturbed(MultimodalModel(encoders, made).double())
    return whole.eval()


def inputs(shapes: Mapping[str, tuple[int, ...]] = SHAPES, seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {m: torch.randn(SAMPLES, *shape, generator=g, dtype=torch.float64) for m, shape in shapes.items()}


def check_reads_steps(name: str) -> None:
    """An encoder of sequences takes shorter ones too, and a spectrogram is a sequence along time."""
    made = encoder(name, (10, 6), width=8, layers=1, heads=2).double().eval()
    assert made(torch.randn(3, 10, 6, dtype=torch.float64)).shape == (3, 8)
    assert made(torch.randn(3, 7, 6, dtype=torch.float64)).shape == (3, 8)
    spectrogram = encoder(name, (2, 3, 10), width=8, layers=1, heads=2).double().eval()
    x = torch.randn(3, 2, 3, 10, dtype=torch.float64)
    torch.testing.assert_close(spectrogram(x), spectrogram(x.reshape(3, 6, 10).transpose(1, 2)))
