"""Losses that several methods share. All compare in float32 or better, and never take the log of a softmax's output."""

from __future__ import annotations

from torch import Tensor


def kl(target: Tensor, logits: Tensor) -> Tensor:
    """(B,) KL(softmax(target) || softmax(logits)) of two (B, C) logits tensors, natural log, summed over classes."""
    p, q = (z.float() if z.itemsize < 4 else z for z in (target, logits))
    p, q = p.log_softmax(1), q.log_softmax(1)
    return (p.exp() * (p - q)).sum(1)
