"""Multimodal learning with alternating unimodal adaptation (MLA): modalities train in turn under a shared head."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from ogm.context import Context, TrainingContext
from ogm.imbalance import discrepancy_ratios, true_class_scores
from ogm.losses import entropy
from ogm.parts.ensembles import counted_modalities
from ogm.parts.heads import width_adapters
from ogm.strategy import Strategy
from ogm.types import Batch, Output, Passes

Normalize = Literal["fro", "none"]


class MLA(Strategy):
    """Train the modalities one after the other, with a shared head that is protected from forgetting the others.

    In each batch, for m = 1 .. M in configured order:
    1. u_m = head(h_m), with one linear head that all modalities share; L_m = CE(u_m, y). Only encoder m and the head
       get a gradient.
    2. Except in the first optimizer step of the run: r = mean feature of the modality trained before; q = P r; P <- P -
       q q^T / (a + r^T q) with a = 0.1^(1 + share of the epoch done); P <- P / ||P||_F if ``normalize="fro"``. The
       head's weight gradient G (C, D) becomes G P^T. P starts as the identity.
    3. Optimizer step.

    Prediction: sum_m w_m u_m with w = softmax over modalities of -entropy(softmax(u_m)), per sample and over the
    modalities it has. The fusion module is not used. Features of different widths are first mapped to the largest width
    by linear layers. The optimizer takes M steps per batch.

    Args:
        normalize: ``"fro"`` divides P by its Frobenius norm, as released, which slows the head down by about the square
            root of the feature width. ``"none"`` leaves P as in recursive least squares.

    Differences:
        - Released code: since its "Fix bugs" commit it looks for the head under a name that does not occur, so the
          projection is never applied. Ours: it is applied.
        - Released code before that commit: r is the mean feature of the current modality, with its graph. Ours: of the
          previous one, without graph, as we read the paper.
        - Released code: divides q q^T element by element by a + q r^T, a matrix. Ours: by the number a + r^T q, as in
          recursive least squares.
        - Released code: the prediction weights are normalised over the batch, so a prediction depends on the other
          samples. Ours: over the modalities, per sample.
        - Released script: replaces these weights by fixed ones, 0.55 for audio and 0.45 for visual, whatever its flag
          says. Ours: fixed weights are not offered.
        - Released code: gradients are set to zero, so momentum moves encoders that are not being trained. Ours: None.

    References:
        - Paper: Zhang et al., CVPR 2024.
        - Code: Cecile-hi/Multimodal-Learning-with-Alternating-Unimodal-Adaptation at ab6c184.
    """

    category = "schedule"
    title = "Multimodal Learning with Alternating Unimodal Adaptation"
    paper = "Zhang et al., CVPR 2024"
    prediction = "mean of the branches, weighted by entropy"
    needs_engine = True
    projection: Tensor
    last_mean: Tensor

    def __init__(self, normalize: Normalize = "fro") -> None:
        super().__init__()
        self.normalize = normalize

    def passes(self, modalities: int) -> Passes:
        """Return (M, M): each modality has a backward pass of its own."""
        return Passes(modalities, modalities)

    def setup(self) -> None:
        """Create the shared head, the adapters and the projection P."""
        widest = max(self.modalities, key=lambda m: self.dims.get(m, 0))
        self.shared_head = self.head(widest)
        self.adapters, width = width_adapters(self.dims)
        self.register_buffer("projection", torch.eye(width))
        self.register_buffer("last_mean", torch.zeros(width))

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        """Predict with the unimodal logits, weighted by their entropies."""
        features = {m: model.encoders[m](batch.inputs[m]) for m in self.modalities}
        unimodal_logits = {m: self.shared_head(self.adapters[m](f)) for m, f in features.items()}
        return Output(
            confidence_weighted_sum(unimodal_logits, counted_modalities(self.modalities, batch, drop)),
            unimodal_logits,
            features,
        )

    def step(self, batch: Batch, engine: TrainingContext) -> Output:
        """Train the modalities one after the other, with an optimizer step for each."""
        unimodal_logits: dict[str, Tensor] = {}
        for m in self.modalities:
            part_logits, sums = [], torch.zeros(len(self.last_mean) + 1, device=engine.device, dtype=torch.float64)
            for part in engine.split(batch):
                with engine.autocast():
                    feature = self.adapters[m](engine.model.encoders[m](part.inputs[m]))
                    logits = self.shared_head(feature)
                    losses = {f"unimodal/{m}": self.loss(logits, part, engine, m)}
                self.differentiate(losses, engine)
                engine.record(losses)
                sums += feature_sum(feature, part.has_all([m]))
                part_logits.append(logits.detach())
            engine.finish_gradients()
            if engine.step > 0:
                self.project_head_gradient(engine)
            engine.update()
            self.last_mean.copy_(mean_feature(engine.total(sums)))
            unimodal_logits[m] = torch.cat(part_logits)
        rho = discrepancy_ratios(true_class_scores(unimodal_logits, batch, engine))
        engine.log(**{f"discrepancy_ratio/{m}": r for m, r in rho.items()})
        return Output(
            confidence_weighted_sum(unimodal_logits, counted_modalities(self.modalities, batch)), unimodal_logits
        )

    @torch.no_grad()
    def project_head_gradient(self, ctx: Context) -> None:
        """Update P with the mean feature of the modality trained before, and project the head's weight gradient.

        Args:
            ctx: Share of the epoch that is done.
        """
        ridge = 0.1 ** (1 + ctx.fraction)
        self.projection.copy_(update_projection(self.projection, self.last_mean, ridge, self.normalize))
        grad = self.shared_head.weight.grad
        assert grad is not None
        grad.copy_(project_gradient(grad, self.projection))


def feature_sum(features: Tensor, present: Tensor) -> Tensor:
    """Sum of the features of the samples that have a modality, and their number.

    Args:
        features: (B, D).
        present: (B,) bool, which samples have it.

    Returns:
        (D + 1,) float64: the sum, then the number of samples.
    """
    rows = torch.cat([features.detach().double(), features.new_ones(len(features), 1, dtype=torch.float64)], 1)
    return torch.where(present[:, None], rows, 0.0).sum(0)


def mean_feature(sums: Tensor) -> Tensor:
    """Mean feature.

    Args:
        sums: (D + 1,) result of ``feature_sum``, added up over batches and ranks.

    Returns:
        (D,) mean; 0 without samples.
    """
    return sums[:-1] / sums[-1].clamp_min(1)


def update_projection(projection: Tensor, mean: Tensor, ridge: float, normalize: Normalize) -> Tensor:
    """Update the projection matrix with a mean feature.

    Args:
        projection: (D, D) P.
        mean: (D,) r.
        ridge: a, added to r^T P r.
        normalize: ``"fro"`` divides the result by its Frobenius norm.

    Returns:
        (D, D) P - (P r)(P r)^T / (a + r^T P r).
    """
    q = projection @ mean
    updated = projection - torch.outer(q, q) / (ridge + mean @ q)
    return updated / torch.linalg.matrix_norm(updated).clamp_min(1e-12) if normalize == "fro" else updated


def project_gradient(grad: Tensor, projection: Tensor) -> Tensor:
    """Project the gradient of a linear layer's weight.

    Args:
        grad: (C, D).
        projection: (D, D) P.

    Returns:
        (C, D) grad P^T.
    """
    return grad @ projection.T


def confidence_weights(logits: Mapping[str, Tensor], present: Tensor) -> Tensor:
    """Weights of the modalities in the prediction.

    Args:
        logits: Modality -> (B, C).
        present: (M, B) bool, which modalities count for each sample.

    Returns:
        (M, B) softmax over modalities of minus the entropy; 0 for a modality that does not count.
    """
    entropies = torch.stack([entropy(z) for z in logits.values()])
    return (-entropies).masked_fill(~present, -torch.inf).softmax(0)


def confidence_weighted_sum(logits: Mapping[str, Tensor], present: Tensor) -> Tensor:
    """Sum of the modalities' logits, weighted by ``confidence_weights``.

    Args:
        logits: Modality -> (B, C).
        present: (M, B) bool, which modalities count for each sample.

    Returns:
        (B, C) weighted sum.
    """
    return (confidence_weights(logits, present)[..., None] * torch.stack(list(logits.values()))).sum(0)
