"""Tokens of an encoder's maps."""

from __future__ import annotations

import torch

from models.encoder import TokenEncoder
from models.encoders.cnn import CNN


def test_long_maps_become_at_most_64_tokens_of_neighbours() -> None:
    stem = TokenEncoder(CNN((1, 24, 40), widths=(4,)), "audio", 8).double()
    x, modality = torch.randn(2, 1, 24, 40, dtype=torch.float64), stem.modality_embedding
    row = stem.encoder.maps(x).flatten(2)  # 960 positions: 15 to a token
    expected = stem.project(torch.stack([part.mean(2) for part in row.split(15, 2)], 1)) + stem.positions + modality
    torch.testing.assert_close(stem.tokens(x), expected)
    short = stem.tokens(x[..., :29])  # 696 positions: 11 to a token, 3 to the last
    assert short.shape == (2, 64, 8)
    last = stem.project(stem.encoder.maps(x[..., :29]).flatten(2)[..., 693:].mean(2)) + stem.positions[63] + modality
    torch.testing.assert_close(short[:, 63], last)
