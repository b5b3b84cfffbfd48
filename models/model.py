"""One encoder per modality, one fusion."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from models.fusion import ALL_THERE, Fusion
from ogm.types import Batch, Output


class MultimodalModel(nn.Module):
    """Encoders by modality, in configured order, and the fusion of what they emit.

    The fusion meets the encoders here; it may keep them inside larger ones. ValueError if one cannot feed it.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], fusion: Fusion) -> None:
        super().__init__()
        self.encoders, self.fusion = nn.ModuleDict(fusion.meet(encoders)), fusion

    def encode(
        self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] = ALL_THERE, drop: Collection[str] = ()
    ) -> dict[str, Tensor]:
        """modality -> feature (B, D_m), from inputs[m] (B, C, F, T), (B, C, H, W) or frames (B, C, T, H, W).

        Where encoders exchange signals on their way, an absent or dropped modality sends none.
        """
        return self.fusion.encode(self.encoders, inputs, present, drop)

    def fuse(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] = ALL_THERE, drop: Collection[str] = ()
    ) -> Output:
        """What the fusion says about features, and what each modality says alone. An absent modality's feature is zero.

        With ``drop`` the unimodal logits are of the same features: dropping concerns the fused prediction.
        """
        features = {m: f * present[m][:, None].to(f.dtype) if m in present else f for m, f in features.items()}
        return Output(
            self.fusion(features, present, drop),
            self.fusion.unimodal_logits(features),
            dict(features),
            self.fusion.aux_logits(features),
        )

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] = ALL_THERE) -> Output:
        return self.fuse(self.encode(inputs, present), present)


def channels_last(model: MultimodalModel) -> None:
    """Lay the encoders' kernels (D, C, h, w) out with channels last, which convolutions on CUDA are fastest with.

    The layout spreads from the kernels to the maps. Numbers change in their last bits.
    """
    for p in model.encoders.parameters():
        if p.ndim == 4:
            p.data = p.data.contiguous(memory_format=torch.channels_last)


def compile_encoders(model: MultimodalModel, batch: Batch) -> str | None:
    """Compile every encoder in place, or none; in which case: why, in a line. Names of parameters stay as they are.

    Tried first, forward and backward, on copies and on ``batch``: nothing of the model changes.
    """
    if type(model.fusion).encode is not Fusion.encode:
        return f"{type(model.fusion).__name__} goes through encoders stage by stage, not through what would be compiled"
    for m, encoder in model.encoders.items():
        trial = copy.deepcopy(encoder)
        trial.compile(dynamic=False)
        try:
            trial(batch.inputs[m]).sum().backward()
        except RuntimeError as error:
            said = [line for line in str(error).splitlines() if line.strip()]
            return f"{m}: {type(error).__name__}: {said[0] if said else 'it does not say why'}"
    for encoder in model.encoders.values():
        encoder.compile(dynamic=False)
    return None
