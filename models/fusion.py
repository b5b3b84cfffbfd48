"""What every fusion promises: features in, one per modality; class logits out, and what each modality contributes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

ALL_THERE: Mapping[str, Tensor] = MappingProxyType({})


class Fusion(nn.Module):
    """A subclass writes ``fuse`` and calls its last linear layer ``head``; the rest is inherited.

    One that lets encoders exchange signals on their way (it ``needs`` maps or tokens) also writes ``meet`` and
    ``encode``. What a strategy does to features then happens after the exchange.
    """

    source: ClassVar[str] = ""  # who, where, when
    needs: ClassVar[Literal["features", "maps", "tokens"]] = "features"  # of the encoders
    is_additive: ClassVar[bool] = False  # is the fused say a sum or mean of the unimodal ones?
    own_logits: ClassVar[bool] = False  # is each modality read by a classifier of its own? Scores then go by that alone
    wraps: ClassVar[bool] = False  # are the encoders parts of larger ones here? Then teachers are made with it, too
    head: nn.Module

    def __init__(self, dims: Mapping[str, int], num_classes: int) -> None:
        super().__init__()
        self.dims, self.num_classes = dict(dims), num_classes

    def meet(self, encoders: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        """Called once, by the model: build what depends on the encoders, and return those that the model is to have.

        What it returns may be larger than what it was given (an encoder and its tokens, say), with another ``dim``:
        then ``self.dims`` follows. Raises ValueError for an encoder that cannot feed this fusion.
        """
        return encoders

    def encode(
        self,
        encoders: Mapping[str, nn.Module],
        inputs: Mapping[str, Tensor],
        present: Mapping[str, Tensor] = ALL_THERE,
        drop: Collection[str] = (),
    ) -> dict[str, Tensor]:
        """modality -> feature (B, D_m) from ``inputs[m]``. What is absent or dropped sends nothing to the others."""
        return {m: encoder(inputs[m]) for m, encoder in encoders.items()}

    def forward(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] = ALL_THERE, drop: Collection[str] = ()
    ) -> Tensor:
        """(B, C) logits from ``features[m]`` (B, D_m).

        A feature counts as zero in samples that lack its modality, and everywhere if its modality is in ``drop``;
        biases stay.
        """
        kept = {m: torch.zeros_like(features[m]) if m in drop else features[m] for m in self.dims}
        return self.fuse(
            {m: f * present[m][:, None].to(f.dtype) if m in present else f for m, f in kept.items()}, present
        )

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """The fusion itself. ``features`` holds every modality, in configured order."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it fuses")

    def unimodal_logits(self, features: Mapping[str, Tensor], *, detach: bool = False) -> dict[str, Tensor]:
        """modality -> (B, C), for each one in ``features``: what it says with every other feature at zero ("solo").

        An additive fusion overrides this with its exact parts. They carry a graph unless ``detach``.
        """
        if detach:
            features = {m: f.detach() for m, f in features.items()}
        return {
            m: self.fuse({k: f if k == m else f.new_zeros(len(f), d) for k, d in self.dims.items()}, ALL_THERE)
            for m, f in features.items()
        }

    def aux_logits(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """modality -> (B, C): further predictions this architecture is trained on."""
        return {}

    def undecayed(self) -> list[nn.Parameter]:
        """Parameters that weight decay is not for."""
        return []

    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters of the final classifier; the rest are ``fusion_parameters``."""
        return list(self.head.parameters())

    def fusion_parameters(self) -> list[nn.Parameter]:
        head = set(map(id, self.head_parameters()))
        return [p for p in self.parameters() if id(p) not in head]


def linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A linear layer as the suite initialises all of them: Xavier normal, zero bias (spec fusion.md, section 0)."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.xavier_normal_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def full(x: Tensor) -> Tensor:
    """In float32 at least: what gates and softmaxes are computed in, whatever autocast has made of their inputs."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def votes(dims: Mapping[str, int], present: Mapping[str, Tensor], like: Tensor) -> Tensor:
    """(M, B) in the type of ``like`` (B, ...): 1 where a sample has the modality. One that has none lets all vote."""
    always = torch.ones(len(like), dtype=torch.bool, device=like.device)
    there = torch.stack([present.get(m, always) for m in dims])
    return (there | ~there.any(0)).to(like.dtype)


def role(modality: str | None, dims: Mapping[str, int], what: str) -> str:
    """The modality that plays a part in a one-way fusion: the one named, or the last; ValueError if it is unknown."""
    chosen = list(dims)[-1] if modality is None else modality
    if chosen not in dims:
        raise ValueError(f"{what}={modality!r}: there are {', '.join(dims)}")
    return chosen
