"""Multimodal negative learning (MNL): the surer modality shows the other which classes are wrong."""

from __future__ import annotations

import torch
from torch import Tensor

from ogm.checks import check_complete
from ogm.context import Context
from ogm.losses import full
from ogm.strategies.equal_weight_multiloss import EqualWeightMultiloss
from ogm.types import Batch, Output


class MNL(EqualWeightMultiloss):
    """Where one modality is better on a sample, by margin and by certainty, let it teach the others the wrong classes.

    In each step, for every sample, with the unimodal logits u_m (B, C) and the fused logits z (B, C):
    1. r = the wrong class with the largest fused logit, the same for all modalities. Margin xi_m = u_m[y] - u_m[r];
       certainty q_m = softmax(u_m)[y].
    2. Modality s guides the sample if xi_s > xi_w and q_s > q_w for every other modality w, where equality is enough
       against modalities that come before s in configured order. If there is none, nobody guides.
    3. T = 1 / C times the sum over the guided w != s of -log p_w[y] - lam sum_{c != y} p_s[c] log p_w[c], with
       p = softmax(u); p_s gets no gradient.
    4. L = CE(z, y) + sum_m CE(u_m, y) + the mean of T over all samples, guided or not.

    Only modalities that a sample has are compared and guided. The prediction is argmax z. The authors use late fusion,
    z = mean of u_m; here it is whatever fusion the run has.

    Args:
        lam: Weight of the wrong classes, 0 or more. Since T is divided by C, a small one does little.

    Differences:
        - Paper (as third parties describe it; its text was not read): T has no term for the true class of the guided
          modality, and a first stage trains with cross-entropy alone. Released code and ours: with this term, in one
          stage.
        - Released code: two modalities, text before image. For more, that the modality which beats all others guides
          all of them is ours.
        - Released code: parses ``gradient_accumulation_steps`` and does not use it. Ours: micro-batches add up to the
          batch.

    References:
        - Paper: Gong, Gao, Zhu, Hu and Cao, NeurIPS 2025 (arXiv 2510.20877).
        - Code: BaoquanGong/Multimodal-Negative-Learning at 64cea56.
    """

    title = "Multimodal Negative Learning"
    paper = "Gong et al., NeurIPS 2025"

    def __init__(self, lam: float = 0.7) -> None:
        super().__init__(heads="shared")
        if not lam >= 0:
            raise ValueError(f"lam={lam}: the weight of the wrong classes must be 0 or more")
        self.lam = lam

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the CE of fused and unimodal logits, and the guidance of the weaker modalities."""
        check_complete(self, "unimodal_logits", output.unimodal_logits)
        losses = super().losses(output, batch, ctx)
        logits = torch.stack([full(output.unimodal_logits[m]) for m in self.modalities])
        present = batch.presence(self.modalities)
        rival = rivals(output.logits.detach(), batch.label)
        guide = guides(margins(logits.detach(), batch.label, rival), certainties(logits.detach(), batch.label), present)
        teacher = torch.where(guide[..., None], logits.detach(), 0.0).sum(0)
        guided = guide.any(0) & ~guide & present
        values = torch.stack([guidance(teacher, z, batch.label, self.lam) for z in logits])
        return losses | {"guidance": ctx.mean(torch.where(guided, values, 0.0).sum(0), batch.weights())}


def rivals(logits: Tensor, label: Tensor) -> Tensor:
    """The wrong class with the largest logit.

    Args:
        logits: (B, C) fused logits.
        label: (B,) classes.

    Returns:
        (B,) class numbers.
    """
    return logits.scatter(1, label[:, None], -torch.inf).argmax(1)


def margins(logits: Tensor, label: Tensor, rival: Tensor) -> Tensor:
    """How far the true class leads the rival.

    Args:
        logits: (M, B, C) unimodal logits.
        label: (B,) classes.
        rival: (B,) rival classes.

    Returns:
        (M, B) xi_m.
    """
    rows = torch.arange(len(label), device=label.device)
    return logits[:, rows, label] - logits[:, rows, rival]


def certainties(logits: Tensor, label: Tensor) -> Tensor:
    """Probabilities of the true class.

    Args:
        logits: (M, B, C) unimodal logits.
        label: (B,) classes.

    Returns:
        (M, B) q_m.
    """
    return logits.softmax(2)[:, torch.arange(len(label), device=label.device), label]


def guides(margin: Tensor, certainty: Tensor, present: Tensor) -> Tensor:
    """Which modality guides each sample.

    Args:
        margin: (M, B).
        certainty: (M, B).
        present: (M, B) bool, which samples have which modality.

    Returns:
        (M, B) bool; at most one modality per sample, and none for a sample with a single modality.
    """
    earlier = torch.ones(len(margin), len(margin), dtype=torch.bool, device=margin.device).tril(-1)[..., None]
    above = (margin[:, None] > margin) & (certainty[:, None] > certainty)  # (s, w, B)
    level = (margin[:, None] >= margin) & (certainty[:, None] >= certainty)
    own = torch.eye(len(margin), dtype=torch.bool, device=margin.device)[..., None]
    beats = torch.where(earlier, level, above) | own | ~present
    return beats.all(1) & present & (present.sum(0) > 1)


def guidance(teacher: Tensor, logits: Tensor, label: Tensor, lam: float) -> Tensor:
    """Loss of a modality that is guided.

    Args:
        teacher: (B, C) logits of the modality that guides; without gradient.
        logits: (B, C) logits of the modality that is guided.
        label: (B,) classes.
        lam: Weight of the wrong classes.

    Returns:
        (B,) mean over the C classes of -log p_w[y] at the true class and -lam p_s[c] log p_w[c] at the others.
    """
    target = (lam * teacher.softmax(1)).scatter(1, label[:, None], 1.0)
    return -(target * logits.log_softmax(1)).mean(1)
