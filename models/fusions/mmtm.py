"""MMTM: at several depths, what all encoders see decides which channels of each are let through."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from models.encoder import Level, refold, unfold
from models.fusion import ALL_THERE, Fusion, full, linear
from models.fusions.late import Late


class Gate(nn.Module):
    """Joint vector (B, joint) -> gate (B, width), in float32 at least. A module, so that it can be watched or held."""

    def __init__(self, joint: int, width: int, scale: float) -> None:
        super().__init__()
        self.layer, self.scale = linear(joint, width), scale

    def forward(self, joint: Tensor) -> Tensor:
        return self.scale * torch.sigmoid(full(self.layer(joint)))


class MMTM(nn.Module):
    """The unit (Vaezi Joze et al., CVPR 2020; spec fusion.md, section 6), for maps with any number of positions.

    S_m = mean of maps[m] over all positions, e = relu(Q [S_1; ...; S_M] + q), gate_m = scale * sigmoid(E_m e + e_m).
    """

    def __init__(self, widths: Mapping[str, int], joint: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.squeeze = linear(sum(widths.values()), joint)
        self.gates = nn.ModuleDict({m: Gate(joint, width, scale) for m, width in widths.items()})

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """modality -> maps[m] (B, C_m, ...) times its gate, which is the same at every position."""
        squeezed = torch.cat([maps[m].flatten(2).mean(2) for m in self.gates], dim=1)
        joint = torch.relu(self.squeeze(squeezed))
        opened = {m: gate(joint).to(maps[m].dtype) for m, gate in self.gates.items()}
        return {m: maps[m] * g.view(*g.shape, *[1] * (maps[m].ndim - 2)) for m, g in opened.items()}


class MMTMLate(Fusion):
    """MMTM units after the last ``sites`` stages of the encoders (all they have, if fewer), late fusion at the end.

    Of a clip the unit sees all frames, and gates them alike. The width of its joint vector is floor(2 sum C_m / ratio).
    ``gate="paper"``: 2 * sigmoid and a quarter of sum C_m, as the paper has it; the default is the released code's.
    Encoders start untrained (the authors start from unimodal checkpoints). An absent or dropped modality sends zero
    maps at every site. Features depend on all modalities, so the fusion is not additive; each modality is read by its
    part of the head. Released faults not copied: initialisation that only prints, running means that are not saved.
    """

    source = "Vaezi Joze et al., CVPR 2020"
    needs = "maps"
    own_logits = True
    classifier: ClassVar[type[Fusion]] = Late

    def __init__(
        self,
        dims: Mapping[str, int],
        num_classes: int,
        *,
        sites: int = 3,
        ratio: int = 4,
        gate: Literal["sigmoid", "paper"] = "sigmoid",
    ) -> None:
        super().__init__(dims, num_classes)
        if sites < 1 or ratio < 1:
            raise ValueError(f"sites={sites}, ratio={ratio}: must be 1 or more")
        self.sites, self.ratio, self.gate = sites, ratio, gate
        self.units = nn.ModuleList()
        self.head: Fusion = self.classifier(dims, num_classes)

    def meet(self, encoders: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        for site in zip(*last_widths(encoders, self.sites).values(), strict=True):
            widths = dict(zip(encoders, site, strict=True))
            joint = sum(site) // 4 if self.gate == "paper" else 2 * sum(site) // self.ratio
            self.units.append(MMTM(widths, joint, scale=2.0 if self.gate == "paper" else 1.0))
        return encoders

    def encode(
        self,
        encoders: Mapping[str, Any],
        inputs: Mapping[str, Tensor],
        present: Mapping[str, Tensor] = ALL_THERE,
        drop: Collection[str] = (),
    ) -> dict[str, Tensor]:
        folded = {m: encoder.fold(inputs[m]) for m, encoder in encoders.items()}
        maps, frames = ({m: pair[i] for m, pair in folded.items()} for i in (0, 1))
        ways = {m: legs(encoder.levels(), len(self.units)) for m, encoder in encoders.items()}
        for number, unit in enumerate(self.units):
            for m, way in ways.items():
                for level in way[number]:
                    maps[m] = level(maps[m])
                maps[m] = unfold(maps[m], frames[m])
                if m in drop:
                    maps[m] = torch.zeros_like(maps[m])
                elif m in present:
                    maps[m] = maps[m] * present[m].view(-1, *[1] * (maps[m].ndim - 1)).to(maps[m].dtype)
            maps = {m: refold(x, frames[m]) for m, x in unit(maps).items()}
        return {m: encoder.pool(maps[m], frames[m]) for m, encoder in encoders.items()}

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        return self.head.fuse(features, present)

    def unimodal_logits(self, features: Mapping[str, Tensor], *, detach: bool = False) -> dict[str, Tensor]:
        return self.head.unimodal_logits(features, detach=detach)


def last_widths(encoders: Mapping[str, Any], sites: int) -> dict[str, tuple[int, ...]]:
    """modality -> channels of its encoder's last stages: ``sites`` of them, or as many as every encoder has.

    Raises ValueError for an encoder that does not show its stages.
    """
    widths = {m: tuple(getattr(encoder, "widths", ())) for m, encoder in encoders.items()}
    for m, found in widths.items():
        if not found:
            raise ValueError(
                f"it needs the maps of encoders' stages, which {type(encoders[m]).__name__} ({m}) does not show: "
                "use one that does, such as cnn or resnet18"
            )
    count = min(sites, *map(len, widths.values()))
    return {m: found[-count:] for m, found in widths.items()}


def legs(levels: Sequence[Level], sites: int) -> list[list[Level]]:
    """The stages between one site and the next; the last site comes after the last stage."""
    first = len(levels) - sites + 1
    return [list(levels[:first]), *([level] for level in levels[first:])]
