"""Cross-attention: every modality's tokens attend to those of every other modality."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.encoder import TokenEncoder
from models.fusion import ALL_PRESENT, Fusion
from models.layers import TransformerBlock, linear


class MeanTokenEncoder(TokenEncoder):
    """A modality by itself: without others to attend to, every part of its feature is the mean of its own tokens.

    Args:
        encoder: An encoder that shows its levels.
        modality: Its modality.
        width: Width D of the tokens.
        modalities: Number of modalities, M.
    """

    def __init__(self, encoder: Any, modality: str, width: int, modalities: int) -> None:
        super().__init__(encoder, modality, width)
        self.modalities, self.dim = modalities, modalities * width

    def forward(self, x: Tensor) -> Tensor:
        """Encode an input (B, ...) as a feature (B, M * D)."""
        return self.tokens(x).mean(1).repeat(1, self.modalities)


class CrossAttention(Fusion):
    """For each ordered pair of modalities, the tokens of one attend to the tokens of the other.

    A pair (m <- n) has its own stack of pre-norm blocks, in which queries come from m, and keys and values from n's
    original tokens. Z_m is the concatenation over n of the means over tokens, and z = W [Z_1; ...; Z_M] + b. The output
    of a pair whose n is absent or dropped is m's own tokens, unchanged; an absent or dropped m counts as zero.

    A modality's feature is [mean of its tokens; one mean per pair], (B, M * width). As a pair depends on its two
    modalities only, the logits of any subset of modalities follow from the features alone, exactly.

    Args:
        dims: Modality -> width of its encoder's feature, in configured order; only the modalities are used.
        num_classes: Number of classes, C.
        width: Width D of the tokens.
        layers: Blocks in the stack of a pair.
        heads: Attention heads of a block.
        dropout: Dropout of a block.

    Raises:
        ValueError: For ``layers`` below 1, or blocks that will not do.

    Differences:
        - MulT: after the merge, self-attention per modality; causal masks; the last time step. Ours: none of these, and
          the mean over tokens, as frames are not causal here.
        - MulT: temporal convolutions and sinusoidal positions on sequences. Ours: tokens of the encoders' last maps,
          with learned positions.

    References:
        - Tsai et al., "Multimodal Transformer for Unaligned Multimodal Language Sequences", ACL 2019 (MulT).
    """

    source = "MulT (Tsai et al., ACL 2019)"
    input_kind = "tokens"
    replaces_encoders = True
    head: nn.Linear

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

        def stack() -> nn.ModuleList:
            return nn.ModuleList(TransformerBlock(width, heads, dropout=dropout, cross=True) for _ in range(layers))

        self.stacks = nn.ModuleDict({m: nn.ModuleDict({n: stack() for n in dims if n != m}) for m in dims})
        self.head = linear(len(dims) * (len(dims) - 1) * width, num_classes)

    def build_for(self, encoders: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        """Return encoders that turn their last maps into tokens."""
        return {m: MeanTokenEncoder(encoder, m, self.width, len(encoders)) for m, encoder in encoders.items()}

    def encode(
        self,
        encoders: Mapping[str, Any],
        inputs: Mapping[str, Tensor],
        present: Mapping[str, Tensor] = ALL_PRESENT,
        drop: Collection[str] = (),
    ) -> dict[str, Tensor]:
        """Let the tokens of every pair attend: inputs (B, ...) -> features (B, M * width)."""
        tokens = {m: encoder.tokens(inputs[m]) for m, encoder in encoders.items()}
        return {m: self._attend(m, tokens, present, drop) for m in tokens}

    def _pairs(self, m: str) -> dict[str, nn.ModuleList]:
        """Return the stacks of all pairs (m <- n), by n."""
        return {n: cast(nn.ModuleList, stack) for n, stack in cast(nn.ModuleDict, self.stacks[m]).items()}

    def _attend(
        self, m: str, tokens: Mapping[str, Tensor], present: Mapping[str, Tensor], drop: Collection[str]
    ) -> Tensor:
        """Compute the feature (B, M * width) of m from all tokens (B, n_m, width)."""
        pairs = []
        for n, stack in self._pairs(m).items():
            x = tokens[m]
            for block in stack:
                x = block(x, tokens[n], present.get(n))
            pairs.append(x.mean(1))
        own = tokens[m].mean(1)
        return torch.cat([own, *self._replace_absent(m, own, pairs, present, drop)], dim=1)

    def _replace_absent(
        self, m: str, own: Tensor, pairs: Collection[Tensor], present: Mapping[str, Tensor], drop: Collection[str]
    ) -> list[Tensor]:
        """Return m's pairs (B, width), with ``own`` in the place of those whose other modality is absent or dropped."""
        replaced = []
        for n, pair in zip(self._pairs(m), pairs, strict=True):
            if n in drop:
                pair = own
            elif n in present:
                pair = torch.where(present[n][:, None], pair, own)
            replaced.append(pair)
        return replaced

    def forward(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] = ALL_PRESENT, drop: Collection[str] = ()
    ) -> Tensor:
        """Fuse features (B, M * width) to logits (B, C), as if the absent and dropped modalities had sent nothing.

        Args:
            features: Modality -> (B, M * width).
            present: Modality -> (B,) bool, whether each sample has it. A modality without an entry is always there.
            drop: Modalities to leave out.

        Returns:
            (B, C) logits.
        """
        merged = []
        for m in self.dims:
            own, *pairs = features[m].chunk(len(self.dims), dim=1)
            z = torch.cat(self._replace_absent(m, own, pairs, present, drop), dim=1)
            if m in drop:
                z = torch.zeros_like(z)
            elif m in present:
                z = z * present[m][:, None].to(z.dtype)
            merged.append(z)
        logits: Tensor = self.head(torch.cat(merged, dim=1))
        return logits

    def unimodal_logits(self, features: Mapping[str, Tensor], *, detach: bool = False) -> dict[str, Tensor]:
        """Compute the logits (B, C) with all other modalities dropped, for each modality in ``features``."""
        if detach:
            features = {m: f.detach() for m, f in features.items()}
        return {
            m: self(
                {k: f if k == m else f.new_zeros(len(f), d) for k, d in self.dims.items()}, drop=self.dims.keys() - {m}
            )
            for m, f in features.items()
        }
