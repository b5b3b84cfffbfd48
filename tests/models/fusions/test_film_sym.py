"""Symmetric FiLM, by hand."""

from __future__ import annotations

import torch

from tests.helpers.models import EVEN, features, fusion


def test_symmetric_film_is_what_it_says() -> None:
    made, h = fusion("film_sym", EVEN), features(EVEN)
    parts = []
    for m in EVEN:
        pairs = [h[k] @ made.generators[m][k].weight.T + made.generators[m][k].bias for k in EVEN if k != m]
        mean = (pairs[0] + pairs[1]) / 2
        parts.append(mean[:, :6] * h[m] + mean[:, 6:])
    torch.testing.assert_close(made(h), made.head(torch.cat(parts, 1)))
