"""CentralNet: a central network beside the encoders gathers what they see at several depths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.encoder import last_widths, split_levels, unfold
from models.fusion import Fusion
from models.layers import detach_if, linear


class MultiDepthEncoder(nn.Module):
    """An encoder whose feature is the pooled maps of its last stages side by side, the deepest last.

    Args:
        encoder: An encoder that shows its levels.
        widths: Channels after each of the stages.
    """

    def __init__(self, encoder: Any, widths: Sequence[int]) -> None:
        super().__init__()
        self.encoder, self.sites, self.dim = encoder, len(widths), sum(widths)

    def forward(self, x: Tensor) -> Tensor:
        """Encode an input (B, ...) as a feature (B, dim)."""
        maps, frames = self.encoder.fold(x)
        *early, last = split_levels(self.encoder.levels(), self.sites)
        pooled = []
        for levels in early:
            for level in levels:
                maps = level(maps)
            pooled.append(unfold(maps, frames).flatten(2).mean(2))
        for level in last:
            maps = level(maps)
        return torch.cat([*pooled, self.encoder.pool(maps, frames)], dim=1)


class CentralLayer(nn.Module):
    """One layer of the central network: a weighted sum of its inputs, then a linear layer and relu.

    Args:
        widths: Modality -> width of its pooled maps at this depth.
        central: Whether there is a central input; the first layer has none.
        outputs: Width of the output.
    """

    def __init__(self, widths: Mapping[str, int], central: bool, outputs: int) -> None:
        super().__init__()
        width, inputs = max(widths.values()), len(widths) + central
        # No bias: an absent modality's feature is zero, and so must its term be.
        self.projections = nn.ModuleDict({m: linear(w, width, bias=False) for m, w in widths.items()})
        self.alphas = nn.Parameter(torch.full((len(widths),), 1 / inputs))
        self.alpha_central = nn.Parameter(torch.tensor(1 / inputs)) if central else None
        self.layer = linear(width, outputs)

    def forward(self, central: Tensor | None, pooled: Mapping[str, Tensor]) -> Tensor:
        """Compute the next central features.

        Args:
            central: (B, D), the output of the layer before; None in the first layer.
            pooled: Modality -> (B, D_m), its pooled maps at this depth.

        Returns:
            (B, outputs).
        """
        projected = [project(pooled[m]) for m, project in self.projections.items()]
        return torch.relu(self.layer(weighted_sum(central, projected, self.alpha_central, self.alphas)))


def weighted_sum(
    central: Tensor | None, modalities: Sequence[Tensor], alpha_central: Tensor | None, alphas: Tensor
) -> Tensor:
    """Compute alpha_c c + sum_m alpha_m h_m.

    Args:
        central: c (B, D); None in the first layer.
        modalities: h_m (B, D), in configured order.
        alpha_central: alpha_c (); given if ``central`` is.
        alphas: (M,).

    Returns:
        (B, D).
    """
    x = torch.stack([alpha * h for alpha, h in zip(alphas, modalities, strict=True)]).sum(0)
    return x if central is None or alpha_central is None else x + alpha_central * central


class CentralNet(Fusion):
    """A central network beside the encoders, which takes their pooled maps at several depths.

    x^l = alpha_c^l c^l + sum_m alpha_m^l P_m^l pool(F_m^l), c^{l+1} = relu(W^l x^l + b^l) and z = W c^{L+1} + b, with
    learned scalars alpha, which start at 1 / (number of inputs) and get no weight decay, and learned projections P to
    the widest encoder's width. One head per modality on its encoder's own feature gives the unimodal logits, whose
    cross-entropies are added to that of z in training.

    A modality's feature is the pooled maps of all sites side by side. So z is a function of the features, and a
    dropped or absent modality adds nothing to it.

    Args:
        dims: Modality -> width D_m of its encoder's feature, in configured order.
        num_classes: Number of classes, C.
        sites: How many of the encoders' last stages are used; all that every encoder has, if some has fewer.

    Raises:
        ValueError: For ``sites`` below 1.

    Differences:
        - MFAS re-implementation: zero-pads to the larger width, and draws alphas from [0, 1). Ours: a learned
          projection, and 1 / (number of inputs).
        - MFAS re-implementation: with equal widths the second modality is multiplied by the first one's alpha, and its
          own is never trained. Ours: each has its own.
        - The authors' code was not read.

    References:
        - Vielzeuf et al., "CentralNet: a Multilayer Approach for Multimodal Fusion", ECCV Workshops 2018; read in the
          re-implementation that belongs to MFAS (Perez-Rua et al., CVPR 2019).
    """

    source = "Vielzeuf et al., 2018"
    input_kind = "maps"
    has_unimodal_heads = True
    replaces_encoders = True
    head: nn.Linear

    def __init__(self, dims: Mapping[str, int], num_classes: int, *, sites: int = 3) -> None:
        super().__init__(dims, num_classes)
        if sites < 1:
            raise ValueError(f"sites={sites}: must be 1 or more")
        self.sites = sites
        self._build({m: (d,) for m, d in self.dims.items()})

    def _build(self, widths: Mapping[str, tuple[int, ...]]) -> None:
        """Make the central network for these widths per modality and site."""
        self.widths, self.dims = dict(widths), {m: sum(w) for m, w in widths.items()}
        sites = [dict(zip(widths, site, strict=True)) for site in zip(*widths.values(), strict=True)]
        outputs = [max(site.values()) for site in (*sites[1:], sites[-1])]
        self.stages = nn.ModuleList(
            CentralLayer(site, number > 0, width)
            for number, (site, width) in enumerate(zip(sites, outputs, strict=True))
        )
        self.unimodal_heads = nn.ModuleDict({m: linear(w[-1], self.num_classes) for m, w in widths.items()})
        self.head = linear(outputs[-1], self.num_classes)

    def build_for(self, encoders: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        """Make the central network for these encoders, and encoders that return all of their pooled maps."""
        widths = last_widths(encoders, self.sites)
        self._build(widths)
        return {m: MultiDepthEncoder(encoder, widths[m]) for m, encoder in encoders.items()}

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Compute z (B, C) from features (B, D_m)."""
        pooled = {m: torch.split(f, list(self.widths[m]), dim=1) for m, f in features.items()}
        central = None
        for number, stage in enumerate(self.stages):
            central = stage(central, {m: site[number] for m, site in pooled.items()})
        logits: Tensor = self.head(central)
        return logits

    def unimodal_logits(self, features: Mapping[str, Tensor], *, detach: bool = False) -> dict[str, Tensor]:
        """Compute the logits (B, C) of the head of each modality in ``features``, on its deepest maps."""
        logits = {m: self.unimodal_heads[m](f[:, -self.widths[m][-1] :]) for m, f in features.items()}
        return detach_if(detach, logits)

    def aux_logits(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the logits (B, C) of every head, on which the architecture is trained as well."""
        return self.unimodal_logits(features)

    def undecayed(self) -> list[nn.Parameter]:
        """Return the alphas."""
        stages = [cast(CentralLayer, stage) for stage in self.stages]
        return [p for stage in stages for p in (stage.alphas, stage.alpha_central) if p is not None]
