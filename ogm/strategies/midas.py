"""MIDAS: train on misaligned samples, whose modalities come from samples of different classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ogm.context import Context
from ogm.losses import full
from ogm.parts.global_batch import GlobalOrder, global_order
from ogm.strategies.equal_weight_multiloss import EqualWeightMultiloss
from ogm.types import Batch, Category, Output

Update = Literal["sign", "difference"]


class MIDAS(EqualWeightMultiloss):
    """Pair the modalities of samples of different classes, and weigh the two right answers by what each modality knows.

    With a linear head g_m per modality on its feature h_m (B, D_m), p_m = softmax(g_m(h_m)):
    1. Warm-up: L = sum_m CE(g_m, y); the fusion is not trained.
    2. Then L = CE(z, y) + sum_m CE(g_m, y) + lam L_mis.
    3. Misaligned samples: each sample i (the anchor) draws a partner j among the samples of another label in the global
       batch. M = 2: the samples (h_1^i, h_2^j) and (h_1^j, h_2^i). M > 2: M - 1 partners, each drawn by itself, and one
       sample in which a random permutation assigns the modalities to the anchor and its partners. Features are swapped,
       so that gradients reach the encoders with both donors' inputs.
    4. With k_m(n) the sample that gives modality m to the misaligned sample n, and y_m(n) its label: c_m(n) =
       p_m(k_m)[y_m] / sum_l p_l(k_l)[y_l].
    5. Hardness s(n) is the mean of cos(h_m^anchor, h_m^(k_m)) over the modalities that were replaced.
    6. L_mis = mean over n of (1 + (s + 1) / 2) sum_m alpha_m c_m (-log p~[y_m]), with p~ (N, C) the softmax of the
       fused logits of the misaligned samples. alpha, c and s have no gradient.
    7. For the next step: m^ is the modality with the smallest mean c_m, r the mean of p~[y_m^] / sum_l p~[y_l], and
       D = mean c_m^ - r. alpha_m^ becomes max(1, alpha_m^ + eta sign D), the others 1. Every alpha starts as 1.

    Prediction: argmax z; no epoch of the warm-up is selected. It costs one pass through the encoders and one of the
    fusion on 2 B more rows (M > 2: B). A misaligned sample counts if its anchor has all modalities, and each donor has
    the one that it gives. A batch of one class has none, and leaves alpha as it is. A checkpoint holds the heads, alpha
    and the epoch that alpha belongs to.

    Args:
        lam: Weight of L_mis, 0 or more. Published: 5 for Kinetics-Sounds, 1 elsewhere.
        warmup: Share of the run's epochs that is warm-up, 0 or more and below 1; if above 0, at least one epoch.
        eta: Step of alpha, 0 or more. Published: 0.05.
        update: The step of alpha: ``"sign"``: eta sign D. ``"difference"``: eta D.
        reset: ``"epoch"``: alpha is 1 again at the beginning of every epoch; ``"never"``.

    Differences:
        - Paper: its text was read without some of its formulas; the losses, c and alpha's step are from two independent
          notes of others that agree with the text. No released code could be read.
        - Paper: the length of the warm-up is not printed. Ours: a tenth of the run.
        - Paper: shuffles the batch until labels differ. Ours: draws a partner among the other labels, as a function of
          the sample's number and the step.
        - Paper: the notes have the sign of D, the text a "batch-averaged difference". Ours: ``update``.
        - Paper: Algorithm 1 resets alpha in every epoch, a figure shows it grow over the whole run. Ours: ``reset``.
        - Paper: does not say whether c, s and alpha have gradients. Ours: none, as they are called target and weights.

    References:
        - Paper: Hwang, Choi and Whang, "MIDAS: Misalignment-based Data Augmentation Strategy for Imbalanced Multimodal
          Learning", NeurIPS 2025, arXiv 2509.25831.
        - Code: none could be read.
    """

    category: ClassVar[Category] = "data"
    title = "Misalignment-based Data Augmentation Strategy"
    paper = "Hwang, Choi and Whang, NeurIPS 2025"
    stages = "within the run: unimodal losses alone for a tenth of the epochs"
    needs_whole_batch = True
    alpha: Tensor
    alpha_epoch: Tensor

    def __init__(
        self,
        lam: float = 1.0,
        warmup: float = 0.1,
        eta: float = 0.05,
        *,
        update: Update = "sign",
        reset: Literal["epoch", "never"] = "epoch",
    ) -> None:
        super().__init__()
        if not (lam >= 0 and eta >= 0 and 0 <= warmup < 1):
            raise ValueError(f"lam={lam}, warmup={warmup}, eta={eta}: choose lam >= 0, 0 <= warmup < 1 and eta >= 0")
        self.lam, self.warmup, self.eta, self.update, self.reset = lam, warmup, eta, update, reset
        self.reads = ("features", "fusion")

    def setup(self) -> None:
        """Create the heads and alpha."""
        super().setup()
        if getattr(self.fusion, "input_kind", "features") != "features":
            raise ValueError(
                f"{self.id} swaps features between samples, but with {type(self.fusion).__name__} a feature holds what "
                "its encoder received from the others: choose a fusion of features, such as concat"
            )
        self.register_buffer("alpha", torch.ones(len(self.modalities)))
        self.register_buffer("alpha_epoch", torch.tensor(0))

    def first_final_epoch(self, epochs: int) -> int:
        """Return the first epoch after the warm-up."""
        return max(1, round(self.warmup * epochs)) if self.warmup else 0

    # ---- the loss
    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the CE of fused and unimodal logits, and L_mis; in the warm-up the CE of unimodal logits alone."""
        losses = super().losses(output, batch, ctx)
        if self.warmup and ctx.epochs == 0:
            raise ValueError(f"{self.id} warms up for a share of the run: pass epochs=, how many there will be")
        if ctx.epoch < self.first_final_epoch(ctx.epochs):
            return {name: loss for name, loss in losses.items() if name.startswith("unimodal/")}
        return losses | {"misaligned": self.lam * self.misaligned(output, batch, ctx)}

    def misaligned(self, output: Output, batch: Batch, ctx: Context) -> Tensor:
        """Compute L_mis over this rank's anchors, and update alpha (steps 3 to 7).

        Args:
            output: Output of the step, with the heads' logits.
            batch: The batch of this step.
            ctx: Where partners are drawn from, and communication between ranks.

        Returns:
            0-dim part of the global mean.
        """
        order = global_order(batch.index)
        features = {m: order.rows(output.features[m]) for m in self.modalities}
        known = [true_log_probability(z.detach(), batch.label) for z in output.unimodal_logits.values()]
        known_of, label = order.rows(torch.stack(known, 1)), order.rows(batch.label)
        present = order.rows(batch.presence(self.modalities).long().T) > 0
        mixture = self.draw(order, batch, label, ctx)
        confidence = relative_confidence(by_source(known_of, mixture.source))
        hard = hardness(features, mixture.source, mixture.anchor)
        fused = self.fusion({m: features[m][k] for m, k in mixture.source.items()})
        answers = torch.stack([true_log_probability(fused, label[k]) for k in mixture.source.values()])
        whole = present[mixture.anchor].all(1) & by_source(present, mixture.source).all(0)
        weight = (mixture.valid & whole).to(answers.dtype)
        if self.reset == "epoch":
            self.alpha.copy_(torch.where(self.alpha_epoch == ctx.epoch, self.alpha, 1.0))
            self.alpha_epoch.fill_(ctx.epoch)
        loss = ctx.mean(misaligned_losses(answers, confidence, hard, self.alpha), weight)
        self.adapt(confidence, relative_confidence(answers.detach()), weight, ctx)
        return loss

    def draw(self, order: GlobalOrder, batch: Batch, label: Tensor, ctx: Context) -> Mixture:
        """Draw the misaligned samples of this rank's anchors (step 3).

        Args:
            order: The order of the global batch.
            batch: The batch of this step, whose samples are the anchors.
            label: (N,) classes of the global batch.
            ctx: Where random numbers come from.

        Returns:
            The misaligned samples: 2 B of them for two modalities, else B.
        """

        def partner(purpose: str) -> Tensor:
            return draw_partners(batch.label, label, ctx.uniform(batch.index, purpose))

        own, modalities = order.own, self.modalities
        if len(modalities) == 2:
            other = partner("midas/partner")
            giver = torch.where(other < 0, own, other)
            source = zip(modalities, (torch.cat([own, giver]), torch.cat([giver, own])), strict=True)
            return Mixture(dict(source), own.repeat(2), (other >= 0).repeat(2))
        others = torch.stack([partner(f"midas/partner/{k}") for k in range(1, len(modalities))])
        donors = torch.cat([own[None], torch.where(others < 0, own, others)])
        chance = torch.stack([ctx.uniform(batch.index, f"midas/order/{m}") for m in modalities])
        assigned = donors.gather(0, chance.argsort(0))
        return Mixture(dict(zip(modalities, assigned, strict=True)), own, (others >= 0).all(0))

    def adapt(self, confidence: Tensor, of_model: Tensor, weight: Tensor, ctx: Context) -> None:
        """Update alpha by the means over the global batch, and log it (step 7).

        Args:
            confidence: (M, N) c.
            of_model: (M, N) the same share in the fused prediction.
            weight: (N,) 1 for misaligned samples that count, else 0.
            ctx: Communication between ranks.
        """
        sums = ctx.total((torch.cat([confidence, of_model, torch.ones_like(weight)[None]]) * weight).sum(1))
        mean_confidence, mean_of_model = (sums[:-1] / sums[-1].clamp_min(1)).chunk(2)
        step = next_alpha(self.alpha, mean_confidence, mean_of_model, self.eta, self.update)
        self.alpha.copy_(torch.where(sums[-1] > 0, step.alpha, self.alpha))
        ctx.log(**{f"alpha/{m}": a.clone() for m, a in zip(self.modalities, self.alpha, strict=True)})


class Mixture(NamedTuple):
    """Misaligned samples.

    Attributes:
        source: Modality -> (N,) position in the global batch of the sample that gives it.
        anchor: (N,) position of the anchor.
        valid: (N,) bool, whether there was a partner.
    """

    source: dict[str, Tensor]
    anchor: Tensor
    valid: Tensor


def draw_partners(anchor_label: Tensor, label: Tensor, uniform: Tensor) -> Tensor:
    """Draw a sample of another label for each anchor.

    Args:
        anchor_label: (B,) classes of the anchors.
        label: (N,) classes of all samples.
        uniform: (B,) random numbers in [0, 1).

    Returns:
        (B,) position of the candidate number floor(uniform n) of n; -1 if there is none.
    """
    candidate = label != anchor_label[:, None]
    rank = candidate.cumsum(1) - 1
    chosen = (uniform * candidate.sum(1)).floor().long()
    partner = (candidate & (rank == chosen[:, None])).int().argmax(1)
    return torch.where(candidate.any(1), partner, -1)


def true_log_probability(logits: Tensor, label: Tensor) -> Tensor:
    """Log-probability of given classes.

    Args:
        logits: (N, C).
        label: (N,) classes.

    Returns:
        (N,) log softmax(logits) at the classes.
    """
    return full(logits).log_softmax(1).gather(1, label[:, None])[:, 0]


def by_source(values: Tensor, source: Mapping[str, Tensor]) -> Tensor:
    """Take from each sample's values that of the modality it gives.

    Args:
        values: (K, M), one column per modality.
        source: Modality -> (N,) positions of samples.

    Returns:
        (M, N).
    """
    return torch.stack([values[k, i] for i, k in enumerate(source.values())])


def relative_confidence(log_probability: Tensor) -> Tensor:
    """Share of each modality in the confidence about a misaligned sample.

    Args:
        log_probability: (M, N) log-probability of each modality's answer.

    Returns:
        (M, N) probabilities over their sum.
    """
    return log_probability.softmax(0)


def hardness(features: Mapping[str, Tensor], source: Mapping[str, Tensor], anchor: Tensor) -> Tensor:
    """Similarity of what was replaced to what replaced it.

    Args:
        features: Modality -> (K, D_m).
        source: Modality -> (N,) positions of the samples that give it.
        anchor: (N,) positions of the anchors.

    Returns:
        (N,) mean cosine over the replaced modalities, without gradient; a zero vector has cosine 0.
    """
    cosines = [
        F.cosine_similarity(full(f.detach())[anchor], full(f.detach())[source[m]], dim=1) for m, f in features.items()
    ]
    replaced = torch.stack([source[m] != anchor for m in features])
    return (torch.stack(cosines) * replaced).sum(0) / replaced.sum(0).clamp_min(1)


def misaligned_losses(answers: Tensor, confidence: Tensor, hard: Tensor, alpha: Tensor) -> Tensor:
    """Losses of misaligned samples (step 6).

    Args:
        answers: (M, N) log-probability of each modality's answer in the fused prediction.
        confidence: (M, N) c.
        hard: (N,) hardness.
        alpha: (M,) weights.

    Returns:
        (N,) losses.
    """
    weight = alpha.to(confidence.dtype)[:, None] * confidence
    return -(1 + (hard + 1) / 2) * (weight * answers).sum(0)


class AlphaStep(NamedTuple):
    """A step of alpha.

    Attributes:
        weakest: 0-dim number of the modality with the least confidence; the first of equals.
        delta: 0-dim D, how much less the fused model relies on it.
        alpha: (M,) weights for the next step.
    """

    weakest: Tensor
    delta: Tensor
    alpha: Tensor


def next_alpha(alpha: Tensor, confidence: Tensor, of_model: Tensor, eta: float, update: Update) -> AlphaStep:
    """Weights of the modalities in the next step (step 7).

    Args:
        alpha: (M,) weights of this step.
        confidence: (M,) mean confidence.
        of_model: (M,) mean share in the fused prediction.
        eta: Step size.
        update: ``"sign"`` or ``"difference"``, see ``MIDAS``.

    Returns:
        The step; only the weakest modality keeps a weight that is not 1.
    """
    weakest = confidence.argmin()
    is_weakest = torch.arange(len(alpha), device=alpha.device) == weakest
    delta = torch.where(is_weakest, confidence - of_model, 0).sum()
    moved = (alpha + eta * (delta.sign() if update == "sign" else delta)).clamp_min(1)
    return AlphaStep(weakest, delta, torch.where(is_weakest, moved, 1.0))
