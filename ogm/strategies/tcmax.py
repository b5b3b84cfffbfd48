"""Total correlation maximization (TCMax): classify pairs of a combination of modalities and a class."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ogm.checks import check_complete
from ogm.context import Context
from ogm.losses import full
from ogm.parts.global_batch import global_order
from ogm.parts.heads import add_parts, additive_parts
from ogm.strategy import Strategy
from ogm.types import Batch, Output

MOST_SAMPLES = 64  # of which all pairs go through a fusion that is not additive; of more, or of triples,
DRAWN = 1024  # so many combinations are drawn, as the paper does for CREMA-D


class TCMax(Strategy):
    """Let the softmax run over every combination of the batch's features, across samples, and every class.

    This maximises a lower bound of the total correlation of the features and the label. With the fused logits z (B, C)
    and, for an additive fusion, parts u_m (B, C) with z = sum_m u_m:
    1. A_m[c] = logsumexp over samples j of u_m[j, c].
    2. L = -mean_i z[i, y_i] + logsumexp over c of sum_m A_m[c] - log B. This is exact: B^M combinations at the cost of
       M B.
    3. Any other fusion, or ``pairs``: the fusion is evaluated on combinations k, z_k (K, C). All B^2 of them, if M = 2
       and the global batch has at most 64 samples: L = -mean_i z[i, y_i] + logsumexp over k and c of z_k[c] - log B.
       Otherwise K random ones: L = -mean_i z[i, y_i] + log mean over k and c of e^(z_k[c]) + log B + log C.

    The batch is the global batch, and its size is a hyper-parameter: with B = 1 L is the cross-entropy. L is 0 or more
    in steps 2 and 3's first case. Prediction: argmax z; a number added to all logits of a sample changes L, so that
    logits compare across samples. A_m and combinations are formed of the samples that have the modality, the first term
    of those that have all. It costs one pass through the encoders; a fusion that is not additive is evaluated on K more
    rows. A checkpoint holds nothing beyond the model.

    Args:
        pairs: Number K of random combinations, 1 or more. None: all of them where that is possible, see above, or else
            1024. Published: all of them; 1024 for CREMA-D and 256 for UCF101 in an ablation.

    Differences:
        - Paper and README: the bound has -log(B^2 C) where the released code has -log B. Ours: as the code. No gradient
          differs.
        - Released code: exponentials of logits minus their mean, which overflow from some hundreds on (measured). Ours:
          log-sum-exp.
        - Released code: two modalities on one process. Ours: any number, and the batch of all ranks.
        - Missing modalities: not in the paper. Ours: as above.

    References:
        - Paper: Yu et al., "Multimodal Classification via Total Correlation Maximization", ICLR 2026, arXiv 2602.13015,
          read in notes of others.
        - Code: hubaak/TCMax at a950d9b.
    """

    category = "loss"
    title = "Total Correlation Maximization"
    paper = "Yu et al., ICLR 2026"
    needs_whole_batch = True
    reads = ("unimodal_logits",)

    def __init__(self, *, pairs: int | None = None) -> None:
        super().__init__()
        if pairs is not None and pairs < 1:
            raise ValueError(f"pairs={pairs}: the number of combinations must be 1 or more")
        self.pairs = pairs

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute L over the global batch."""
        own = full(output.logits).gather(1, batch.label[:, None])[:, 0]
        number = ctx.total(batch.has_all(self.modalities).sum())
        partition, drawn = self.partition(output, batch, ctx)
        bound = torch.where(number > 0, partition + constant(number.clamp_min(1), drawn).to(partition.dtype), 0.0)
        positive = ctx.mean(own, batch.weights(self.modalities))
        return super().losses(output, batch, ctx) | {"fused": bound - positive}

    def partition(self, output: Output, batch: Batch, ctx: Context) -> tuple[Tensor, int | None]:
        """Compute the log-sum-exp of the logits of combinations and classes.

        Args:
            output: Output of the step.
            batch: The batch of this step.
            ctx: Where combinations are drawn from.

        Returns:
            0-dim log-sum-exp, the same on all ranks, and the number of combinations if they were drawn.
        """
        order, fusion = global_order(batch.index), self._fusion[0]
        present = order.rows(batch.presence(self.modalities).long().T) > 0
        additive = bool(getattr(fusion, "is_additive", True))
        if additive:
            parts = additive_parts(fusion, output.unimodal_logits)
            values = {m: order.rows(full(parts[m])) for m in self.modalities}
            if self.pairs is None:
                return additive_partition(values, present), None
        else:
            check_complete(self, "features", output.features)
            values = {m: order.rows(output.features[m]) for m in self.modalities}
        drawn = self.pairs
        if drawn is None and (len(values) > 2 or len(present) > MOST_SAMPLES):
            drawn = DRAWN
        picks = all_pairs(len(present), present.device) if drawn is None else self.draw(drawn, present, ctx)
        chosen = {m: values[m][pick] for m, pick in zip(values, picks, strict=True)}
        valid = torch.stack([present[pick, i] for i, pick in enumerate(picks)]).all(0)
        logits = add_parts(chosen) if additive else full(self.fusion(chosen))
        return combination_partition(logits, valid), drawn

    def draw(self, number: int, present: Tensor, ctx: Context) -> Tensor:
        """Draw combinations of samples, of those that have the modality.

        Args:
            number: Number K of combinations.
            present: (N, M) bool, which sample of the global batch has which modality.
            ctx: Seed and step number.

        Returns:
            (M, K) positions in the global batch.
        """
        place = torch.arange(number, device=present.device)
        chance = torch.stack([ctx.uniform(place, f"tcmax/{m}") for m in self.modalities])
        rank = (chance * present.sum(0)[:, None]).long()
        return (~present).int().T.argsort(stable=True).gather(1, rank)


def constant(samples: Tensor, drawn: int | None) -> Tensor:
    """What L has beside the log-sum-exp and the first term.

    Args:
        samples: 0-dim number B of samples, 1 or more.
        drawn: Number K of drawn combinations; None: they were not drawn.

    Returns:
        0-dim -log B, or log B - log K.
    """
    return -samples.log() if drawn is None else samples.log() - math.log(drawn)


def additive_partition(parts: Mapping[str, Tensor], present: Tensor) -> Tensor:
    """Log-sum-exp over all combinations and classes of an additive fusion.

    Args:
        parts: Modality -> (N, C) parts of the fused logits.
        present: (N, M) bool, which sample has which modality.

    Returns:
        0-dim logsumexp over c of sum_m A_m[c].
    """
    over_samples = [masked_logsumexp(u, present[:, i, None]) for i, u in enumerate(parts.values())]
    return torch.stack(over_samples).sum(0).logsumexp(0)


def combination_partition(logits: Tensor, valid: Tensor) -> Tensor:
    """Log-sum-exp over given combinations and all classes.

    Args:
        logits: (K, C) fused logits of the combinations.
        valid: (K,) bool, which of them count.

    Returns:
        0-dim log-sum-exp.
    """
    return masked_logsumexp(logits, valid[:, None]).logsumexp(0)


def masked_logsumexp(x: Tensor, mask: Tensor) -> Tensor:
    """Log-sum-exp over the rows that count.

    Args:
        x: (N, C).
        mask: (N, 1) bool.

    Returns:
        (C,); a very low number, without gradient, where no row counts.
    """
    lowest = torch.finfo(x.dtype).min / 1024  # not -inf, whose logsumexp has no gradient
    return x.masked_fill(~mask, lowest).logsumexp(0)


def all_pairs(samples: int, device: torch.device) -> Tensor:
    """Return every pair of positions: (2, N N), the first one slowest."""
    place = torch.arange(samples, device=device)
    return torch.stack([place.repeat_interleave(samples), place.repeat(samples)])
