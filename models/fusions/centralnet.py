"""CentralNet: a central network beside the encoders gathers what they see at several depths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.encoder import unfold
from models.fusion import Fusion, linear
from models.fusions.mmtm import last_widths, legs


class Depths(nn.Module):
    """An encoder whose feature is the pooled maps of its last stages, side by side, the deepest last."""

    def __init__(self, encoder: Any, widths: Sequence[int]) -> None:
        super().__init__()
        self.encoder, self.sites, self.dim = encoder, len(widths), sum(widths)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, dim)."""
        maps, frames = self.encoder.fold(x)
        *early, last = legs(self.encoder.levels(), self.sites)
        found = []
        for leg in early:
            for level in leg:
                maps = level(maps)
            found.append(unfold(maps, frames).flatten(2).mean(2))
        for level in last:
            maps = level(maps)
        return torch.cat([*found, self.encoder.pool(maps, frames)], dim=1)


class Stage(nn.Module):
    """One layer of the central network: ``mixed``, then a linear layer and relu."""

    def __init__(self, widths: Mapping[str, int], central: bool, outputs: int) -> None:
        super().__init__()
        width, inputs = max(widths.values()), len(widths) + central
        # No bias: an absent modality's feature is zero, and so must its term be.
        self.projections = nn.ModuleDict({m: linear(w, width, bias=False) for m, w in widths.items()})
        self.alphas = nn.Parameter(torch.full((len(widths),), 1 / inputs))
        self.alpha_central = nn.Parameter(torch.tensor(1 / inputs)) if central else None
        self.layer = linear(width, outputs)

    def forward(self, central: Tensor | None, pooled: Mapping[str, Tensor]) -> Tensor:
        projected = [project(pooled[m]) for m, project in self.projections.items()]
        return torch.relu(self.layer(mixed(central, projected, self.alpha_central, self.alphas)))


def mixed(central: Tensor | None, modalities: Sequence[Tensor], alpha_central: Tensor | None, alphas: Tensor) -> Tensor:
    """x = alpha_c c + sum_m alpha_m h_m, all (B, D); the first layer has no central input."""
    x = torch.stack([alpha * h for alpha, h in zip(alphas, modalities, strict=True)]).sum(0)
    return x if central is None else x + alpha_central * central


class CentralNet(Fusion):
    """Vielzeuf et al., 2018 (spec fusion.md, section 7), at the last ``sites`` stages of the encoders.

    x^l = alpha_c c^l + sum_m alpha_m P_m pool(F_m^l), c^{l+1} = relu(W^l x^l + b^l), z = W c^{L+1} + b, with learned
    alphas (at first 1 / inputs, no weight decay) and learned projections P to the widest encoder's width. Training adds
    the cross-entropy of one head per modality on its encoder's own feature, and these heads are the unimodal logits.
    A modality's feature is the pooled maps of all sites, so that the central path is a function of features, and a
    dropped or absent one adds nothing. In the re-implementation that was read, one of two equally wide modalities never
    trains its alpha; here each has its own.
    """

    source = "Vielzeuf et al., 2018"
    needs = "maps"
    own_logits = True
    wraps = True

    def __init__(self, dims: Mapping[str, int], num_classes: int, *, sites: int = 3) -> None:
        super().__init__(dims, num_classes)
        if sites < 1:
            raise ValueError(f"sites={sites}: must be 1 or more")
        self.sites = sites
        self._build({m: (d,) for m, d in self.dims.items()})

    def _build(self, widths: Mapping[str, tuple[int, ...]]) -> None:
        """The central path for these widths per modality and site."""
        self.widths, self.dims = dict(widths), {m: sum(w) for m, w in widths.items()}
        sites = [dict(zip(widths, site, strict=True)) for site in zip(*widths.values(), strict=True)]
        outputs = [max(site.values()) for site in (*sites[1:], sites[-1])]
        self.stages = nn.ModuleList(
            Stage(site, number > 0, width) for number, (site, width) in enumerate(zip(sites, outputs, strict=True))
        )
        self.own = nn.ModuleDict({m: linear(w[-1], self.num_classes) for m, w in widths.items()})
        self.head = linear(outputs[-1], self.num_classes)

    def meet(self, encoders: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        widths = last_widths(encoders, self.sites)
        self._build(widths)
        return {m: Depths(encoder, widths[m]) for m, encoder in encoders.items()}

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        pooled = {m: f.split(self.widths[m], dim=1) for m, f in features.items()}
        central = None
        for number, stage in enumerate(self.stages):
            central = stage(central, {m: site[number] for m, site in pooled.items()})
        logits: Tensor = self.head(central)
        return logits

    def unimodal_logits(self, features: Mapping[str, Tensor], *, detach: bool = False) -> dict[str, Tensor]:
        said = {m: self.own[m](f[:, -self.own[m].in_features :]) for m, f in features.items()}
        return {m: z.detach() for m, z in said.items()} if detach else said

    def aux_logits(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.unimodal_logits(features)

    def undecayed(self) -> list[nn.Parameter]:
        return [p for stage in self.stages for p in (stage.alphas, stage.alpha_central) if p is not None]
