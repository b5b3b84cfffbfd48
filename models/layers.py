"""Layers and small functions that several encoders and fusions share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ogm.losses import full

__all__ = [
    "Pooling",
    "TimePooling",
    "TransformerBlock",
    "apply_to_maps",
    "attention",
    "detach_if",
    "full",
    "initialise_convolutions",
    "learned_embedding",
    "linear",
    "linear_per_modality",
    "presence_weights",
    "transformer_linear",
    "weighted_mean",
]

Pooling = Literal["mean", "max", "attention"]


# ---- initialisation
def linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """Make a linear layer with Xavier normal weights and a zero bias.

    All linear layers outside of transformers start like this, as in the released code of OGM-GE
    (GeWu-Lab/OGM-GE_CVPR2022@343dc1d, utils/utils.py, ``weight_init``).

    Args:
        inputs: Width of the input.
        outputs: Width of the output.
        bias: Whether the layer has a bias.

    Returns:
        The layer, (..., inputs) -> (..., outputs).
    """
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.xavier_normal_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def linear_per_modality(dims: Mapping[str, int], outputs: int) -> nn.ModuleDict:
    """Make one ``linear`` layer per modality.

    Args:
        dims: Modality -> width D_m of its feature.
        outputs: Width of every output, such as the number of classes.

    Returns:
        Modality -> layer, (B, D_m) -> (B, outputs), in the order of ``dims``.
    """
    return nn.ModuleDict({m: linear(dim, outputs) for m, dim in dims.items()})


def transformer_linear(inputs: int, outputs: int) -> nn.Linear:
    """Make a linear layer of a transformer, with Xavier uniform weights and a zero bias.

    Args:
        inputs: Width of the input.
        outputs: Width of the output.

    Returns:
        The layer, (..., inputs) -> (..., outputs).
    """
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def learned_embedding(*shape: int) -> nn.Parameter:
    """Make learned tokens or learned positions, drawn from a normal distribution with standard deviation 0.02.

    Args:
        *shape: Shape of the parameter, such as (tokens, width).

    Returns:
        The parameter.
    """
    return nn.Parameter(0.02 * torch.randn(shape))


def initialise_convolutions(network: nn.Module) -> None:
    """Initialise convolutions Kaiming normal (fan-out), and normalisation layers with scale 1 and shift 0, in place.

    This is the initialisation of the released OGM-GE code (GeWu-Lab/OGM-GE_CVPR2022@343dc1d, utils/utils.py,
    ``weight_init``).

    Args:
        network: The network; its other layers stay as they are.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


# ---- logits of several modalities
def detach_if(detach: bool, logits: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the logits without their graph if ``detach`` is true, else as they are.

    Args:
        detach: Whether to cut the graph.
        logits: Modality -> (B, C).

    Returns:
        Modality -> (B, C).
    """
    return {m: z.detach() for m, z in logits.items()} if detach else logits


def presence_weights(dims: Mapping[str, int], present: Mapping[str, Tensor], like: Tensor) -> Tensor:
    """Return which modalities count in each sample, as weights of a mean over modalities.

    Args:
        dims: The modalities, in configured order; the values are not used.
        present: Modality -> (B,) bool, whether each sample has it. A modality without an entry is always there.
        like: A tensor (B, ...) that gives the number of samples, the device and the dtype.

    Returns:
        (M, B): 1 where a sample has the modality, else 0. For a sample without any modality: all 1.
    """
    always = torch.ones(len(like), dtype=torch.bool, device=like.device)
    has = torch.stack([present.get(m, always) for m in dims])
    return (has | ~has.any(0)).to(like.dtype)


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Average over modalities.

    Args:
        values: (M, B, C), such as the logits of M modalities.
        weight: (M, B), see ``presence_weights``; in every sample at least one is not 0.

    Returns:
        (B, C).
    """
    return (weight[..., None] * values).sum(0) / weight.sum(0)[:, None]


# ---- pooling over time
class TimePooling(nn.Module):
    """Pools steps of time: (B, T, D) -> (B, D).

    Args:
        how: "mean", "max", or "attention": the mean weighted by softmax over time of a learned score per step, which
            starts as the plain mean.
        dim: Width D; only "attention" needs it.
    """

    def __init__(self, how: Pooling, dim: int = 0) -> None:
        super().__init__()
        self.how = how
        if how == "attention":
            self.score = nn.Linear(dim, 1)
            nn.init.zeros_(self.score.weight)  # starts as the mean
            nn.init.zeros_(self.score.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, T, D) to (B, D)."""
        if self.how == "mean":
            return x.mean(1)
        if self.how == "max":
            return x.amax(1)
        return (full(self.score(x)).softmax(1) * x).sum(1)


# ---- transformers
def attention(q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    """Scaled dot-product attention, softmax(Q K^T / sqrt(d)) V, with the softmax in float32 or better.

    Vaswani et al., NeurIPS 2017, eq. 1. It is written out because the backward pass of torch's own is not deterministic
    on every device, and because torch promises nothing for a query without any key.

    Args:
        q: Queries (..., n, d).
        k: Keys (..., k, d).
        v: Values (..., k, e).
        keep: (..., n or 1, k) bool, which keys count for each query; all, if it is not given.
        dropout: Probability of dropping an attention weight.

    Returns:
        (..., n, e); zeros for a query without any key.
    """
    scores = full(q @ k.mT) / math.sqrt(q.shape[-1])
    if keep is None:
        weight = scores.softmax(-1)
    else:
        lowest = torch.finfo(scores.dtype).min
        weight = scores.masked_fill(~keep, lowest).softmax(-1) * keep.any(-1, keepdim=True)
    return F.dropout(weight, dropout, dropout > 0).to(v.dtype) @ v


class TransformerBlock(nn.Module):
    """A pre-norm block: x + attention(LN x, LN y, LN y), then x + FFN(LN x), with an FFN of width 4 D and GELU.

    Args:
        width: Width D of the tokens.
        heads: Number of attention heads; D must be a multiple of it.
        dropout: Probability, in [0, 1), for attention weights and both branches.
        cross: Whether keys and values come from other tokens y, which then have a LayerNorm of their own.

    Raises:
        ValueError: For a width, a number of heads or a dropout that will not do.
    """

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0, cross: bool = False) -> None:
        super().__init__()
        if heads < 1 or width < 1 or width % heads:
            raise ValueError(f"width={width}, heads={heads}: the width must be a multiple of the number of heads")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout}: must be in [0, 1)")
        self.heads, self.dropout = heads, dropout
        self.norm = nn.LayerNorm(width)
        self.norm_keys = nn.LayerNorm(width) if cross else None
        self.query, self.key, self.value, self.out = (transformer_linear(width, width) for _ in range(4))
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            transformer_linear(width, 4 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            transformer_linear(4 * width, width),
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, y: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """Apply the block.

        Args:
            x: Tokens (B, n, D) that ask.
            y: Tokens (B, k, D) that are attended to; without them, and in a block without ``cross``, x itself.
            keep: (B,) bool, whether a sample has any y; where it has none, the attention gives zeros.

        Returns:
            (B, n, D).
        """
        queries = self.norm(x)
        keys = queries if y is None or self.norm_keys is None else self.norm_keys(y)
        q, k, v = (
            torch.unflatten(layer(tokens), 2, (self.heads, -1)).transpose(1, 2)
            for layer, tokens in ((self.query, queries), (self.key, keys), (self.value, keys))
        )
        mask = None if keep is None else keep[:, None, None, None].expand(-1, 1, 1, k.shape[2])
        attended = attention(q, k, v, mask, self.dropout if self.training else 0.0)
        x = x + self.drop(self.out(attended.transpose(1, 2).flatten(2)))
        out: Tensor = x + self.drop(self.feed_forward(x))
        return out


def apply_to_maps(block: nn.Module, maps: Tensor) -> Tensor:
    """Apply a block of tokens to the positions of maps.

    Args:
        block: (N, n, D) -> (N, n, D).
        maps: (N, D, ...), with n positions.

    Returns:
        (N, D, ...).
    """
    tokens: Tensor = block(maps.flatten(2).mT)
    return torch.unflatten(tokens.mT, 2, maps.shape[2:])
