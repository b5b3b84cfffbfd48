"""Alternating unimodal adaptation: modalities train in turns, under one head that is kept from forgetting."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.engine import Engine
from ogm.losses import full
from ogm.scores import discrepancy_ratios, true_class_scores
from ogm.strategy import Passes, Strategy
from ogm.types import Batch, Output

Normalize = Literal["fro", "none"]


class MLA(Strategy):
    """Zhang et al., CVPR 2024 (spec methods_gradient.md, 3.15).

    In each batch every modality, in configured order, takes an optimizer step of its own on CE(h(E_m(x_m))); h is one
    linear head that all share. Its weight's gradient is first multiplied by a matrix P that has almost lost the
    directions of what the head has seen: before each step but the run's first, P takes in the mean feature of the
    modality before. The prediction is the sum of the modalities' logits, each sample's weighed by softmax(-entropy)
    over those that it has. The fusion stands by, untrained. Features of unequal width pass a linear layer to the
    largest one first. The scheduler's epochs are epochs; the optimizer takes one step per modality.

    Where the released code is otherwise: since its "Fix bugs" commit it looks for the head under a name that does not
    occur, so that P is never applied; before, it took in the modality's own feature, and kept its graph; its weights
    are normalised over the batch, so that a prediction depends on its neighbours (and its script puts fixed weights in
    their place, 0.55 for audio and 0.45 for visual, whatever its flag says; they are not offered here); zeroed
    gradients let momentum move the encoders whose turn it is not. With ``normalize="fro"``, as released, ||P|| = 1
    slows the head about sqrt(width)-fold; ``"none"`` leaves P as recursive least squares have it.
    """

    category = "schedule"
    paper = "Zhang et al., CVPR 2024"
    needs_engine = True
    projection: Tensor
    last_mean: Tensor

    def __init__(self, normalize: Normalize = "fro") -> None:
        super().__init__()
        self.normalize = normalize

    def passes(self, modalities: int) -> Passes:
        return Passes(modalities, modalities)

    def setup(self) -> None:
        widest = max(self.modalities, key=lambda m: self.dims.get(m, 0))
        self.shared_head = self.head(widest)
        self.adapters, width = adapters(self.dims)
        self.register_buffer("projection", torch.eye(width))
        self.register_buffer("last_mean", torch.zeros(width))

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        features = {m: model.encoders[m](batch.inputs[m]) for m in self.modalities}
        own = {m: self.shared_head(self.adapters[m](f)) for m, f in features.items()}
        return Output(fused(own, votes(self.modalities, batch, drop)), own, features)

    def step(self, batch: Batch, engine: Engine) -> Output:
        turns: dict[str, Tensor] = {}
        for m in self.modalities:
            said, seen = [], torch.zeros(len(self.last_mean) + 1, device=engine.device, dtype=torch.float64)
            for part in engine.split(batch):
                with engine.autocast():
                    feature = self.adapters[m](engine.model.encoders[m](part.inputs[m]))
                    own = self.shared_head(feature)
                    losses = {f"unimodal/{m}": self.loss(own, part, engine, m)}
                self.differentiate(losses, engine)
                engine.record(losses)
                seen += feature_sum(feature, part.have([m]))
                said.append(own.detach())
            engine.finish_gradients()
            if engine.step > 0:
                self.protect(engine)
            engine.update()
            self.last_mean.copy_(mean_feature(engine.total(seen)))
            turns[m] = torch.cat(said)
        rho = discrepancy_ratios(true_class_scores(turns, batch, engine))
        engine.log(**{f"discrepancy_ratio/{m}": r for m, r in rho.items()})
        return Output(fused(turns, votes(self.modalities, batch)), turns)

    @torch.no_grad()
    def protect(self, ctx: Context) -> None:
        """Take what the head saw last out of its weight's gradient."""
        ridge = 0.1 ** (1 + ctx.fraction)
        self.projection.copy_(without(self.projection, self.last_mean, ridge, self.normalize))
        grad = self.shared_head.weight.grad
        assert grad is not None
        grad.copy_(projected(grad, self.projection))


def adapters(dims: Mapping[str, int]) -> tuple[nn.ModuleDict, int]:
    """What brings every modality's feature to the largest width, and that width: nothing, where it has it already."""
    width = max(dims.values())
    return nn.ModuleDict({m: nn.Identity() if d == width else xavier(d, width) for m, d in dims.items()}), width


def xavier(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer, initialised as ``Strategy.head`` is."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def feature_sum(features: Tensor, there: Tensor) -> Tensor:
    """(D + 1,) float64: the sum of features (B, D) of the samples that are ``there`` (B,), and their number."""
    rows = torch.cat([features.detach().double(), features.new_ones(len(features), 1, dtype=torch.float64)], 1)
    return torch.where(there[:, None], rows, 0.0).sum(0)


def mean_feature(sums: Tensor) -> Tensor:
    """(D,) from ``feature_sum``s added up over ranks; 0 if no sample was there."""
    return sums[:-1] / sums[-1].clamp_min(1)


def without(projection: Tensor, mean: Tensor, ridge: float, normalize: Normalize) -> Tensor:
    """(D, D) P after taking in a mean feature r (D,): P - P r (P r)^T / (ridge + r^T P r); ``fro``: over its norm."""
    q = projection @ mean
    found = projection - torch.outer(q, q) / (ridge + mean @ q)
    return found / torch.linalg.matrix_norm(found).clamp_min(1e-12) if normalize == "fro" else found


def projected(grad: Tensor, projection: Tensor) -> Tensor:
    """(C, D) gradient of a head's weight, times P^T."""
    return grad @ projection.T


def votes(modalities: Collection[str], batch: Batch, drop: Collection[str] = ()) -> Tensor:
    """(M, B) bool: which modalities of a sample may speak; where none is left, all do."""
    there = torch.stack([batch.have([m]) & (m not in drop) for m in modalities])
    return there | ~there.any(0)


def entropy(logits: Tensor) -> Tensor:
    """(B,) entropy, over classes, of what logits (B, C) predict; natural logarithm."""
    log_p = full(logits).log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


def trust(logits: Mapping[str, Tensor], there: Tensor) -> Tensor:
    """(M, B) weights that add up to 1 over the modalities that are ``there`` (M, B): softmax of minus the entropy."""
    doubt = torch.stack([entropy(z) for z in logits.values()])
    return (-doubt).masked_fill(~there, -torch.inf).softmax(0)


def fused(logits: Mapping[str, Tensor], there: Tensor) -> Tensor:
    """(B, C): the trusted sum of the modalities' logits."""
    return (trust(logits, there)[..., None] * torch.stack(list(logits.values()))).sum(0)
