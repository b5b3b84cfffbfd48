"""One encoder per modality, one fusion."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn

from models.fusion import ALL_PRESENT, Fusion
from ogm.types import Batch, Output

__all__ = ["MultimodalModel", "channels_last", "compile_encoders"]


class MultimodalModel(nn.Module):
    """Encoders by modality, in configured order, and the fusion of their features.

    Args:
        encoders: Modality -> encoder. The fusion may keep them inside larger ones.
        fusion: The fusion, made for these modalities.

    Attributes:
        encode_hooks: Called with the features that ``encode`` returns. Hooks of encoders are not called by fusions that
            go through encoders stage by stage.

    Raises:
        ValueError: If an encoder cannot feed the fusion.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], fusion: Fusion) -> None:
        super().__init__()
        self.encoders, self.fusion = nn.ModuleDict(fusion.build_for(encoders)), fusion
        self.encode_hooks: list[Callable[[dict[str, Tensor]], object]] = []

    def encode(
        self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] = ALL_PRESENT, drop: Collection[str] = ()
    ) -> dict[str, Tensor]:
        """Encode every modality. Where encoders exchange signals, an absent or dropped modality sends none.

        Args:
            inputs: Modality -> images (B, C, H, W), frames (B, C, T, H, W) or sequences (B, T, F).
            present: Modality -> (B,) bool, whether each sample has it. A modality without an entry is always there.
            drop: Modalities that count as absent in every sample.

        Returns:
            Modality -> feature (B, D_m).
        """
        features = self.fusion.encode(dict(self.encoders.items()), inputs, present, drop)
        for hook in self.encode_hooks:
            hook(features)
        return features

    def fuse(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] = ALL_PRESENT, drop: Collection[str] = ()
    ) -> Output:
        """Compute the fused and the unimodal logits of features.

        Args:
            features: Modality -> (B, D_m). The feature of an absent modality counts as zero.
            present: Modality -> (B,) bool, whether each sample has it. A modality without an entry is always there.
            drop: Modalities to leave out of the fused logits; the unimodal logits are of the same features anyway.

        Returns:
            The logits, unimodal logits and auxiliary logits, (B, C) each, and the features.
        """
        features = {m: f * present[m][:, None].to(f.dtype) if m in present else f for m, f in features.items()}
        return Output(
            self.fusion(features, present, drop),
            self.fusion.unimodal_logits(features),
            dict(features),
            self.fusion.aux_logits(features),
        )

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] = ALL_PRESENT) -> Output:
        """Encode inputs and fuse their features; see ``encode`` and ``fuse``."""
        return self.fuse(self.encode(inputs, present), present)


def channels_last(model: MultimodalModel) -> None:
    """Lay the encoders' kernels (D, C, h, w) out with channels last, with which convolutions on CUDA are fastest.

    The layout spreads from the kernels to the maps. Numbers change in their last bits.

    Args:
        model: The model, changed in place.
    """
    for p in model.encoders.parameters():
        if p.ndim == 4:
            p.data = p.data.contiguous(memory_format=torch.channels_last)


def compile_encoders(model: MultimodalModel, batch: Batch) -> str | None:
    """Compile every encoder in place, or none of them. Names of parameters stay as they are.

    It is tried first, forward and backward, on copies; a failure changes nothing of the model.

    Args:
        model: The model.
        batch: Samples to try it on.

    Returns:
        None, or the reason why nothing was compiled, in one line.
    """
    if type(model.fusion).encode is not Fusion.encode:
        return f"{type(model.fusion).__name__} goes through encoders stage by stage, not through what would be compiled"
    for m, encoder in model.encoders.items():
        trial = copy.deepcopy(encoder)
        trial.compile(dynamic=False)
        try:
            trial(batch.inputs[m]).sum().backward()
        except RuntimeError as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            return f"{m}: {type(error).__name__}: {lines[0] if lines else 'it does not say why'}"
    for encoder in model.encoders.values():
        encoder.compile(dynamic=False)
    return None
