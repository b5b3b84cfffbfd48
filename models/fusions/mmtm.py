"""MMTM: at several depths, what all encoders see decides which channels of each are let through."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.encoder import last_widths, refold, split_levels, unfold
from models.fusion import ALL_PRESENT, Fusion
from models.layers import detach_if, full, linear, linear_per_modality, presence_weights, weighted_mean


class Gate(nn.Module):
    """The gate of one modality, scale * sigmoid(E e + b). It is a module so that hooks can watch or hold it.

    Args:
        joint: Width J of the joint vector.
        width: Channels of the modality's maps, C_m.
        scale: What the sigmoid is multiplied by.
    """

    def __init__(self, joint: int, width: int, scale: float) -> None:
        super().__init__()
        self.layer, self.scale = linear(joint, width), scale

    def forward(self, joint: Tensor) -> Tensor:
        """Compute the gate (B, C_m), in float32 or better, from the joint vector (B, J)."""
        return self.scale * torch.sigmoid(full(self.layer(joint)))


class MMTMUnit(nn.Module):
    """One multimodal transfer module, for maps with any number of positions.

    S_m = mean of the maps of m over all positions, e = relu(Q [S_1; ...; S_M] + q), gate_m = scale * sigmoid(E_m e +
    e_m): Vaezi Joze et al., CVPR 2020, for any number of modalities.

    Args:
        widths: Modality -> channels C_m of its maps.
        joint: Width J of the joint vector e.
        scale: What the sigmoid is multiplied by.
    """

    def __init__(self, widths: Mapping[str, int], joint: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.squeeze = linear(sum(widths.values()), joint)
        self.gates = nn.ModuleDict({m: Gate(joint, width, scale) for m, width in widths.items()})

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Multiply the maps by their gates.

        Args:
            maps: Modality -> (B, C_m, ...).

        Returns:
            Modality -> (B, C_m, ...), every channel times its gate, which is the same at every position.
        """
        squeezed = torch.cat([maps[m].flatten(2).mean(2) for m in self.gates], dim=1)
        joint = torch.relu(self.squeeze(squeezed))
        gates = {m: gate(joint).to(maps[m].dtype) for m, gate in self.gates.items()}
        return {m: maps[m] * g.view(*g.shape, *[1] * (maps[m].ndim - 2)) for m, g in gates.items()}


class MMTMLate(Fusion):
    """MMTM units after the last stages of the encoders, and late fusion at the end.

    A unit sees all frames of a clip, and gates them alike. The joint vector is floor(2 sum_m C_m / ratio) wide. An
    absent or dropped modality sends zero maps at every site. Features depend on all modalities, so the fusion is not
    additive; the unimodal logits are u_m = W_m h_m + b_m, and z is their mean over the modalities that a sample has.

    Args:
        dims: Modality -> width D_m of its feature, in configured order.
        num_classes: Number of classes, C.
        sites: After how many of the last stages there is a unit; all that every encoder has, if some has fewer.
        ratio: By how much the joint vector is narrower; see above.
        gate: "sigmoid" as in the released code, or "paper": twice the sigmoid, and a joint vector of a quarter of
            sum_m C_m.

    Raises:
        ValueError: For ``sites`` or ``ratio`` below 1.

    Differences:
        - Paper: the gate is 2 * sigmoid, the joint vector a quarter of sum_m C_m wide (recalled, not read again).
          Released code: a plain sigmoid, and floor(2 sum_m C_m / 4). Ours: the code's, or the paper's by ``gate``.
        - Released code: starts from checkpoints of single modalities. Ours: untrained encoders.
        - Released code: the function that should initialise the linear layers only prints them. Ours: Xavier normal.

    References:
        - Vaezi Joze et al., "MMTM: Multimodal Transfer Module for CNN Fusion", CVPR 2020.
        - haamoon/mmtm@be2b817, mmtm.py, ``MMTM`` and ``MMTNet``, by an author of the paper.
    """

    source = "Vaezi Joze et al., CVPR 2020"
    input_kind = "maps"
    has_unimodal_heads = True

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
        self.head = self.build_head()

    def build_head(self) -> nn.Module:
        """Make the classifier of the final features."""
        return linear_per_modality(self.dims, self.num_classes)

    def build_for(self, encoders: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        """Make one unit per site for the widths of these encoders, which stay as they are."""
        for site in zip(*last_widths(encoders, self.sites).values(), strict=True):
            widths = dict(zip(encoders, site, strict=True))
            joint = sum(site) // 4 if self.gate == "paper" else 2 * sum(site) // self.ratio
            self.units.append(MMTMUnit(widths, joint, scale=2.0 if self.gate == "paper" else 1.0))
        return encoders

    def encode(
        self,
        encoders: Mapping[str, Any],
        inputs: Mapping[str, Tensor],
        present: Mapping[str, Tensor] = ALL_PRESENT,
        drop: Collection[str] = (),
    ) -> dict[str, Tensor]:
        """Run the encoders side by side, with a unit after each site: inputs (B, ...) -> features (B, D_m)."""
        folded = {m: encoder.fold(inputs[m]) for m, encoder in encoders.items()}
        maps, frames = ({m: pair[i] for m, pair in folded.items()} for i in (0, 1))
        levels_by_site = {m: split_levels(encoder.levels(), len(self.units)) for m, encoder in encoders.items()}
        for site, unit in enumerate(self.units):
            for m, sites in levels_by_site.items():
                for level in sites[site]:
                    maps[m] = level(maps[m])
                maps[m] = unfold(maps[m], frames[m])
                if m in drop:
                    maps[m] = torch.zeros_like(maps[m])
                elif m in present:
                    maps[m] = maps[m] * present[m].view(-1, *[1] * (maps[m].ndim - 1)).to(maps[m].dtype)
            maps = {m: refold(x, frames[m]) for m, x in unit(maps).items()}
        return {m: encoder.pool(maps[m], frames[m]) for m, encoder in encoders.items()}

    def fuse(self, features: dict[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Compute z (B, C) from features (B, D_m)."""
        unimodal = torch.stack(list(self.unimodal_logits(features).values()))
        return weighted_mean(unimodal, presence_weights(self.dims, present, unimodal[0]))

    def unimodal_logits(self, features: Mapping[str, Tensor], *, detach: bool = False) -> dict[str, Tensor]:
        """Compute u_m (B, C) for each modality in ``features``."""
        heads: Any = self.head
        return detach_if(detach, {m: heads[m](f) for m, f in features.items()})
