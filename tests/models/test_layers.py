"""Attention, and pooling over time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from models.layers import attention
from tests.helpers.models import encoder


@pytest.mark.parametrize("pool", ["mean", "max", "attention"])
def test_pooling_over_time(pool: str) -> None:
    made = encoder("cnn", (3, 4, 8, 8), widths=(4, 8), pool=pool).double()
    x = torch.randn(2, 3, 4, 8, 8, dtype=torch.float64)
    frames = torch.stack([made(x[:, :, t : t + 1]) for t in range(4)], 1)
    expected = frames.amax(1) if pool == "max" else frames.mean(1)
    torch.testing.assert_close(made(x), expected)  # attention starts as the mean
    if pool == "attention":
        with torch.no_grad():
            made.over_time.score.weight.normal_()
        weight = (frames @ made.over_time.score.weight.T).softmax(1)
        torch.testing.assert_close(made(x), (weight * frames).sum(1))


def test_attention_is_torchs_and_gives_zeros_to_queries_without_keys() -> None:
    q, k, v = (torch.randn(2, 3, n, 4, dtype=torch.float64) for n in (5, 6, 6))
    torch.testing.assert_close(attention(q, k, v), F.scaled_dot_product_attention(q, k, v))
    keep = torch.rand(2, 1, 5, 6) > 0.4
    keep[0, 0, 2] = False
    out = attention(q.requires_grad_(), k, v, keep)
    torch.testing.assert_close(out[0, 0, 3], F.scaled_dot_product_attention(q, k, v, keep)[0, 0, 3])
    assert not out[0, :, 2].any()
    out.sum().backward()
    assert torch.isfinite(q.grad).all()
    low = attention(*(x.detach().bfloat16() for x in (q, k, v)))
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.double(), attention(q, k, v), atol=0.05, rtol=0.05)
