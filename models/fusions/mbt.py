"""The bottleneck transformer: one stream per modality; they exchange signals through a few tokens only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.attention import Block, Tokens, embedding
from models.fusion import ALL_THERE, Fusion, linear, votes
from models.fusions.late import average


class Stream(Tokens):
    """A class token before the modality's own, and the layers in which it is by itself; alone, it emits that token."""

    def __init__(self, encoder: Any, modality: str, width: int, heads: int, layers: int) -> None:
        super().__init__(encoder, modality, width)
        self.token = embedding(width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))

    def tokens(self, x: Tensor) -> Tensor:
        seen = super().tokens(x)
        stream = torch.cat([self.token.expand(len(seen), 1, -1), seen], dim=1)
        for block in self.blocks:
            stream = block(stream)
        return stream

    def forward(self, x: Tensor) -> Tensor:
        return self.tokens(x)[:, 0]


class MBT(Fusion):
    """Nagrani et al., NeurIPS 2021 (spec fusion.md, section 9), on the maps of convolutional encoders.

    Of ``layers`` pre-norm layers the first ``alone`` keep streams apart; in the others each stream also attends to the
    ``bottlenecks`` tokens, whose new value is the mean over streams. The streams' class tokens, after LayerNorm, are
    the features; one linear classifier, shared, starting at zero, says l_m of each, and z = mean_m l_m, the
    cross-entropy of which is trained (the released "token" mode trains the mean of per-modality losses instead).
    Absent modalities are skipped in both means. At first all unimodal logits are equal: every ratio is 1.
    """

    source = "Nagrani et al., NeurIPS 2021"
    needs = "tokens"
    own_logits = True
    wraps = True

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
            nn.ModuleDict({m: Block(width, heads) for m in dims}) for _ in range(layers - alone)
        )
        self.bottleneck, self.norm = embedding(bottlenecks, width), nn.LayerNorm(width)
        self.head = linear(width, num_classes)
        nn.init.zeros_(self.head.weight)

    def meet(self, encoders: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        return {m: Stream(encoder, m, self.width, self.heads, self.alone) for m, encoder in encoders.items()}

    def encode(
        self,
        encoders: Mapping[str, Any],
        inputs: Mapping[str, Tensor],
        present: Mapping[str, Tensor] = ALL_THERE,
        drop: Collection[str] = (),
    ) -> dict[str, Tensor]:
        streams = {m: encoder.tokens(inputs[m]) for m, encoder in encoders.items()}
        some = next(iter(streams.values()))
        gone = {m: torch.zeros(len(some), dtype=torch.bool, device=some.device) for m in drop}
        weight = votes(self.dims, {**present, **gone}, some)
        shared = self.bottleneck.expand(len(some), -1, -1)
        for blocks in self.layers:
            streams, shared = exchange(streams, shared, blocks, weight)  # type: ignore[arg-type]
        return {m: self.norm(stream[:, 0]) for m, stream in streams.items()}

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        said = torch.stack(list(self.unimodal_logits(features).values()))
        return average(said, votes(self.dims, present, said[0]))

    def unimodal_logits(self, features: Mapping[str, Tensor], *, detach: bool = False) -> dict[str, Tensor]:
        said = {m: self.head(f) for m, f in features.items()}
        return {m: z.detach() for m, z in said.items()} if detach else said


def exchange(
    streams: Mapping[str, Tensor],
    bottleneck: Tensor,
    blocks: Mapping[str, Callable[[Tensor], Tensor]],
    weight: Tensor,
) -> tuple[dict[str, Tensor], Tensor]:
    """One layer: each stream (B, n_m, D) and the same bottleneck (B, nb, D) through its block, then taken apart again.

    Returned are the streams and the mean of what they made of the bottleneck, over modalities by ``weight`` (M, B).
    """
    out, shared = {}, []
    for m, stream in streams.items():
        both = blocks[m](torch.cat([stream, bottleneck], dim=1))
        out[m], said = both.split([stream.shape[1], bottleneck.shape[1]], dim=1)
        shared.append(said)
    votes = weight / weight.sum(0)
    return out, (votes[..., None, None].to(bottleneck.dtype) * torch.stack(shared)).sum(0)
