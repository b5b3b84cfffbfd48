"""Modality dropout: in each sample, hide a modality's feature with some probability, but never all of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ogm.context import Context
from ogm.strategy import Strategy
from ogm.types import Batch


class ModalityDropout(Strategy):
    """The ModDrop family, in this suite's definition (spec methods_loss.md, section 12); no single official code.

    ``p`` is the probability of hiding, one for all modalities or one for each that is named (the others stay).
    Decisions are independent, given that at least one modality that is there is kept; hidden features are zeros, kept
    ones are not rescaled. The encoder still runs on every sample, and gets no gradient from hidden ones.
    """

    category = "feature"
    paper = "ModDrop family; this suite's definition"

    def __init__(self, p: float | Mapping[str, float] = 0.3) -> None:
        super().__init__()
        values = p.values() if isinstance(p, Mapping) else [p]
        if any(not 0 <= x < 1 for x in values):
            raise ValueError(f"p={p}: the probability of hiding a modality must be in [0, 1)")
        self.p = dict(p) if isinstance(p, Mapping) else p

    def setup(self) -> None:
        unknown = self.p.keys() - set(self.modalities) if isinstance(self.p, dict) else ()
        if unknown:
            raise ValueError(f"p: no modality {sorted(unknown)}; there are {list(self.modalities)}")

    def on_features(self, features: dict[str, Tensor], batch: Batch, ctx: Context) -> tuple[dict[str, Tensor], Batch]:
        rates = [self.p.get(m, 0.0) if isinstance(self.p, dict) else self.p for m in self.modalities]
        there = torch.stack([batch.have([m]) for m in self.modalities], 1)
        keep = drawn(ctx.uniform(batch.index, "modality_dropout"), rates, there)
        ctx.log(**{f"kept/{m}": keep[:, i].double().mean() for i, m in enumerate(self.modalities)})
        return {m: features[m] * keep[:, i, None].to(features[m].dtype) for i, m in enumerate(self.modalities)}, batch


def patterns(rates: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Every pattern of kept modalities but the empty one, (P, M) bool, and its chance before conditioning, (P,)."""
    kept = [pattern for pattern in itertools.product((True, False), repeat=len(rates)) if any(pattern)]
    chance = [[1 - p if k else p for k, p in zip(pattern, rates, strict=True)] for pattern in kept]
    return torch.tensor(kept), torch.tensor(chance, dtype=torch.float64).prod(1)


def drawn(u: Tensor, rates: Sequence[float], there: Tensor) -> Tensor:
    """(B, M) bool: one pattern per sample, chosen by u (B,) in [0, 1) among those that keep something that is there.

    Inverting the cumulative distribution is exactly "draw again until something is kept", without drawing again.
    """
    kept, chance = (x.to(u.device) for x in patterns(rates))
    possible = (kept[None] & there[:, None]).any(2)  # (B, P)
    edges = (possible * chance).cumsum(1)
    choice = (u[:, None] * edges[:, -1:] >= edges).sum(1).clamp_max(len(kept) - 1)
    return kept[choice]
