"""Random views: functions of seed, step and sample, the same for all frames of a clip."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from ogm.augmentations import crop, kind_of, view
from ogm.context import Context
from tests.helpers.methods import rows

SHAPES = {
    "spectrogram": (1, 32, 32),
    "image": (3, 24, 24),
    "frames": (3, 2, 24, 24),
    "tokens": (12, 7),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_view_is_a_function_of_its_place_and_sample(kind: Any) -> None:
    x = torch.randn(6, *SHAPES[kind], generator=torch.Generator().manual_seed(0))
    index = torch.tensor([5, 3, 11, 0, 7, 2])
    assert kind_of(x) == kind
    whole = view(x, kind, index, "first", Context(seed=1, step=4))
    assert whole.shape == x.shape and torch.isfinite(whole).all() and not torch.equal(whole, x)
    assert torch.equal(whole[2:4], view(x[2:4], kind, index[2:4], "first", Context(seed=1, step=4)))
    for other in (Context(seed=2, step=4), Context(seed=1, step=5)):
        assert not torch.equal(whole, view(x, kind, index, "first", other))
    assert not torch.equal(whole, view(x, kind, index, "second", Context(seed=1, step=4)))


def test_all_frames_of_a_clip_are_seen_alike() -> None:
    still = torch.randn(4, 3, 1, 24, 24).expand(-1, -1, 5, -1, -1)
    seen = view(still, "frames", torch.arange(4), "first", Context())
    assert torch.equal(seen, seen[:, :, :1].expand_as(seen))
    assert not torch.allclose(seen[0], seen[1], atol=0.1)


def test_a_crop_is_a_window_of_the_picture() -> None:
    one, zero = torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    x = rows(2, 3 * 8 * 12).view(2, 3, 8, 12)
    torch.testing.assert_close(crop(x, one, one, zero, zero), x)
    torch.testing.assert_close(crop(x, one, one, zero, zero, -one), x.flip(3))
    flat_field = torch.ones_like(x) * 3
    torch.testing.assert_close(crop(flat_field, one / 2, one / 3, one, -one), flat_field)
    ramp = torch.arange(12.0, dtype=torch.float64).expand(2, 1, 8, 12)
    left = crop(ramp, one, one / 2, zero, -one)
    assert float(left.min()) >= 0 and float(left.max()) <= 6 and (left[..., 1:] > left[..., :-1]).sum() > 0


def test_a_spectrogram_is_masked_by_little_and_never_silenced() -> None:
    x = torch.randn(200, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    seen = view(x, "spectrogram", torch.arange(200), "first", Context())
    spread = seen.std((1, 2, 3)) / x.std((1, 2, 3))
    assert float(spread.min()) > 0.5 and float(spread.max()) < 1.5
    assert float((seen.mean((1, 2, 3)) - x.mean((1, 2, 3))).abs().max()) < math.log(2) + 0.2


def test_a_tenth_of_the_tokens_is_dropped() -> None:
    seen = view(torch.ones(500, 20, 3), "tokens", torch.arange(500), "first", Context())
    assert torch.equal(seen.amin(2), seen.amax(2))  # a token is there, or it is not
    assert 0.08 < float((seen == 0).double().mean()) < 0.12
