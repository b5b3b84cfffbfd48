"""Losses that several methods share. All compare in float32 or better, and never take the log of a softmax's output."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from ogm.context import world_size


def kl(target: Tensor, logits: Tensor) -> Tensor:
    """(B,) KL(softmax(target) || softmax(logits)) of two (B, C) logits tensors, natural log, summed over classes."""
    p, q = full(target).log_softmax(1), full(logits).log_softmax(1)
    return (p.exp() * (p - q)).sum(1)


def info_nce(a: Tensor, b: Tensor, temperature: float, valid: Tensor | None = None) -> Tensor:
    """(B,) symmetric InfoNCE of paired embeddings ``a`` and ``b`` (B, D): per pair, the mean of both directions.

    Cosines over ``temperature``. A row's negatives are the other rows of the *other* side, of all ranks together. Pairs
    outside ``valid`` (B,) bool are nobody's negatives, and the numbers in their rows are not to be counted. A pair
    without negatives has loss 0.
    """
    a, b = (F.normalize(full(x)) for x in (a, b))
    return (one_way(a, b, temperature, valid) + one_way(b, a, temperature, valid)) / 2


def one_way(a: Tensor, b: Tensor, temperature: float, valid: Tensor | None = None) -> Tensor:
    """(B,) -log of softmax_j(<a_i, b_j> / temperature) at j = i, over the rows j of ``b`` on all ranks. No norms."""
    with torch.autocast(a.device.type, enabled=False):
        keys, start = gather(full(b))
        scores = full(a) @ keys.T / temperature
    own = _own(scores, start)
    scores = scores.masked_fill(~(own | _known(valid, scores)), -torch.inf)
    return scores.logsumexp(1) - scores[:, start : start + len(a)].diagonal()


def nt_xent(first: Tensor, second: Tensor, temperature: float, valid: Tensor | None = None) -> Tensor:
    """(B,) NT-Xent of two views (B, D) of the same samples: per sample, the mean over its two anchors.

    Chen et al., ICML 2020, eq. 1: cosines over ``temperature``, the other view is the positive, the anchor itself is
    left out, all other views, of all ranks, are negatives. The mean over samples is the mean over 2B anchors (the
    released TensorFlow code *adds* its two directions). ``valid`` as for ``info_nce``; one sample alone: 0.
    """
    views = [F.normalize(full(x)) for x in (first, second)]
    with torch.autocast(first.device.type, enabled=False):
        keys, start = gather(torch.stack(views, 1))  # (N, 2, D), in one message
        losses = []
        for view, this, that in ((views[0], 0, 1), (views[1], 1, 0)):
            same, other = view @ keys[:, this].T / temperature, view @ keys[:, that].T / temperature
            own, known = _own(same, start), _known(valid, same)
            same, other = same.masked_fill(own | ~known, -torch.inf), other.masked_fill(~(own | known), -torch.inf)
            positive = other[:, start : start + len(view)].diagonal()
            losses.append(torch.cat([same, other], 1).logsumexp(1) - positive)
    return (losses[0] + losses[1]) / 2


def full(x: Tensor) -> Tensor:
    """In float32 or better."""
    return x.float() if x.itemsize < 4 else x


def gather(x: Tensor) -> tuple[Tensor, int]:
    """The rows of all ranks, (N, ...), in order of rank, and where this rank's begin. Ranks may have unlike numbers.

    Differentiable: a row's gradient is the sum of what all ranks ask of it. A rank that averages a loss over its *own*
    rows, with ``ctx.mean`` and ``ctx.backward``, so does its part of the global mean; one that computes the same global
    number as all others, likewise. (A gather without gradient loses what a row does as other ranks' negative.)
    """
    if world_size() == 1:
        return x, 0
    count = torch.tensor([len(x)], device=x.device)
    counts = [torch.empty_like(count) for _ in range(world_size())]
    dist.all_gather(counts, count)
    sizes = torch.cat(counts).tolist()
    return _Gather.apply(x, sizes), sum(sizes[: dist.get_rank()])  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        padded = x.new_zeros(max(sizes), *x.shape[1:])  # messages are of one size
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        grad = grads[0].contiguous()
        dist.all_reduce(grad)
        return torch.split(grad, ctx.sizes)[dist.get_rank()], None


def _own(scores: Tensor, start: int) -> Tensor:
    """(B, N) bool: where column j is row i itself."""
    column = torch.arange(scores.shape[1], device=scores.device)
    return column == start + torch.arange(len(scores), device=scores.device)[:, None]


def _known(valid: Tensor | None, scores: Tensor) -> Tensor:
    """(N,) bool: the columns that are there."""
    if valid is None:
        return torch.ones_like(scores[0], dtype=torch.bool)
    return gather(valid.to(scores.dtype))[0] > 0
