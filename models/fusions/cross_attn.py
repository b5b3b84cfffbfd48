"""Cross-attention: every modality's tokens read every other modality's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.attention import Block, Tokens
from models.fusion import ALL_THERE, Fusion, linear


class Reader(Tokens):
    """Alone, a modality has nobody to read: the mean of its own tokens, in the place of every part of its feature."""

    def __init__(self, encoder: Any, modality: str, width: int, modalities: int) -> None:
        super().__init__(encoder, modality, width)
        self.modalities, self.dim = modalities, modalities * width

    def forward(self, x: Tensor) -> Tensor:
        return self.tokens(x).mean(1).repeat(1, self.modalities)


class CrossAttention(Fusion):
    """After MulT (Tsai et al., ACL 2019), in the plain form of spec fusion.md, section 8.

    For each ordered pair (m <- n) a stack of ``layers`` pre-norm blocks of its own, in which m's tokens ask and n's
    original tokens answer; Z_m = the means over tokens of all pairs of m, z = W [Z_1; ...; Z_M] + b. A pair whose n is
    absent or dropped is m's own tokens, unchanged; an absent or dropped m counts as zero.
    A modality's feature is [mean of its tokens; one mean per pair] (B, M * width): as a pair concerns nobody else, any
    subset of modalities can be judged from features alone, exactly. Left out of MulT: self-attention after the merge,
    causal masks, the last time step in place of the mean (frames are not causal here).
    """

    source = "MulT (Tsai et al., ACL 2019)"
    needs = "tokens"
    wraps = True

    def __init__(
        self,
        dims: Mapping[str, int],
        num_classes: int,
        *,
        width: int = 256,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__({m: len(dims) * width for m in dims}, num_classes)
        if layers < 1:
            raise ValueError(f"layers={layers}: must be 1 or more")
        self.width = width
        self.stacks = nn.ModuleDict(
            {
                m: nn.ModuleDict(
                    {
                        n: nn.ModuleList(Block(width, heads, dropout=dropout, cross=True) for _ in range(layers))
                        for n in dims
                        if n != m
                    }
                )
                for m in dims
            }
        )
        self.head = linear(len(dims) * (len(dims) - 1) * width, num_classes)

    def meet(self, encoders: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        return {m: Reader(encoder, m, self.width, len(encoders)) for m, encoder in encoders.items()}

    def encode(
        self,
        encoders: Mapping[str, Any],
        inputs: Mapping[str, Tensor],
        present: Mapping[str, Tensor] = ALL_THERE,
        drop: Collection[str] = (),
    ) -> dict[str, Tensor]:
        tokens = {m: encoder.tokens(inputs[m]) for m, encoder in encoders.items()}
        return {m: self._read(m, tokens, present, drop) for m in tokens}

    def _read(
        self, m: str, tokens: Mapping[str, Tensor], present: Mapping[str, Tensor], drop: Collection[str]
    ) -> Tensor:
        pairs = []
        for n, stack in self.stacks[m].items():
            x = tokens[m]
            for block in stack:
                x = block(x, tokens[n], present.get(n))
            pairs.append(x.mean(1))
        own = tokens[m].mean(1)
        return torch.cat([own, *self._heard(m, own, pairs, present, drop)], dim=1)

    def _heard(
        self, m: str, own: Tensor, pairs: Collection[Tensor], present: Mapping[str, Tensor], drop: Collection[str]
    ) -> list[Tensor]:
        """m's pairs (B, D) with the others, ``own`` in the place of those who are not there."""
        found = []
        for n, pair in zip(self.stacks[m], pairs, strict=True):
            if n in drop:
                pair = own
            elif n in present:
                pair = torch.where(present[n][:, None], pair, own)
            found.append(pair)
        return found

    def forward(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] = ALL_THERE, drop: Collection[str] = ()
    ) -> Tensor:
        parts = []
        for m in self.dims:
            own, *pairs = features[m].chunk(len(self.dims), dim=1)
            said = torch.cat(self._heard(m, own, pairs, present, drop), dim=1)
            if m in drop:
                said = torch.zeros_like(said)
            elif m in present:
                said = said * present[m][:, None].to(said.dtype)
            parts.append(said)
        logits: Tensor = self.head(torch.cat(parts, dim=1))
        return logits

    def unimodal_logits(self, features: Mapping[str, Tensor], *, detach: bool = False) -> dict[str, Tensor]:
        if detach:
            features = {m: f.detach() for m, f in features.items()}
        return {
            m: self(
                {k: f if k == m else f.new_zeros(len(f), d) for k, d in self.dims.items()}, drop=self.dims.keys() - {m}
            )
            for m, f in features.items()
        }
