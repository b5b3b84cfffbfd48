"""A linear head over concatenated features, and what each modality contributes to its logits."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn


def split_linear(
    head: nn.Linear, features: Mapping[str, Tensor], *, dims: Mapping[str, int] | None = None
) -> dict[str, Tensor]:
    """Unimodal logits of ``head(torch.cat(list(features.values()), 1))``: they add up to the fused logits.

    With the columns W_m of the weight that read modality m, and M modalities, u_m = h_m W_m^T + b / M.

    Args:
        head: the linear layer, D -> C, D being the sum of all D_m.
        features: modality -> (B, D_m), in the order in which they are concatenated.
        dims: modality -> D_m of every modality in that order, where ``features`` holds only some of them.

    Returns:
        modality -> (B, C), for each one in ``features``.

    Raises:
        ValueError: the head is no linear layer, or not as wide as all features together.
    """
    if not isinstance(head, nn.Linear):
        raise ValueError(
            f"split_linear splits one torch.nn.Linear over all features, got {type(head).__name__}: of any other head, "
            "give as a modality's logits what it says with the features of all others at zero"
        )
    dims = {m: f.shape[-1] for m, f in features.items()} if dims is None else dims
    if head.in_features != sum(dims.values()):
        raise ValueError(
            f"split_linear: the head reads {head.in_features} numbers, the features have {sum(dims.values())} "
            f"({', '.join(f'{m} {d}' for m, d in dims.items())}): give the features of all modalities, in the order in "
            "which they are concatenated"
        )
    columns = dict(zip(dims, torch.split(head.weight, list(dims.values()), dim=1), strict=True))
    if head.bias is None:
        return {m: f @ columns[m].T for m, f in features.items()}
    share = head.bias / len(dims)
    return {m: f @ columns[m].T + share for m, f in features.items()}


class LinearHead(nn.Module):
    """Somebody else's linear head over concatenated features, as the strategies know a fusion."""

    is_additive = True

    def __init__(self, head: nn.Linear, dims: Mapping[str, int]) -> None:
        super().__init__()
        if head.in_features != sum(dims.values()):
            raise ValueError(
                f"fusion: the linear head reads {head.in_features} numbers, dims= add up to {sum(dims.values())}"
            )
        self.head, self.dims = head, dict(dims)

    def forward(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None, drop: Collection[str] = ()
    ) -> Tensor:
        """(B, C) logits of features (B, D_m), those of dropped or absent modalities at zero."""
        seen = []
        for m in self.dims:
            f = torch.zeros_like(features[m]) if m in drop else features[m]
            seen.append(f * present[m][:, None].to(f.dtype) if present and m in present else f)
        logits: Tensor = self.head(torch.cat(seen, dim=1))
        return logits

    def unimodal_logits(self, features: Mapping[str, Tensor], *, detach: bool = False) -> dict[str, Tensor]:
        own = split_linear(self.head, features, dims=self.dims)
        return {m: z.detach() for m, z in own.items()} if detach else own
