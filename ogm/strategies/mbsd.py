"""Self-distillation: in each sample the modality that knows better teaches the other."""

from __future__ import annotations

import itertools
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ogm.checks import check_complete
from ogm.context import Context
from ogm.losses import kl
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class MBSD(Strategy):
    """After Liu et al., WSDM 2023, as BalanceBenchmark ported it to classification (spec methods_loss.md, section 6).

    L = CE(z) + w_uni sum_m CE(u_m) + mean over pairs of [w_kl KL + w_rs RS], both terms weighted per sample by how much
    better the better one knows the label, and only if one of the two is right; outside the window L = CE(z). A pair's
    mean is over all samples that have both modalities, active or not. The window is BalanceBenchmark's, epochs 0 to 80,
    whatever the run's length: a run of 20 epochs never leaves it.

    No classification code of the authors exists. ``variant="bb_literal"`` is what BalanceBenchmark computes, for
    comparison only: its KL is p_w (log p_w - p_s) of two scalars, which is no divergence; nothing is detached, so the
    strong modality is dragged towards the weak; with three or more modalities RS compares probabilities, not logits.
    """

    category = "loss"
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
        losses = super().losses(output, batch, ctx)
        if not self.active(ctx):
            return losses
        own = output.unimodal_logits
        check_complete(self, "unimodal_logits", own)
        losses |= {f"unimodal/{m}": self.w_uni * self.loss(z, batch, ctx, m) for m, z in own.items()}
        pairs = list(itertools.combinations(own, 2))
        for m, n in pairs:
            if self.variant == "default":
                lesson = lessons(own[m], own[n], batch.label)
            else:
                lesson = literal(own[m], own[n], batch.label, probabilities=len(own) > 2)
            there = batch.weights((m, n))
            losses[f"kl/{m}-{n}"] = self.w_kl * ctx.mean(lesson.weight * lesson.kl, there) / len(pairs)
            losses[f"rs/{m}-{n}"] = self.w_rs * ctx.mean(lesson.weight * lesson.rs, there) / len(pairs)
        return losses


class Lesson(NamedTuple):
    """What one modality has to learn from another, per sample: three (B,) tensors."""

    weight: Tensor
    kl: Tensor
    rs: Tensor


def lessons(one: Tensor, other: Tensor, label: Tensor) -> Lesson:
    """From unimodal logits (B, C) of two modalities. Gradients reach the weaker alone; in a tie, that is the second."""
    one, other = (z.float() if z.itemsize < 4 else z for z in (one, other))
    weight, p, q = knowledge(one.detach(), other.detach(), label)
    ahead = (p >= q)[:, None]
    strong, weak = torch.where(ahead, one, other).detach(), torch.where(ahead, other, one)
    return Lesson(weight, kl(strong, weak), (strong - weak).square().mean(1))


def literal(one: Tensor, other: Tensor, label: Tensor, *, probabilities: bool) -> Lesson:
    """BalanceBenchmark's arithmetic; ``probabilities``: its RS for three modalities."""
    one, other = (z.float() if z.itemsize < 4 else z for z in (one, other))
    weight, p, q = knowledge(one, other, label)
    strong, weak = torch.maximum(p, q), torch.minimum(p, q)
    apart = one.softmax(1) - other.softmax(1) if probabilities else one - other
    return Lesson(weight, weak * (weak.log() - strong), apart.square().mean(1))


def knowledge(one: Tensor, other: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B,) each: how far the label's probabilities are apart (0 where both predict wrongly), and the two themselves."""
    p, q = (z.softmax(1).gather(1, label[:, None])[:, 0] for z in (one, other))
    right = (one.argmax(1) == label) | (other.argmax(1) == label)
    return (p - q).abs() * right, p, q
