"""Linear heads, what each modality contributes to the fused logits, and small networks on top of an encoder."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ogm.losses import full, gather
from ogm.types import Output

EMBEDDING_WIDTH = 128  # of the embeddings that a ``Projector`` makes


# ---- linear layers
def xavier_linear(inputs: int, outputs: int) -> nn.Linear:
    """Make a linear layer with Xavier normal weights and a zero bias, like the linear layers of the suite's models.

    Args:
        inputs: Width of the input.
        outputs: Width of the output.

    Returns:
        The layer, (..., inputs) -> (..., outputs).
    """
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def width_adapters(dims: Mapping[str, int]) -> tuple[nn.ModuleDict, int]:
    """Make linear layers that bring the features of all modalities to the largest width.

    Args:
        dims: Modality -> feature width D_m.

    Returns:
        Modality -> layer (identity where the width is the largest already), and the largest width.
    """
    width = max(dims.values())
    return nn.ModuleDict({m: nn.Identity() if d == width else xavier_linear(d, width) for m, d in dims.items()}), width


# ---- a linear head over concatenated features
def split_linear(
    head: nn.Linear, features: Mapping[str, Tensor], *, dims: Mapping[str, int] | None = None
) -> dict[str, Tensor]:
    """Split the logits of ``head(torch.cat(list(features.values()), 1))`` into one part per modality.

    With W_m the columns of the weight that multiply the feature h_m of modality m, and M modalities, the unimodal
    logits are u_m = h_m W_m^T + b / M. They add up to the fused logits.

    Args:
        head: The linear layer, D -> C, where D is the sum of all D_m.
        features: Modality -> (B, D_m), in the order in which they are concatenated.
        dims: Modality -> D_m of every modality in that order. Needed only where ``features`` holds some of them.

    Returns:
        Modality -> (B, C), for each modality in ``features``.

    Raises:
        ValueError: If the head is no linear layer, or not as wide as all features together.
    """
    if not isinstance(head, nn.Linear):
        raise ValueError(
            f"split_linear splits one torch.nn.Linear over all features, got {type(head).__name__}: of any other head, "
            "give as a modality's logits its output with the features of all other modalities at zero"
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
    """A user's linear head over concatenated features, with the methods that strategies expect of a fusion.

    Args:
        head: The linear layer, D -> C, where D is the sum of all D_m.
        dims: Modality -> feature width D_m, in the order in which the features are concatenated.

    Raises:
        ValueError: If the layer is not as wide as all features together.
    """

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
        """Compute the fused logits, with the features of dropped or absent modalities at zero.

        Args:
            features: Modality -> (B, D_m).
            present: Modality -> (B,) bool, which samples have it. A modality without an entry is always present.
            drop: Modalities that are left out for all samples.

        Returns:
            (B, C) logits.
        """
        visible = []
        for m in self.dims:
            f = torch.zeros_like(features[m]) if m in drop else features[m]
            visible.append(f * present[m][:, None].to(f.dtype) if present and m in present else f)
        logits: Tensor = self.head(torch.cat(visible, dim=1))
        return logits

    def unimodal_logits(self, features: Mapping[str, Tensor], *, detach: bool = False) -> dict[str, Tensor]:
        """Split the fused logits, see ``split_linear``.

        Args:
            features: Modality -> (B, D_m).
            detach: Whether to cut the graph.

        Returns:
            Modality -> (B, C).
        """
        logits = split_linear(self.head, features, dims=self.dims)
        return {m: z.detach() for m, z in logits.items()} if detach else logits


def additive_parts(fusion: Any, unimodal_logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Compute what each modality adds to the fused logits of an additive fusion.

    Args:
        fusion: The additive fusion; None, or a module that does not say so, is taken as one that adds.
        unimodal_logits: Modality -> (B, C), of all M modalities.

    Returns:
        Modality -> (B, C). They add up to the fused logits of a sample that has all modalities: of a fusion that takes
        the mean they are the unimodal logits over M.
    """
    if not getattr(fusion, "is_mean", False):
        return dict(unimodal_logits)
    return {m: z / len(unimodal_logits) for m, z in unimodal_logits.items()}


def add_parts(parts: Mapping[str, Tensor]) -> Tensor:
    """Add up parts of logits.

    Args:
        parts: Modality -> (B, C).

    Returns:
        (B, C) their sum.
    """
    return torch.stack(list(parts.values())).sum(0)


# ---- the last layer of a fusion
def final_layer(fusion: Any) -> Any:
    """Find the module that computes the fused logits.

    Args:
        fusion: The fusion module; None if it is not known.

    Returns:
        Its last layer, or None.
    """
    head: Any = getattr(fusion, "head", None)
    while hasattr(head, "head"):  # a fusion inside a fusion, as MMTM has
        head = head.head
    return head


def unimodal_head_parts(fusion: Any, dims: Mapping[str, int]) -> Iterator[tuple[str, nn.Parameter, slice]]:
    """Find the parts of a fusion's last layer that belong to one modality alone.

    Args:
        fusion: The fusion module; None if it is not known.
        dims: Modality -> feature width D_m, in the order of the fusion.

    Yields:
        (modality, parameter, slice of its last dimension): the columns of the weight for one linear layer over all
        features (concat), whole parameters for one layer per modality (sum, late). Nothing if the fusion does not
        split.
    """
    head = final_layer(fusion)
    if isinstance(head, nn.ModuleDict):
        yield from ((m, p, slice(None)) for m in dims if m in head for p in head[m].parameters())
    elif isinstance(head, nn.Linear) and getattr(fusion, "is_additive", False):
        weight, start = head.weight, 0
        assert isinstance(weight, nn.Parameter)
        for m, width in dims.items():
            yield m, weight, slice(start, start + width)
            start += width


# ---- networks on top of one encoder
class UnimodalModel(nn.Module):
    """One encoder and its linear head: the trained model of a unimodal run.

    Args:
        modality: Name of the modality.
        encoder: Maps the input (B, ...) to a feature (B, D).
        head: Maps the feature (B, D) to logits (B, C).
    """

    def __init__(self, modality: str, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.modality, self.encoder, self.classifier = modality, encoder, head

    def forward(self, x: Tensor) -> Output:
        """Classify a batch.

        Args:
            x: Input of the modality, (B, ...).

        Returns:
            Logits (B, C), also as those of the modality, and its feature (B, D).
        """
        feature = self.encoder(x)
        logits = self.classifier(feature)
        return Output(logits, {self.modality: logits}, {self.modality: feature})


class Projector(nn.Module):
    """Maps features (B, D) to embeddings (B, 128): Linear, batch norm over all ranks, ReLU, Linear.

    Args:
        dim: Feature width D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(dim, dim, bias=False), nn.Linear(dim, EMBEDDING_WIDTH)
        self.scale, self.shift = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, feature: Tensor, valid: Tensor | None = None) -> Tensor:
        """Project features.

        Args:
            feature: (B, D).
            valid: (B,) bool, which rows count in the statistics of the batch norm; None: all.

        Returns:
            (B, 128) embeddings, not normalised.
        """
        x = full(self.first(feature))
        mean, variance = row_moments(*gather_rows(x, valid))
        x = (x - mean) / (variance + 1e-5).sqrt() * self.scale + self.shift
        projected: Tensor = self.last(x.relu())
        return projected


def gather_rows(x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Gather rows from all ranks.

    Args:
        x: (B, D) rows of this rank.
        valid: (B,) bool, which rows count; None: all.

    Returns:
        (N, D) rows of all ranks, and (N,) 1 for those that count, else 0.
    """
    rows, _ = gather(x)
    return rows, torch.ones_like(rows[:, 0]) if valid is None else gather(valid.to(x.dtype))[0]


def row_moments(rows: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and variance of the rows that count.

    Args:
        rows: (N, D).
        weight: (N,) 1 for rows that count, else 0.

    Returns:
        (D,) mean and (D,) biased variance.
    """
    share = (weight / weight.sum().clamp_min(1))[:, None]
    mean = (share * rows).sum(0)
    return mean, (share * (rows - mean).square()).sum(0)
