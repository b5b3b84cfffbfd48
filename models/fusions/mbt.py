"""The bottleneck transformer: one stream per modality; they exchange signals through a few tokens only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.encoder import TokenEncoder
from models.fusion import ALL_PRESENT, Fusion
from models.layers import TransformerBlock, detach_if, learned_embedding, linear, presence_weights, weighted_mean


class StreamEncoder(TokenEncoder):
    """A class token before the modality's own tokens, and the layers in which the modality is by itself.

    Args:
        encoder: An encoder that shows its levels.
        modality: Its modality.
        width: Width D of the tokens.
        heads: Attention heads of a layer.
        layers: Number of layers.
    """

    def __init__(self, encoder: Any, modality: str, width: int, heads: int, layers: int) -> None:
        super().__init__(encoder, modality, width)
        self.class_token = learned_embedding(width)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(layers))

    def tokens(self, x: Tensor) -> Tensor:
        """Compute the stream (B, 1 + n, D) of an input (B, ...); the class token is the first."""
        tokens = super().tokens(x)
        stream = torch.cat([self.class_token.expand(len(tokens), 1, -1), tokens], dim=1)
        for block in self.blocks:
            stream = block(stream)
        return stream

    def forward(self, x: Tensor) -> Tensor:
        """Encode an input (B, ...) as the class token (B, D), as if there were no other modality."""
        return self.tokens(x)[:, 0]


class MBT(Fusion):
    """A transformer with one stream per modality; streams exchange signals through a few bottleneck tokens only.

    The first ``alone`` layers keep the streams apart. In each of the others every stream attends to itself and to the
    same bottleneck tokens, [X_m'; B_m'] = block_m([X_m; B]), and the next bottleneck is B' = mean_m B_m'. The class
    tokens after a LayerNorm are the features h_m. One linear classifier, which all modalities share, gives the unimodal
    logits u_m = W h_m + b, and z = mean_m u_m. Absent modalities are left out of both means. The classifier starts at
    zero, so at first all unimodal logits are equal.

    Args:
        dims: Modality -> width of its encoder's feature, in configured order; only the modalities are used.
        num_classes: Number of classes, C.
        width: Width D of the tokens.
        layers: Number of layers.
        alone: Number of layers without exchange.
        bottlenecks: Number of bottleneck tokens.
        heads: Attention heads of a layer.

    Raises:
        ValueError: For ``alone`` outside of [0, layers], ``bottlenecks`` below 1, or blocks that will not do.

    Differences:
        - Released code with class tokens: trains the mean of the modalities' losses, and averages logits in evaluation
          only. Ours: trains the cross-entropy of the mean of logits.
        - Released code with class tokens: one more bottleneck token than configured, and class tokens that start at
          zero. Ours: as configured, and normal with standard deviation 0.02.
        - Released code: patches of the inputs, 12 layers of width 768 with ImageNet-21k weights. Ours: tokens of the
          encoders' last maps, and a small transformer.

    References:
        - Nagrani et al., "Attention Bottlenecks for Multimodal Fusion", NeurIPS 2021.
        - google-research/scenic@a6c4438, scenic/projects/mbt/model.py.
    """

    source = "Nagrani et al., NeurIPS 2021"
    input_kind = "tokens"
    has_unimodal_heads = True
    replaces_encoders = True
    head: nn.Linear

    def __init__(
        self,
        dims: Mapping[str, int],
        num_classes: int,
        *,
        width: int = 256,
        layers: int = 4,
        alone: int = 2,
        bottlenecks: int = 4,
        heads: int = 4,
    ) -> None:
        super().__init__(dict.fromkeys(dims, width), num_classes)
        if not 0 <= alone <= layers or bottlenecks < 1:
            raise ValueError(
                f"layers={layers}, alone={alone}, bottlenecks={bottlenecks}: alone must be in [0, layers], and "
                "bottlenecks 1 or more"
            )
        self.width, self.heads, self.alone = width, heads, alone
        self.layers = nn.ModuleList(
            nn.ModuleDict({m: TransformerBlock(width, heads) for m in dims}) for _ in range(layers - alone)
        )
        self.bottleneck, self.norm = learned_embedding(bottlenecks, width), nn.LayerNorm(width)
        self.head = linear(width, num_classes)
        nn.init.zeros_(self.head.weight)

    def build_for(self, encoders: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        """Return encoders with a class token and the layers in which each modality is by itself."""
        return {m: StreamEncoder(encoder, m, self.width, self.heads, self.alone) for m, encoder in encoders.items()}

    def encode(
        self,
        encoders: Mapping[str, Any],
        inputs: Mapping[str, Tensor],
        present: Mapping[str, Tensor] = ALL_PRESENT,
        drop: Collection[str] = (),
    ) -> dict[str, Tensor]:
        """Run the streams and their exchange: inputs (B, ...) -> class tokens (B, D)."""
        streams = {m: encoder.tokens(inputs[m]) for m, encoder in encoders.items()}
        first = next(iter(streams.values()))
        dropped = {m: torch.zeros(len(first), dtype=torch.bool, device=first.device) for m in drop}
        weight = presence_weights(self.dims, {**present, **dropped}, first)
        bottleneck = self.bottleneck.expand(len(first), -1, -1)
        for blocks in self.layers:
            streams, bottleneck = exchange(streams, bottleneck, blocks, weight)  # type: ignore[arg-type]
        return {m: self.norm(stream[:, 0]) for m, stream in streams.items()}

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Compute z (B, C) from features (B, D)."""
        unimodal = torch.stack(list(self.unimodal_logits(features).values()))
        return weighted_mean(unimodal, presence_weights(self.dims, present, unimodal[0]))

    def unimodal_logits(self, features: Mapping[str, Tensor], *, detach: bool = False) -> dict[str, Tensor]:
        """Compute u_m (B, C) for each modality in ``features``."""
        return detach_if(detach, {m: self.head(f) for m, f in features.items()})


def exchange(
    streams: Mapping[str, Tensor],
    bottleneck: Tensor,
    blocks: Mapping[str, Callable[[Tensor], Tensor]],
    weight: Tensor,
) -> tuple[dict[str, Tensor], Tensor]:
    """Apply one layer in which streams exchange signals through the bottleneck.

    Args:
        streams: Modality -> tokens (B, n_m, D).
        bottleneck: (B, k, D), which every stream reads.
        blocks: Modality -> its block, (B, n_m + k, D) -> (B, n_m + k, D).
        weight: (M, B), 1 where a sample has the modality, else 0.

    Returns:
        The new streams, and the mean over the modalities that a sample has of their new bottleneck tokens (B, k, D).
    """
    new_streams, new_bottlenecks = {}, []
    for m, stream in streams.items():
        both = blocks[m](torch.cat([stream, bottleneck], dim=1))
        new_streams[m], tokens = torch.split(both, [stream.shape[1], bottleneck.shape[1]], dim=1)
        new_bottlenecks.append(tokens)
    share = weight / weight.sum(0)
    return new_streams, (share[..., None, None].to(bottleneck.dtype) * torch.stack(new_bottlenecks)).sum(0)
