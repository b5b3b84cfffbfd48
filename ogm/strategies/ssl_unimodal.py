"""One encoder learns alone, without labels, from two views of each sample. A stage of ``ssl_pretrain``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ogm.engine import Engine
from ogm.losses import full, gather, nt_xent
from ogm.strategies.unimodal import Branch
from ogm.strategy import Passes, Strategy
from ogm.types import Batch, Output
from ogm.views import Kind, kind_of, view

WIDTH = 128  # of the embeddings that are compared


class SSLUnimodal(Strategy):
    """SimCLR, Chen et al., ICML 2020, or VICReg, Bardes et al., ICLR 2022 (spec methods_loss.md, section 17).

    Two views of each sample (``ogm/views.py``) go through the encoder and a projector; ``simclr``: NT-Xent with
    ``temperature``; ``vicreg``: 25 invariance + 25 variance + covariance, which needs no negatives. Only training
    samples are seen, and the encoder sees no label: they train a linear head on its detached features, so that the
    run's curves and its record can say how much of the classes is in there. ``kinds`` names inputs whose shape
    misleads (see ``views.kind_of``).

    The learning rate, optimizer, batch size and epochs are the run's own, as for every run that others build on (the
    spec: 100 epochs of AdamW, batches of 128 and more).
    """

    category = "stage"
    paper = "Chen et al., ICML 2020; Bardes et al., ICLR 2022"
    stages = "made for ssl_pretrain; no competitor"
    needs_engine = True
    competes = False
    needs_whole_batch = True

    def __init__(
        self,
        modality: str,
        objective: Literal["simclr", "vicreg"] = "simclr",
        *,
        temperature: float = 0.1,
        kinds: Mapping[str, Kind] | None = None,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: must be above 0")
        self.modality, self.temperature, self.kinds = modality, temperature, dict(kinds or {})
        self.objective: Literal["simclr", "vicreg"] = objective

    def passes(self, modalities: int) -> Passes:
        return Passes(2, 1)

    def setup(self) -> None:
        if self.modality not in self.modalities:
            raise ValueError(f"modality={self.modality!r}: there are {', '.join(self.modalities)}")
        self.classifier = self.head(self.modality)
        self.projector = Projector(self.dims[self.modality])

    def param_groups(self) -> list[dict[str, Any]]:
        return [
            {"params": list(self.projector.parameters())},
            {"params": list(self.classifier.parameters()), "clip": False},  # its labels must not shorten the others
        ]

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        output: Output = self.export(model)(batch.inputs[self.modality])
        return output

    def step(self, batch: Batch, engine: Engine) -> Output:
        m, x = self.modality, batch.inputs[self.modality]
        kind, valid = self.kinds.get(m, kind_of(x)), batch.have([m]) if m in batch.present else None
        (part,) = engine.split(batch)
        views = [view(x, kind, part.index, f"view/{k}", engine) for k in (1, 2)]
        with engine.autocast():
            features = [engine.model.encoders[m](v) for v in views]
            first, second = (self.projector(f, valid) for f in features)
            if self.objective == "simclr":
                values = nt_xent(first, second, self.temperature, valid)
                losses = {"simclr": engine.mean(values, part.weights([m]))}
            else:
                weight = {"invariance": 25.0, "variance": 25.0, "covariance": 1.0}
                losses = {name: weight[name] * x for name, x in vicreg(first, second, valid).items()}
            logits = self.classifier(features[0].detach())
            losses["monitor"] = self.loss(logits, part, engine, m)
        self.differentiate(losses, engine)
        engine.record(losses)
        engine.finish_gradients()
        engine.update()
        return Output(logits, {m: logits}, {m: features[0]}).detach()

    def export(self, model: Any) -> nn.Module:
        return Branch(self.modality, model.encoders[self.modality], self.classifier)


class Projector(nn.Module):
    """Linear, batch norm over all ranks, ReLU, Linear: features (B, D) -> (B, 128). Thrown away after the run."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(dim, dim, bias=False), nn.Linear(dim, WIDTH)
        self.scale, self.shift = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, feature: Tensor, valid: Tensor | None = None) -> Tensor:
        x = full(self.first(feature))
        mean, variance = moments(*everyone(x, valid))
        x = (x - mean) / (variance + 1e-5).sqrt() * self.scale + self.shift
        projected: Tensor = self.last(x.relu())
        return projected


def everyone(x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """The rows (N, D) of all ranks, and (N,) 1 for those that count."""
    rows, _ = gather(x)
    return rows, torch.ones_like(rows[:, 0]) if valid is None else gather(valid.to(x.dtype))[0]


def moments(rows: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (D,) of the rows (N, D) that count."""
    share = (weight / weight.sum().clamp_min(1))[:, None]
    mean = (share * rows).sum(0)
    return mean, (share * (rows - mean).square()).sum(0)


def vicreg(x: Tensor, y: Tensor, valid: Tensor | None = None) -> dict[str, Tensor]:
    """The three terms, 0-dim and not weighted yet, of embeddings of two views (B, D), over the samples of all ranks.

    Invariance: mean squared difference. Variance: mean over both views and coordinates of max(0, 1 - std), of the
    unbiased variance plus 1e-4. Covariance: squares of its off-diagonal entries over D, both views added.
    """
    (x, weight), (y, _) = everyone(full(x), valid), everyone(full(y), valid)
    count = weight.sum()
    invariance = (weight * (x - y).square().mean(1)).sum() / count.clamp_min(1)
    hinge, covariance = [], []
    with torch.autocast(x.device.type, enabled=False):
        for rows in (x, y):
            centred = weight[:, None] * (rows - moments(rows, weight)[0])
            matrix = centred.T @ centred / (count - 1).clamp_min(1)
            variance = matrix.diagonal()
            hinge.append((1 - (variance + 1e-4).sqrt()).relu().mean())
            covariance.append((matrix.square().sum() - variance.square().sum()) / len(matrix))
    return {
        "invariance": invariance,
        "variance": (hinge[0] + hinge[1]) / 2,
        "covariance": covariance[0] + covariance[1],
    }
