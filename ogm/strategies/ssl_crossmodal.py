"""All encoders learn together, without labels, which inputs belong to the same sample. A stage of ``ssl_pretrain``."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ogm.engine import Engine
from ogm.losses import full, gather, info_nce
from ogm.strategies.ssl_unimodal import WIDTH, Projector
from ogm.strategies.ume import ensemble
from ogm.strategy import Strategy
from ogm.types import Batch, Output
from ogm.views import Kind, kind_of, view


class SSLCrossmodal(Strategy):
    """Cross-modal contrast (spec methods_loss.md, section 17), one view of each modality.

    ``av_infonce``: symmetric InfoNCE, with the other samples of the batch, in the other modality, as negatives; the
    mean over unordered pairs of modalities. ``avid``: cross-modal instance discrimination with a memory bank (Morgado
    et al., CVPR 2021): of each sample and modality a running embedding (momentum 0.5) is kept, and an embedding is to
    find its own sample's of another modality among ``negatives`` uniformly drawn others; the mean over ordered pairs.

    As in ``ssl_unimodal`` labels train nothing but linear heads on detached features, and epochs and optimizer are the
    run's. ``kinds`` of inputs whose shape misleads. What it leaves behind is the model, for its encoders.
    """

    category = "stage"
    paper = "Morgado et al., CVPR 2021 (avid)"
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
        kinds: Mapping[str, Kind] | None = None,
    ) -> None:
        super().__init__()
        if not (temperature > 0 and negatives >= 1):
            raise ValueError(f"temperature={temperature}, negatives={negatives}: needs one above 0 and one or more")
        self.objective: Literal["av_infonce", "avid"] = objective
        self.temperature, self.negatives, self.kinds = temperature, negatives, dict(kinds or {})
        self.heads, self.projectors = nn.ModuleDict(), nn.ModuleDict()

    def setup(self) -> None:
        self.heads.update({m: self.head(m) for m in self.modalities})
        self.projectors.update({m: Projector(self.dims[m]) for m in self.modalities})
        if self.objective == "avid":
            if self.num_samples < 2:
                raise ValueError("avid keeps a bank of all training samples, two or more: pass num_samples= to attach")
            number = len(self.modalities)
            self.register_buffer("bank", F.normalize(torch.randn(number, self.num_samples, WIDTH), dim=2))
            self.register_buffer("normalizer", torch.zeros(number, number))  # 0: not estimated yet

    def param_groups(self) -> list[dict[str, Any]]:
        return [
            {"params": list(self.projectors.parameters())},
            {"params": list(self.heads.parameters()), "clip": False},  # their labels must not shorten the others
        ]

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        features = {m: encoder(batch.inputs[m]) for m, encoder in model.encoders.items()}
        own = {m: self.heads[m](features[m]) for m in self.modalities if m not in drop}
        return Output(ensemble(own, {m: batch.have([m]) for m in own}, "prob_mean"), own, features)

    def step(self, batch: Batch, engine: Engine) -> Output:
        (part,) = engine.split(batch)
        inputs = {
            m: view(x, self.kinds.get(m, kind_of(x)), part.index, f"view/{m}", engine) for m, x in part.inputs.items()
        }
        with engine.autocast():
            # each by itself: where a fusion lets encoders exchange signals, the other side would be no riddle
            features = {m: encoder(inputs[m]) for m, encoder in engine.model.encoders.items()}
            there = {m: part.have([m]) if m in part.present else None for m in self.modalities}
            embedded = {m: self.projectors[m](features[m], there[m]) for m in self.modalities}
            losses = self._contrast(embedded, part, engine)
            own = {m: head(features[m].detach()) for m, head in self.heads.items()}
            losses |= {f"monitor/{m}": self.loss(z, part, engine, m) for m, z in own.items()}
        self.differentiate(losses, engine)
        engine.record(losses)
        engine.finish_gradients()
        engine.update()
        return Output(own[self.modalities[0]], own, features).detach()

    def _contrast(self, embedded: Mapping[str, Tensor], batch: Batch, engine: Engine) -> dict[str, Tensor]:
        if self.objective == "avid":
            return self._discriminate({m: F.normalize(full(z)) for m, z in embedded.items()}, batch, engine)
        pairs = list(itertools.combinations(self.modalities, 2))
        losses = {}
        for m, n in pairs:
            both = batch.have([m, n]) if batch.present else None
            values = info_nce(embedded[m], embedded[n], self.temperature, both)
            losses[f"infonce/{m}+{n}"] = engine.mean(values, batch.weights([m, n])) / len(pairs)
        return losses

    def _discriminate(self, unit: Mapping[str, Tensor], batch: Batch, engine: Engine) -> dict[str, Tensor]:
        """AVID: score against the bank, then renew it."""
        k = min(self.negatives, self.num_samples - 1)
        each = batch.index[:, None] * k + torch.arange(k, device=batch.index.device)
        other = (engine.uniform(each, "avid/negatives") * (self.num_samples - 1)).long()
        other = other + (other >= batch.index[:, None])  # anybody but the sample itself
        losses, pairs = {}, list(itertools.permutations(range(len(self.modalities)), 2))
        for i, j in pairs:
            m, n = self.modalities[i], self.modalities[j]
            positive = (unit[m] * self.bank[j, batch.index]).sum(1) / self.temperature
            negative = (unit[m][:, None] * self.bank[j][other]).sum(2) / self.temperature
            both = batch.have([m, n])
            guess = engine.total(torch.where(both, negative.exp().mean(1), 0).sum()) / engine.total(
                both.sum()
            ).clamp_min(1)
            self.normalizer[i, j] = torch.where(self.normalizer[i, j] > 0, self.normalizer[i, j], guess)
            z = torch.where(
                self.normalizer[i, j] > 0, self.normalizer[i, j], 1.0
            )  # 1: nobody there to estimate it from
            values = discrimination(positive, negative, z)
            losses[f"avid/{m}->{n}"] = engine.mean(values, batch.weights([m, n])) / len(pairs)
        self._renew(unit, batch)
        return losses

    @torch.no_grad()
    def _renew(self, unit: Mapping[str, Tensor], batch: Batch) -> None:
        index, _ = gather(batch.index)
        for k, m in enumerate(self.modalities):
            fresh, there = gather(unit[m].detach())[0], gather(batch.have([m]))[0]
            before = self.bank[k, index]
            self.bank[k, index] = torch.where(there[:, None], F.normalize((before + fresh) / 2), before)


def discrimination(positive: Tensor, negative: Tensor, normalizer: Tensor) -> Tensor:
    """(B,) noise-contrastive loss of scores (B,) and (B, K) (cosines over the temperature), with Z = ``normalizer``.

    -log(e^s / (e^s + K Z)) for the positive, minus the sum over negatives of log(K Z / (e^s + K Z)).
    """
    noise = (negative.shape[1] * normalizer).log()
    return F.softplus(noise - positive) + F.softplus(negative - noise).sum(1)
