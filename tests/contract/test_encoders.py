"""What holds for every encoder: shapes, channels, frames, gradients, inputs that are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.cli import listing
from models.registry import ENCODERS
from tests.helpers.models import encoder

# Options, and the width of the feature with them.
ROWS: dict[str, tuple[dict[str, Any], int]] = {
    "cnn": ({}, 64),
    "resnet18": ({}, 512),
    "resnet34": ({}, 512),
    "resnet50": ({}, 2048),
    "mlp": ({"widths": (7, 5)}, 5),
    "transformer": ({"width": 12, "heads": 3}, 12),
    "vit": ({"width": 12, "layers": 2}, 12),
    "conformer": ({"width": 12, "layers": 2}, 12),
    "text_cnn": ({"width": 12}, 12),
}
SMALL: dict[str, dict[str, Any]] = {
    "cnn": {"widths": (4, 4)},
    "mlp": {"widths": (5, 4)},
    "transformer": {"width": 4, "layers": 1, "heads": 2},
    "vit": {"width": 4, "layers": 1, "heads": 2, "patch": 2},
    "conformer": {"width": 4, "layers": 1, "heads": 2, "kernel": 3},
    "text_cnn": {"width": 4, "embedding": 3, "kernel": 3},
}


# ResNets differ by their name alone: other numbers of channels with one of them.
@pytest.mark.parametrize(
    ("name", "channels"),
    [(name, c) for name in ROWS for c in (1, 2, 3) if name not in ("resnet34", "resnet50") or c == 3],
)
def test_encoders_take_any_number_of_channels(name: str, channels: int) -> None:
    options, dim = ROWS[name]
    made = encoder(name, (channels, 36, 40), **options)
    assert made.dim == dim == made.widths[-1]
    feature = made(torch.randn(2, channels, 36, 40))
    assert feature.shape == (2, dim) and torch.isfinite(feature).all()
    maps = made.fold(torch.randn(2, channels, 36, 40))[0]
    for level, width in zip(made.levels(), made.widths, strict=True):
        maps = level(maps)
        assert maps.shape[1] == width


@pytest.mark.parametrize("name", ["cnn", "resnet18", "vit"])
def test_frames_are_averaged_over_time_however_many(name: str) -> None:
    options, _ = ROWS[name]
    made = encoder(name, (3, 4, 36, 40), **options).eval()
    clip = torch.randn(2, 3, 5, 36, 40)
    frames = [made(clip[:, :, t]) for t in range(5)]
    torch.testing.assert_close(made(clip), torch.stack(frames).mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_gradients_are_right(name: str) -> None:
    made = encoder(name, (1, 4, 4), **SMALL[name]).double()
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(made, x)


@pytest.mark.parametrize(
    ("name", "shape", "why"),
    [
        ("resnet18", (32, 8), "no spectrogram, image or clip"),
        ("transformer", (3, 2, 8, 8), "no sequence"),
        ("conformer", (3, 2, 8, 8), "no sequence"),
        ("text_cnn", (3, 2, 8, 8), "no sequence"),
    ],
)
def test_inputs_of_another_shape_are_refused_in_a_line(name: str, shape: tuple[int, ...], why: str) -> None:
    with pytest.raises(ValueError, match=why) as error:
        encoder(name, shape)
    assert "\n" not in str(error.value)


def test_every_encoder_has_a_row() -> None:
    assert set(ROWS) == set(ENCODERS) == {*SMALL, "resnet18", "resnet34", "resnet50"}


def test_the_list_says_what_there_is() -> None:
    out = "\n".join(listing.encoders())
    assert all(f" {name} " in out for name in ENCODERS) and "timm:NAME" in out and "11,170,240" in out
