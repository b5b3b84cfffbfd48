"""Symmetric gates, by hand."""

from __future__ import annotations

import torch

from tests.helpers.models import EVEN, features, fusion


def test_symmetric_gates_are_what_they_say() -> None:
    made, h = fusion("gated_sym", EVEN), features(EVEN)
    a = {m: made.projections[m](h[m]) for m in EVEN}
    parts = [a[m] / (1 + torch.exp(-sum(a[k] for k in EVEN if k != m) / 2)) for m in EVEN]
    torch.testing.assert_close(made(h), made.head(torch.cat(parts, 1)))
