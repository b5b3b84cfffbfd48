"""Self-distillation (MBSD): in each sample the modality that is surer of the label teaches the other."""

from __future__ import annotations

import itertools
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ogm.checks import check_complete
from ogm.context import Context
from ogm.losses import full, kl
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class MBSD(Strategy):
    """Pull the weaker modality of each sample towards the stronger one, in its prediction and in its logits.

    Inside the epoch window, for every pair of modalities and every sample:
    1. P_m = softmax(u_m), from the unimodal logits u_m (B, C). The modality with the larger P_m[y] is the strong one s,
       the other the weak one w; on a tie the strong one is the first.
    2. weight = |P_s[y] - P_w[y]| if one of the two predicts y, else 0; without gradient.
    3. KL = KL(P_s || P_w) and RS = mean over classes of (u_s - u_w)^2, both without gradient to the strong modality.
    4. L = CE(z, y) + w_uni sum_m CE(u_m, y) + mean over pairs and samples of weight (w_kl KL + w_rs RS). The mean over
       samples is over all that have both modalities, also those of weight 0.

    Outside the window L = CE(z, y). The prediction is argmax z.

    Args:
        w_kl: Weight of KL, 0 or more.
        w_rs: Weight of RS, 0 or more.
        w_uni: Weight of the unimodal losses, 0 or more.
        variant: ``"default"``: the steps above. ``"bb_literal"``: what BalanceBenchmark computes, for comparison only,
            see below.
        start: First epoch of the window, counted from 0.
        end: Last epoch of the window (inclusive), whatever the run's length; None: until the end of the run. Default
            80, as in BalanceBenchmark: a run of 20 epochs never leaves it.

    Differences:
        - Paper: pre-training for e-commerce. BalanceBenchmark ported the idea to classification, for which no code of
          the authors exists. Ours is the port with the corrections below.
        - BalanceBenchmark: its KL is P_w[y] (log P_w[y] - P_s[y]) of two scalars, which is not a divergence. Ours: the
          divergence of the class distributions.
        - BalanceBenchmark: nothing is detached, so the strong modality is drawn towards the weak one, and the weight is
          trained too. Ours: only the weak modality learns.
        - BalanceBenchmark: RS compares probabilities for three or more modalities. Ours: always logits.
        - BalanceBenchmark: no weights. Ours: ``w_kl``, ``w_rs`` and ``w_uni``, all 1 by default.

    References:
        - Paper: Liu et al., WSDM 2023.
        - Code: GeWu-Lab/BalanceBenchmark at 4c1482f.
    """

    category = "loss"
    title = "Self-distillation from the stronger to the weaker modality"
    paper = "Liu et al., WSDM 2023 (BalanceBenchmark's port)"
    reads = ("unimodal_logits",)

    def __init__(
        self,
        w_kl: float = 1.0,
        w_rs: float = 1.0,
        w_uni: float = 1.0,
        *,
        variant: Literal["default", "bb_literal"] = "default",
        start: int = 0,
        end: int | None = 80,
    ) -> None:
        super().__init__(start=start, end=end)
        if not min(w_kl, w_rs, w_uni) >= 0:
            raise ValueError(f"w_kl={w_kl}, w_rs={w_rs}, w_uni={w_uni}: a weight of a loss must be 0 or more")
        self.w_kl, self.w_rs, self.w_uni, self.variant = w_kl, w_rs, w_uni, variant

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the CE of fused and unimodal logits, and the distillation of every pair."""
        losses = super().losses(output, batch, ctx)
        if not self.in_window(ctx):
            return losses
        unimodal_logits = output.unimodal_logits
        check_complete(self, "unimodal_logits", unimodal_logits)
        losses |= {f"unimodal/{m}": self.w_uni * self.loss(z, batch, ctx, m) for m, z in unimodal_logits.items()}
        pairs = list(itertools.combinations(unimodal_logits, 2))
        for m, n in pairs:
            first, second = unimodal_logits[m], unimodal_logits[n]
            if self.variant == "default":
                terms = pair_terms(first, second, batch.label)
            else:
                terms = balancebenchmark_terms(first, second, batch.label, probabilities=len(unimodal_logits) > 2)
            sample_weight = batch.weights((m, n))
            losses[f"kl/{m}-{n}"] = self.w_kl * ctx.mean(terms.weight * terms.kl, sample_weight) / len(pairs)
            losses[f"rs/{m}-{n}"] = self.w_rs * ctx.mean(terms.weight * terms.rs, sample_weight) / len(pairs)
        return losses


class PairTerms(NamedTuple):
    """The terms of one pair of modalities, per sample.

    Attributes:
        weight: (B,) difference of the true-class probabilities; 0 where both predictions are wrong.
        kl: (B,) distillation of the prediction.
        rs: (B,) distillation of the logits.
    """

    weight: Tensor
    kl: Tensor
    rs: Tensor


def pair_terms(one: Tensor, other: Tensor, label: Tensor) -> PairTerms:
    """The terms of one pair (``variant="default"``). Only the weaker modality of each sample gets a gradient.

    Args:
        one: (B, C) unimodal logits; the stronger modality on a tie.
        other: (B, C) unimodal logits.
        label: (B,) classes.

    Returns:
        Weight (without gradient), KL and RS.
    """
    one, other = full(one), full(other)
    weight, p, q = true_class_gap(one.detach(), other.detach(), label)
    one_is_stronger = (p >= q)[:, None]
    strong, weak = torch.where(one_is_stronger, one, other).detach(), torch.where(one_is_stronger, other, one)
    return PairTerms(weight, kl(strong, weak), (strong - weak).square().mean(1))


def balancebenchmark_terms(one: Tensor, other: Tensor, label: Tensor, *, probabilities: bool) -> PairTerms:
    """The terms of one pair as BalanceBenchmark computes them (``variant="bb_literal"``), all with gradient.

    Args:
        one: (B, C) unimodal logits.
        other: (B, C) unimodal logits.
        label: (B,) classes.
        probabilities: RS of probabilities, as it has for three modalities, instead of logits.

    Returns:
        Weight, its KL and RS.
    """
    one, other = full(one), full(other)
    weight, p, q = true_class_gap(one, other, label)
    strong, weak = torch.maximum(p, q), torch.minimum(p, q)
    difference = one.softmax(1) - other.softmax(1) if probabilities else one - other
    return PairTerms(weight, weak * (weak.log() - strong), difference.square().mean(1))


def true_class_gap(one: Tensor, other: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """True-class probabilities of two modalities.

    Args:
        one: (B, C) unimodal logits.
        other: (B, C) unimodal logits.
        label: (B,) classes.

    Returns:
        (B,) absolute difference of the two, 0 where both predictions are wrong; (B,) that of ``one``; (B,) that of
        ``other``.
    """
    p, q = (z.softmax(1).gather(1, label[:, None])[:, 0] for z in (one, other))
    one_is_right = (one.argmax(1) == label) | (other.argmax(1) == label)
    return (p - q).abs() * one_is_right, p, q
