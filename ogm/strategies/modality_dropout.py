"""Modality dropout: drop modalities of each sample at random, but never all of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ogm.context import Context
from ogm.strategy import Strategy
from ogm.types import Batch


class ModalityDropout(Strategy):
    """Drop the feature of each modality in each sample with a fixed probability, but never all of them.

    In each step, for every sample:
    1. Drop modality m with probability p_m, independently of the others, given that at least one modality that the
       sample has is kept.
    2. Features of dropped modalities become zero; those of kept ones are not rescaled.
    3. L = CE of the fused logits.

    Every encoder still runs on every sample, and gets no gradient from samples in which it was dropped. Nothing is
    dropped at evaluation.

    Args:
        p: Probability p_m, at least 0 and below 1: one number for all modalities, or a mapping from modality to number
            (0 for a modality it does not name).

    Differences:
        - The methods of this family differ, and none has an official code; this definition is ours.

    References:
        - This suite, after the ModDrop family.
    """

    category = "feature"
    title = "Modality dropout"
    paper = "ModDrop family; this suite's definition"

    def __init__(self, p: float | Mapping[str, float] = 0.3) -> None:
        super().__init__()
        values = p.values() if isinstance(p, Mapping) else [p]
        if any(not 0 <= x < 1 for x in values):
            raise ValueError(f"p={p}: the probability of hiding a modality must be in [0, 1)")
        self.p = dict(p) if isinstance(p, Mapping) else p

    def setup(self) -> None:
        """Check the modalities in ``p``."""
        unknown = self.p.keys() - set(self.modalities) if isinstance(self.p, dict) else ()
        if unknown:
            raise ValueError(f"p: no modality {sorted(unknown)}; there are {list(self.modalities)}")

    def on_features(self, features: dict[str, Tensor], batch: Batch, ctx: Context) -> tuple[dict[str, Tensor], Batch]:
        """Set the features of dropped modalities to zero."""
        rates = [self.p.get(m, 0.0) if isinstance(self.p, dict) else self.p for m in self.modalities]
        present = torch.stack([batch.has_all([m]) for m in self.modalities], 1)
        keep = sample_patterns(ctx.uniform(batch.index, "modality_dropout"), rates, present)
        ctx.log(**{f"kept/{m}": keep[:, i].double().mean() for i, m in enumerate(self.modalities)})
        return {m: features[m] * keep[:, i, None].to(features[m].dtype) for i, m in enumerate(self.modalities)}, batch


def keep_patterns(rates: Sequence[float]) -> tuple[Tensor, Tensor]:
    """All patterns of kept modalities except the empty one.

    Args:
        rates: Drop probability of each of the M modalities.

    Returns:
        (P, M) bool, which modalities each of the P = 2^M - 1 patterns keeps, and its (P,) float64 probability when
        modalities are dropped independently; the sum is below 1, as the empty pattern is missing.
    """
    kept = [pattern for pattern in itertools.product((True, False), repeat=len(rates)) if any(pattern)]
    chance = [[1 - p if k else p for k, p in zip(pattern, rates, strict=True)] for pattern in kept]
    return torch.tensor(kept), torch.tensor(chance, dtype=torch.float64).prod(1)


def sample_patterns(u: Tensor, rates: Sequence[float], present: Tensor) -> Tensor:
    """Choose one pattern per sample among those that keep a modality it has.

    The pattern is found by inverting the cumulative distribution, which has the same result as drawing again until a
    modality is kept.

    Args:
        u: (B,) uniform random numbers in [0, 1).
        rates: Drop probability of each of the M modalities.
        present: (B, M) bool, which samples have which modality.

    Returns:
        (B, M) bool, which modalities are kept.
    """
    kept, chance = (x.to(u.device) for x in keep_patterns(rates))
    possible = (kept[None] & present[:, None]).any(2)  # (B, P)
    edges = (possible * chance).cumsum(1)
    choice = (u[:, None] * edges[:, -1:] >= edges).sum(1).clamp_max(len(kept) - 1)
    return kept[choice]
