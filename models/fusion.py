"""What every fusion promises: features in, one per modality; class logits out, and what each modality contributes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

__all__ = ["ALL_PRESENT", "Fusion", "choose_modality"]

ALL_PRESENT: Mapping[str, Tensor] = MappingProxyType({})  # no entry: the modality is there in every sample


class Fusion(nn.Module):
    """Combines one feature per modality into class logits.

    A subclass writes ``fuse`` and calls its last linear layer ``head``; the rest is inherited. One in which encoders
    exchange signals (its ``input_kind`` is "maps" or "tokens") also writes ``build_for`` and ``encode``. What a
    strategy does to features then happens after the exchange.

    Args:
        dims: Modality -> width D_m of its feature, in configured order.
        num_classes: Number of classes, C.

    Attributes:
        source: Who published it, and where.
        input_kind: What it needs of the encoders: their features, their maps at several depths, or tokens.
        is_additive: Whether the fused logits are the sum or the mean of the unimodal ones.
        is_mean: Whether an additive fusion takes the mean.
        has_unimodal_heads: Whether the unimodal logits of a modality come from a classifier, or a part of one, that
            reads the feature of this modality alone. Scores of modalities then use them as they are.
        replaces_encoders: Whether the model's encoders are larger ones that this fusion makes of those it is given.
            Runs that only train encoders for a later run are then made with this fusion as well.
        head: The last linear layer, or one per modality.
    """

    source: ClassVar[str] = ""
    input_kind: ClassVar[Literal["features", "maps", "tokens"]] = "features"
    is_additive: ClassVar[bool] = False
    is_mean: ClassVar[bool] = False
    has_unimodal_heads: ClassVar[bool] = False
    replaces_encoders: ClassVar[bool] = False
    head: nn.Module

    def __init__(self, dims: Mapping[str, int], num_classes: int) -> None:
        super().__init__()
        self.dims, self.num_classes = dict(dims), num_classes

    def build_for(self, encoders: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        """Build what depends on the encoders, and return those that the model is to have. The model calls it once.

        Args:
            encoders: Modality -> encoder.

        Returns:
            Modality -> encoder: the same ones, or larger ones around them (an encoder and its tokens, say). Where
            these have another ``dim``, ``self.dims`` follows.

        Raises:
            ValueError: For an encoder that cannot feed this fusion.
        """
        return encoders

    def encode(
        self,
        encoders: Mapping[str, nn.Module],
        inputs: Mapping[str, Tensor],
        present: Mapping[str, Tensor] = ALL_PRESENT,
        drop: Collection[str] = (),
    ) -> dict[str, Tensor]:
        """Encode every modality. What is absent or dropped sends nothing to the other encoders.

        Args:
            encoders: Modality -> encoder, as ``build_for`` returned them.
            inputs: Modality -> (B, ...).
            present: Modality -> (B,) bool, whether each sample has it. A modality without an entry is always there.
            drop: Modalities that count as absent in every sample.

        Returns:
            Modality -> feature (B, D_m).
        """
        return {m: encoder(inputs[m]) for m, encoder in encoders.items()}

    def forward(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] = ALL_PRESENT, drop: Collection[str] = ()
    ) -> Tensor:
        """Fuse features to logits.

        A feature counts as zero in the samples that lack its modality, and in all samples if the modality is in
        ``drop``; biases stay.

        Args:
            features: Modality -> (B, D_m).
            present: Modality -> (B,) bool, whether each sample has it. A modality without an entry is always there.
            drop: Modalities to leave out.

        Returns:
            (B, C) logits.
        """
        kept = {m: torch.zeros_like(features[m]) if m in drop else features[m] for m in self.dims}
        return self.fuse(
            {m: f * present[m][:, None].to(f.dtype) if m in present else f for m, f in kept.items()}, present
        )

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Compute the fused logits; a subclass writes it.

        Args:
            features: Modality -> (B, D_m), for every modality in configured order; zero where one is absent.
            present: Modality -> (B,) bool, whether each sample has it. A modality without an entry is always there.

        Returns:
            (B, C) logits.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it fuses")

    def unimodal_logits(self, features: Mapping[str, Tensor], *, detach: bool = False) -> dict[str, Tensor]:
        """Compute the logits of each modality alone.

        Here: the fused logits with the features of all other modalities at zero. A fusion that is additive, or has
        classifiers of single modalities, overrides this.

        Args:
            features: Modality -> (B, D_m); modalities may be left out.
            detach: Whether to cut the graph to the features.

        Returns:
            Modality -> (B, C), for each modality in ``features``.
        """
        if detach:
            features = {m: f.detach() for m, f in features.items()}
        return {
            m: self.fuse({k: f if k == m else f.new_zeros(len(f), d) for k, d in self.dims.items()}, ALL_PRESENT)
            for m, f in features.items()
        }

    def aux_logits(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute further predictions that this architecture is trained on.

        Args:
            features: Modality -> (B, D_m).

        Returns:
            Modality -> (B, C); empty where there are none.
        """
        return {}

    def undecayed(self) -> list[nn.Parameter]:
        """Return the parameters that get no weight decay."""
        return []

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the final classifier."""
        return list(self.head.parameters())

    def fusion_parameters(self) -> list[nn.Parameter]:
        """Return all parameters but those of the final classifier."""
        head = set(map(id, self.head_parameters()))
        return [p for p in self.parameters() if id(p) not in head]


def choose_modality(modality: str | None, dims: Mapping[str, int], option: str) -> str:
    """Return the modality that has the special role in a one-way fusion.

    Args:
        modality: The one that the configuration names; None for the last of ``dims``.
        dims: The modalities, in configured order.
        option: Name of the option, for the error message.

    Returns:
        The modality.

    Raises:
        ValueError: If there is no such modality.
    """
    chosen = list(dims)[-1] if modality is None else modality
    if chosen not in dims:
        raise ValueError(f"{option}={modality!r}: there are {', '.join(dims)}")
    return chosen
