"""Transformers' parts: attention, a pre-norm block, and an encoder's maps as tokens."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.encoder import unfold
from models.fusion import full

TOKENS = 64  # at most, of one modality


def attention(q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V for (..., n, d) queries and (..., k, d) keys, the softmax in float32 at least.

    ``keep`` (..., n or 1, k) bool says which keys count; a query without any gets zeros. Written out, for torch's own
    has no deterministic backward pass on every device and makes no promise for such queries.
    """
    scores = full(q @ k.mT) / math.sqrt(q.shape[-1])
    if keep is None:
        weight = scores.softmax(-1)
    else:
        lowest = torch.finfo(scores.dtype).min
        weight = scores.masked_fill(~keep, lowest).softmax(-1) * keep.any(-1, keepdim=True)
    return F.dropout(weight, dropout, dropout > 0).to(v.dtype) @ v


def dense(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer of a transformer: Xavier uniform, zero bias (spec fusion.md, section 0)."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def embedding(*shape: int) -> nn.Parameter:
    """Learned tokens or positions: normal, std 0.02."""
    return nn.Parameter(0.02 * torch.randn(shape))


class Block(nn.Module):
    """Pre-norm: x + attention(LN x, LN y, LN y), then x + FFN(LN x), FFN of width 4D with GELU. Without y: y = x."""

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0, cross: bool = False) -> None:
        super().__init__()
        if heads < 1 or width < 1 or width % heads:
            raise ValueError(f"width={width}, heads={heads}: the width must be a multiple of the number of heads")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout}: must be in [0, 1)")
        self.heads, self.dropout = heads, dropout
        self.norm = nn.LayerNorm(width)
        self.norm_keys = nn.LayerNorm(width) if cross else None
        self.query, self.key, self.value, self.out = (dense(width, width) for _ in range(4))
        self.feed = nn.Sequential(
            nn.LayerNorm(width), dense(width, 4 * width), nn.GELU(), nn.Dropout(dropout), dense(4 * width, width)
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, y: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """x (B, n, D), y (B, k, D), keep (B,) bool: has this sample any y? -> (B, n, D)."""
        asking = self.norm(x)
        told = asking if y is None or self.norm_keys is None else self.norm_keys(y)
        q, k, v = (
            layer(z).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, z in ((self.query, asking), (self.key, told), (self.value, told))
        )
        mask = None if keep is None else keep[:, None, None, None].expand(-1, 1, 1, k.shape[2])
        heard = attention(q, k, v, mask, self.dropout if self.training else 0.0)
        x = x + self.drop(self.out(heard.transpose(1, 2).flatten(2)))
        return x + self.drop(self.feed(x))


class Tokens(nn.Module):
    """An encoder and its last maps as tokens: a linear layer, learned positions, an embedding of the modality.

    Long maps are averaged over neighbours to at most 64 tokens. It belongs to the encoder: it sees one modality only.
    """

    def __init__(self, encoder: Any, modality: str, width: int) -> None:
        super().__init__()
        if not getattr(encoder, "widths", ()):
            raise ValueError(
                f"it needs the maps that tokens are made of, which {type(encoder).__name__} ({modality}) does not "
                "show: use one that does, such as cnn or resnet18"
            )
        self.encoder, self.dim = encoder, width
        self.project = dense(encoder.widths[-1], width)
        self.positions, self.kind = embedding(TOKENS, width), embedding(width)

    def tokens(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, n, D), n at most 64."""
        images, frames = self.encoder.fold(x)
        row = unfold(self.encoder.maps(images), frames).flatten(2)  # (B, C, n)
        every = math.ceil(row.shape[2] / TOKENS)
        if every > 1:  # not the adaptive kind, whose backward pass is not deterministic on every device
            row = F.avg_pool1d(row, every, ceil_mode=True)
        return self.project(row.mT) + self.positions[: row.shape[2]] + self.kind


def on_maps(block: nn.Module, maps: Tensor) -> Tensor:
    """A block of tokens (N, n, D) applied to the positions of maps (N, D, ...)."""
    tokens: Tensor = block(maps.flatten(2).mT)
    return tokens.mT.unflatten(2, maps.shape[2:])
