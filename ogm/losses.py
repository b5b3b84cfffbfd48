"""Losses that several methods share, in float32 or better and without the logarithm of a softmax's output."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from ogm.context import world_size


def kl(target: Tensor, logits: Tensor) -> Tensor:
    """Compute the divergence KL(softmax(target) || softmax(logits)), with the natural logarithm.

    Args:
        target: (B, C) logits of the first distribution.
        logits: (B, C) logits of the second distribution.

    Returns:
        (B,) divergences.
    """
    p, q = full(target).log_softmax(1), full(logits).log_softmax(1)
    return (p.exp() * (p - q)).sum(1)


def jensen_shannon(one: Tensor, other: Tensor) -> Tensor:
    """Compute the Jensen-Shannon divergence of two predictions; finite for logits up to a thousand.

    With P and Q the softmaxes and X = (P + Q) / 2, it is (KL(P || X) + KL(Q || X)) / 2, with the natural logarithm.

    Args:
        one: (B, C) logits.
        other: (B, C) logits.

    Returns:
        (B,) divergences, from 0 to ln 2.
    """
    p, q = full(one).log_softmax(1), full(other).log_softmax(1)
    mixture = torch.logaddexp(p, q) - math.log(2)
    return (kl(p, mixture) + kl(q, mixture)) / 2


def info_nce(a: Tensor, b: Tensor, temperature: float, valid: Tensor | None = None) -> Tensor:
    """Compute the symmetric InfoNCE loss of paired embeddings: per pair, the mean of both directions.

    The negatives of a row are the other rows of the other side, of all ranks together.

    Args:
        a: (B, D) embeddings of one side; they are normalised here.
        b: (B, D) embeddings of the other side.
        temperature: Divides the cosines.
        valid: (B,) bool; other pairs are no negatives, and their own losses must not be counted. None: all are valid.

    Returns:
        (B,) losses; 0 for a pair without negatives.
    """
    a, b = (F.normalize(full(x)) for x in (a, b))
    return (one_way(a, b, temperature, valid) + one_way(b, a, temperature, valid)) / 2


def one_way(a: Tensor, b: Tensor, temperature: float, valid: Tensor | None = None) -> Tensor:
    """Compute -log of softmax_j(<a_i, b_j> / temperature) at j = i.

    Args:
        a: (B, D); not normalised here.
        b: (B, D); its rows on all ranks are the candidates j.
        temperature: Divides the dot products.
        valid: (B,) bool; other rows of ``b`` are no negatives. None: all are valid.

    Returns:
        (B,) losses.
    """
    with torch.autocast(a.device.type, enabled=False):
        keys, start = gather(full(b))
        scores = full(a) @ keys.T / temperature
    own = _is_own(scores, start)
    scores = scores.masked_fill(~(own | _valid_columns(valid, scores)), -torch.inf)
    return scores.logsumexp(1) - scores[:, start : start + len(a)].diagonal()


def nt_xent(first: Tensor, second: Tensor, temperature: float, valid: Tensor | None = None) -> Tensor:
    """Compute the NT-Xent loss of two views of the same samples: per sample, the mean over its two anchors.

    Chen et al., ICML 2020, eq. 1: the other view of the sample is the positive, all other views of all ranks are
    negatives. The mean over samples is then the mean over 2B anchors (the released TensorFlow code adds its two
    directions).

    Args:
        first: (B, D) embeddings of the first view; they are normalised here.
        second: (B, D) embeddings of the second view.
        temperature: Divides the cosines.
        valid: (B,) bool; other samples are no negatives, and their own losses must not be counted. None: all are valid.

    Returns:
        (B,) losses; 0 for one sample alone.
    """
    views = [F.normalize(full(x)) for x in (first, second)]
    with torch.autocast(first.device.type, enabled=False):
        keys, start = gather(torch.stack(views, 1))  # (N, 2, D), in one message
        losses = []
        for view, this, that in ((views[0], 0, 1), (views[1], 1, 0)):
            same, other = view @ keys[:, this].T / temperature, view @ keys[:, that].T / temperature
            own, known = _is_own(same, start), _valid_columns(valid, same)
            same, other = same.masked_fill(own | ~known, -torch.inf), other.masked_fill(~(own | known), -torch.inf)
            positive = other[:, start : start + len(view)].diagonal()
            losses.append(torch.cat([same, other], 1).logsumexp(1) - positive)
    return (losses[0] + losses[1]) / 2


def supervised_contrast(rows: Tensor, label: Tensor, temperature: float, valid: Tensor | None = None) -> Tensor:
    """Compute the supervised contrast of rows with labels; other positives are not in the denominator.

    Args:
        rows: (K, D), not normalised.
        label: (K,) classes.
        temperature: Divides the cosines.
        valid: (K,) bool, which rows count; None: all.

    Returns:
        0-dim mean over ordered pairs of rows with the same label; 0 without such a pair, or without other labels.
    """
    rows = F.normalize(rows)
    with torch.autocast(rows.device.type, enabled=False):
        scores = rows @ rows.T / temperature
    both = torch.ones_like(scores, dtype=torch.bool) if valid is None else valid & valid[:, None]
    same = label == label[:, None]
    positive, negative = (same & both).fill_diagonal_(False), ~same & both
    lowest = torch.finfo(scores.dtype).min / 4  # not -inf, whose logsumexp has no gradient
    others = scores.masked_fill(~negative, lowest).logsumexp(1, keepdim=True)
    losses = -F.logsigmoid(scores - others)
    return torch.where(positive, losses, 0.0).sum() / positive.sum().clamp_min(1)


def full(x: Tensor) -> Tensor:
    """Convert a tensor in half precision to float32; others stay as they are."""
    return x.float() if x.itemsize < 4 else x


def entropy(logits: Tensor) -> Tensor:
    """Compute the entropy of predictions.

    Args:
        logits: (B, C).

    Returns:
        (B,) entropy of softmax(logits) over the classes, natural logarithm.
    """
    log_p = full(logits).log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


def gather(x: Tensor) -> tuple[Tensor, int]:
    """Gather the rows of all ranks, which may have different numbers of them.

    It can be differentiated: the gradient of a row is the sum of its gradients on all ranks. So a rank that averages a
    loss over its own rows (``ctx.mean``, ``ctx.backward``) contributes its part to the gradient of the global mean, and
    so does a rank that computes the same global number as all others. Without this gradient, the effect of a row as a
    negative of other ranks would be lost.

    Args:
        x: (B, ...) rows of this rank.

    Returns:
        (N, ...) rows in order of rank, and the number of the first row of this rank.
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


def _is_own(scores: Tensor, start: int) -> Tensor:
    """Find where column j is row i itself: (B, N) bool."""
    column = torch.arange(scores.shape[1], device=scores.device)
    return column == start + torch.arange(len(scores), device=scores.device)[:, None]


def _valid_columns(valid: Tensor | None, scores: Tensor) -> Tensor:
    """Gather which columns are valid: (N,) bool."""
    if valid is None:
        return torch.ones_like(scores[0], dtype=torch.bool)
    return gather(valid.to(scores.dtype))[0] > 0
