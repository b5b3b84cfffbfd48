"""Cross-modal self-supervised pre-training (InfoNCE or AVID): a stage of ``ssl_pretrain``."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ogm.augmentations import InputKind, kind_of, view
from ogm.context import TrainingContext
from ogm.losses import full, gather, info_nce
from ogm.parts.ensembles import average_predictions
from ogm.parts.heads import EMBEDDING_WIDTH, Projector
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class SSLCrossmodal(Strategy):
    """Train all encoders together without labels: they learn which inputs belong to the same sample.

    One random view of each input is mapped by its encoder and a projector to an embedding (B, 128) of unit norm.

    - ``"av_infonce"``: symmetric InfoNCE per unordered pair of modalities, with the other samples of the global batch
      in the other modality as negatives; mean over pairs.
    - ``"avid"``: cross-modal instance discrimination with a memory bank, one unit vector per sample and modality. With
      scores s = cosine / temperature between an embedding and the bank of the other modality, K negatives drawn
      uniformly from other samples, and a constant Z estimated from the first batch: loss = -log(e^s / (e^s + K Z)) for
      the positive - sum over negatives of log(K Z / (e^s + K Z)); mean over ordered pairs. Afterwards the bank becomes
      the normalised mean of old entry and new embedding (momentum 0.5).

    As in ``ssl_unimodal``, linear heads on detached features report how well they separate the classes. Optimizer,
    learning rate and number of epochs are those of the run.

    Args:
        objective: ``"av_infonce"`` or ``"avid"``.
        temperature: Temperature of the scores, above 0.
        negatives: K for ``"avid"``, 1 or more; at most the number of training samples - 1.
        kinds: Modality -> kind of its input, where the shape misleads (see ``ogm.augmentations.kind_of``).

    Differences:
        - Released AVID code: Adam with a learning rate of 2e-4. Ours: the optimizer of the run.
        - The means over pairs for three or more modalities are ours.

    References:
        - Paper: Morgado et al., CVPR 2021 (AVID).
        - Code of AVID: facebookresearch/AVID-CMA at 4538e40.
    """

    category = "stage"
    title = "Cross-modal self-supervised training"
    paper = "Morgado et al., CVPR 2021 (avid)"
    prediction = "prob_mean"
    stages = "made for ssl_pretrain; no competitor"
    needs_engine = True
    competes = False
    needs_whole_batch = True
    bank: Tensor
    normalizer: Tensor

    def __init__(
        self,
        objective: Literal["av_infonce", "avid"] = "av_infonce",
        *,
        temperature: float = 0.07,
        negatives: int = 1024,
        kinds: Mapping[str, InputKind] | None = None,
    ) -> None:
        super().__init__()
        if not (temperature > 0 and negatives >= 1):
            raise ValueError(
                f"temperature={temperature}, negatives={negatives}: choose temperature > 0 and negatives >= 1"
            )
        self.objective: Literal["av_infonce", "avid"] = objective
        self.temperature, self.negatives, self.kinds = temperature, negatives, dict(kinds or {})
        self.heads, self.projectors = nn.ModuleDict(), nn.ModuleDict()

    def setup(self) -> None:
        """Create heads and projectors, and for ``avid`` the memory bank."""
        self.heads.update({m: self.head(m) for m in self.modalities})
        self.projectors.update({m: Projector(self.dims[m]) for m in self.modalities})
        if self.objective == "avid":
            if self.num_samples < 2:
                raise ValueError(
                    "avid has a memory bank of all training samples, two or more: pass num_samples= to attach"
                )
            number = len(self.modalities)
            self.register_buffer("bank", F.normalize(torch.randn(number, self.num_samples, EMBEDDING_WIDTH), dim=2))
            self.register_buffer("normalizer", torch.zeros(number, number))  # 0: not estimated yet

    def param_groups(self) -> list[dict[str, Any]]:
        """Train projectors and heads; heads are not clipped with the rest."""
        return [
            {"params": list(self.projectors.parameters())},
            {"params": list(self.heads.parameters()), "clip": False},  # not clipped with the others
        ]

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        """Predict with the mean of the heads' probabilities."""
        features = {m: encoder(batch.inputs[m]) for m, encoder in model.encoders.items()}
        unimodal_logits = {m: self.heads[m](features[m]) for m in self.modalities if m not in drop}
        return Output(
            average_predictions(unimodal_logits, {m: batch.has_all([m]) for m in unimodal_logits}, "prob_mean"),
            unimodal_logits,
            features,
        )

    def step(self, batch: Batch, engine: TrainingContext) -> Output:
        """Train on one view of each input of a batch."""
        (part,) = engine.split(batch)
        inputs = {
            m: view(x, self.kinds.get(m, kind_of(x)), part.index, f"view/{m}", engine) for m, x in part.inputs.items()
        }
        with engine.autocast():
            # Each encoder by itself: if a fusion let them exchange signals, the pairs would be trivial to recognise.
            features = {m: encoder(inputs[m]) for m, encoder in engine.model.encoders.items()}
            present = {m: part.has_all([m]) if m in part.present else None for m in self.modalities}
            embedded = {m: self.projectors[m](features[m], present[m]) for m in self.modalities}
            losses = self._contrastive_losses(embedded, part, engine)
            unimodal_logits = {m: head(features[m].detach()) for m, head in self.heads.items()}
            losses |= {f"monitor/{m}": self.loss(z, part, engine, m) for m, z in unimodal_logits.items()}
        self.differentiate(losses, engine)
        engine.record(losses)
        engine.finish_gradients()
        engine.update()
        return Output(unimodal_logits[self.modalities[0]], unimodal_logits, features).detach()

    def _contrastive_losses(
        self, embedded: Mapping[str, Tensor], batch: Batch, engine: TrainingContext
    ) -> dict[str, Tensor]:
        if self.objective == "avid":
            return self._avid_losses({m: F.normalize(full(z)) for m, z in embedded.items()}, batch, engine)
        pairs = list(itertools.combinations(self.modalities, 2))
        losses = {}
        for m, n in pairs:
            both = batch.has_all([m, n]) if batch.present else None
            values = info_nce(embedded[m], embedded[n], self.temperature, both)
            losses[f"infonce/{m}+{n}"] = engine.mean(values, batch.weights([m, n])) / len(pairs)
        return losses

    def _avid_losses(self, unit: Mapping[str, Tensor], batch: Batch, engine: TrainingContext) -> dict[str, Tensor]:
        """Losses of AVID for each ordered pair; afterwards the memory bank is updated."""
        k = min(self.negatives, self.num_samples - 1)
        each = batch.index[:, None] * k + torch.arange(k, device=batch.index.device)
        other = (engine.uniform(each, "avid/negatives") * (self.num_samples - 1)).long()
        other = other + (other >= batch.index[:, None])  # any sample but this one
        losses, pairs = {}, list(itertools.permutations(range(len(self.modalities)), 2))
        for i, j in pairs:
            m, n = self.modalities[i], self.modalities[j]
            positive = (unit[m] * self.bank[j, batch.index]).sum(1) / self.temperature
            negative = (unit[m][:, None] * self.bank[j][other]).sum(2) / self.temperature
            both = batch.has_all([m, n])
            estimate = engine.total(torch.where(both, negative.exp().mean(1), 0).sum()) / engine.total(
                both.sum()
            ).clamp_min(1)
            self.normalizer[i, j] = torch.where(self.normalizer[i, j] > 0, self.normalizer[i, j], estimate)
            # 1 as long as no sample had both modalities, so that there was nothing to estimate Z from
            z = torch.where(self.normalizer[i, j] > 0, self.normalizer[i, j], 1.0)
            values = avid_loss(positive, negative, z)
            losses[f"avid/{m}->{n}"] = engine.mean(values, batch.weights([m, n])) / len(pairs)
        self._update_bank(unit, batch)
        return losses

    @torch.no_grad()
    def _update_bank(self, unit: Mapping[str, Tensor], batch: Batch) -> None:
        index, _ = gather(batch.index)
        for k, m in enumerate(self.modalities):
            embedded, present = gather(unit[m].detach())[0], gather(batch.has_all([m]))[0]
            old = self.bank[k, index]
            self.bank[k, index] = torch.where(present[:, None], F.normalize((old + embedded) / 2), old)


def avid_loss(positive: Tensor, negative: Tensor, normalizer: Tensor) -> Tensor:
    """Noise-contrastive loss of AVID.

    Args:
        positive: (B,) scores (cosine / temperature) of the positives.
        negative: (B, K) scores of the negatives.
        normalizer: 0-dim Z.

    Returns:
        (B,) -log(e^s / (e^s + K Z)) for the positive, minus the sum over negatives of log(K Z / (e^s + K Z)).
    """
    noise = (negative.shape[1] * normalizer).log()
    return F.softplus(noise - positive) + F.softplus(negative - noise).sum(1)
