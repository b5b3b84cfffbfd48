"""Detached and interactive: no joint loss at all; encoders learn apart, and hint to each other what they lack."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.engine import Engine
from ogm.losses import full, one_way
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class DIMML(Strategy):
    """Fan et al., ACM MM 2024 (spec methods_loss.md, section 14).

    Stage 1: sum_m [CE(g_m(h_m)) + w CE(G(h_m))] with a private head g_m each and one head G for all; from epoch ``e_c``
    on also L_DUC, which pulls each feature towards the others' in the dimensions where only the others are effective
    (``effective_dimensions``, found once, on the training set, in evaluation mode). Stage 2: encoders and heads stand
    still, each at its best validation epoch, and the fusion trains with CE. The prediction is a mean of all M + 1
    logits, weighted by their certainty; in stage 1, while the fusion is untrained, of the heads'.

    The run's epochs are divided as in the paper, 150 + 20: stage 2 is the last ``fuse`` of them (default 2/17 of the
    run, at least one; a run of one epoch has none), and ``e_c`` is by default 2/15 of stage 1 (20 of 150, at least 1).
    Stage 2 has the learning rate that the run began with, until its end. Default ``temperature`` and ``certainty``
    (T and T2) are those of the spec, for AVE the paper's are 10 and 3, for CREMA-D 50 and 1.

    Where we leave the released code: it overwrites both encoders whenever *either* improves; its search for effective
    dimensions sees augmented, shuffled data; its loader for CREMA-D adds noise to the frames, in evaluation too (data
    are not a method's here, so none is added); its exponentials of raw dot products overflow where T is small. For
    three or more modalities the pairs' losses are divided by M - 1 (ours). Features of unlike width are first brought
    to the widest one's, by linear layers that train along. Each encoder must be one that learns apart, so a fusion that
    lets them exchange maps or tokens on their way is refused.
    """

    category = "schedule"
    paper = "Fan et al., ACM MM 2024"
    stages = "within the run: encoders apart, then the fusion alone on frozen encoders"
    needs_engine = True
    needs_whole_batch = True
    effective: Tensor
    best_accuracy: Tensor
    fusing: Tensor

    def __init__(
        self,
        w: float = 1.0,
        temperature: float = 10.0,
        certainty: float = 1.0,
        *,
        e_c: int | None = None,
        fuse: int | None = None,
    ) -> None:
        super().__init__()
        if not (w >= 0 and temperature > 0 and certainty > 0 and (e_c is None or e_c >= 0)):
            raise ValueError(
                f"w={w}, temperature={temperature}, certainty={certainty}, e_c={e_c}: needs w >= 0, both temperatures "
                "above 0, e_c >= 0"
            )
        if fuse is not None and fuse < 0:
            raise ValueError(f"fuse={fuse}: the epochs of stage 2 must be 0 or more")
        self.w, self.temperature, self.certainty, self.e_c, self.fuse = w, temperature, certainty, e_c, fuse
        self.heads, self.widen = nn.ModuleDict(), nn.ModuleDict()

    def setup(self) -> None:
        apart(self)
        width = max(self.dims.values(), default=0)
        self.widen.update({m: nn.Linear(d, width) for m, d in self.dims.items() if d != width})
        self.dims = dict.fromkeys(self.dims, width)  # what the heads read
        self.heads.update({m: self.head(m) for m in self.modalities})
        self.shared = self.head(self.modalities[0])
        number = len(self.modalities)
        self.best = nn.ModuleDict({m: copy.deepcopy(self._branch(m)) for m in self.modalities}).requires_grad_(False)
        self.register_buffer("best_accuracy", torch.full((number,), -1.0))
        self.register_buffer("effective", torch.zeros(number, width, dtype=torch.bool))
        self.register_buffer("fusing", torch.tensor(False))

    def _branch(self, m: str) -> nn.ModuleList:
        """What is kept of m's best epoch."""
        return nn.ModuleList([self._encoders[m], self.heads[m], *([self.widen[m]] if m in self.widen else [])])

    def param_groups(self) -> list[dict[str, Any]]:
        return [{"params": [*self.heads.parameters(), *self.widen.parameters(), *self.shared.parameters()]}]

    # ---- stages
    def on_epoch_start(self, engine: Engine) -> None:
        fuse = last_epochs(engine.epochs, 20 / 170, self.fuse)
        apart_for = engine.epochs - fuse
        e_c = max(1, round(apart_for * 20 / 150)) if self.e_c is None else self.e_c
        self._fusing, self._interactive = engine.epoch >= apart_for, e_c <= engine.epoch
        if engine.epoch == e_c and not self._fusing:
            self._find_effective(engine)
        self.fusing.fill_(self._fusing)
        if not self._fusing:
            engine.freeze(self.fusion)
            return
        if engine.epoch == apart_for:
            for m, kept in zip(self.modalities, self.best.values(), strict=True):
                self._branch(m).load_state_dict(kept.state_dict())
        engine.freeze(*self._encoders.values(), self.heads, self.widen, self.shared)
        full_rate(engine)

    def on_epoch_end(self, engine: Engine) -> None:
        """Keep each branch that has never been better on the validation set."""
        if self._fusing:
            return
        right, count = torch.zeros(2, len(self.modalities), device=self.best_accuracy.device)
        for output, batch in engine.predict("val"):
            there = torch.stack([batch.have([m]) for m in self.modalities])
            said = torch.stack([output.unimodal_logits[m].argmax(1) for m in self.modalities])
            right, count = right + ((said == batch.label) & there).sum(1), count + there.sum(1)
        accuracy = engine.decide(right / count.clamp_min(1))
        for k, m in enumerate(self.modalities):
            if accuracy[k] > self.best_accuracy[k]:
                self.best[m].load_state_dict(self._branch(m).state_dict())
        self.best_accuracy.copy_(torch.maximum(accuracy, self.best_accuracy))

    def _find_effective(self, engine: Engine) -> None:
        seen = [(self._wide(output.features), batch) for output, batch in engine.predict("train")]
        label = torch.cat([batch.label for _, batch in seen])
        for k, m in enumerate(self.modalities):
            there = torch.cat([batch.have([m]) for _, batch in seen])
            features = full(torch.cat([wide[m] for wide, _ in seen]))
            accuracy = dimension_accuracy(features[there], label[there], self.num_classes)
            self.effective[k] = engine.decide(effective_dimensions(accuracy))

    # ---- inside a step
    def _wide(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {m: self.widen[m](f) if m in self.widen else f for m, f in features.items()}

    def read(self, output: Output) -> Output:
        wide = self._wide(output.features)
        return replace(output, unimodal_logits={m: head(wide[m]) for m, head in self.heads.items()})

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        if self._fusing:
            return super().losses(output, batch, ctx)
        wide, found = self._wide(output.features), {}
        for m in self.modalities:
            found[f"private/{m}"] = self.loss(output.unimodal_logits[m], batch, ctx, m)
            found[f"shared/{m}"] = self.w * self.loss(self.shared(wide[m]), batch, ctx, m)
        if not self._interactive:
            return found
        effective = dict(zip(self.modalities, self.effective, strict=True))
        for m in self.modalities:
            for n in self.modalities:
                if n != m:
                    lacking = effective[n] & ~effective[m]
                    pull = interaction(wide[m], wide[n], lacking, self.temperature, batch.have([m, n]))
                    mean = ctx.mean(pull, batch.weights([m, n]))
                    found[f"interaction/{m}<-{n}"] = mean / (len(self.modalities) - 1)
        return found

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        output = super().forward(model, batch, drop)
        there = {m: batch.have([m]) & (m not in drop) for m in self.modalities}
        logits, votes = list(output.unimodal_logits.values()), list(there.values())
        if bool(self.fusing):
            logits, votes = [*logits, output.logits], [*votes, torch.ones_like(votes[0])]
        return replace(output, logits=by_certainty(logits, self.certainty, votes)[0])


def dimension_accuracy(features: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """(D,) for each coordinate of features (N, D): how often the nearest class centroid, in it alone, is the true one.

    A tie in distance goes to the lower class; a class without samples has no centroid.
    """
    member = nn.functional.one_hot(label, num_classes).to(features.dtype)  # (N, C)
    centroids = (member.T @ features / member.sum(0)[:, None]).nan_to_num(torch.inf)  # (C, D)
    right = [
        (some[:, None] - centroids).abs().argmin(1) == truth[:, None]  # (n, C, D) -> (n, D)
        for some, truth in zip(torch.split(features, 64), torch.split(label, 64), strict=True)
    ]
    return torch.cat(right).to(features.dtype).mean(0)


def effective_dimensions(accuracy: Tensor) -> Tensor:
    """(D,) bool: the coordinates whose accuracy (D,) is above the mean of all."""
    return accuracy > accuracy.mean()


def interaction(learner: Tensor, target: Tensor, dims: Tensor, temperature: float, valid: Tensor | None) -> Tensor:
    """(B,) L_DUC of one pair: features (B, D), of which only ``dims`` (D,) bool count; the target gets no gradient.

    Raw dot products; the other samples of the global batch, of the same class too, are the negatives. No ``dims``: 0.
    """
    some = dims.to(learner.dtype)
    pull = one_way(learner * some, (target * some).detach(), temperature, valid)
    return torch.where(dims.any(), pull, 0.0)


def by_certainty(logits: Sequence[Tensor], temperature: float, there: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(B, C) mean of K logits (B, C), weighted by softmax(max softmax / temperature); and the weights (K, B).

    ``there`` (B,) bool each: who is there to vote. A sample for which nobody is lets all vote.
    """
    said, vote = torch.stack([full(z) for z in logits]), torch.stack(list(there))
    vote = vote | ~vote.any(0)
    certain = said.softmax(2).amax(2) / temperature
    weight = certain.masked_fill(~vote, -torch.inf).softmax(0)
    return (weight[..., None] * said).sum(0), weight


def last_epochs(epochs: int, share: float, given: int | None) -> int:
    """How many epochs the last stage gets: what is given, or a share of the run, at least one; never all of them."""
    wanted = max(1, round(share * epochs)) if given is None else given
    return min(wanted, max(epochs - 1, 0))


def full_rate(engine: Engine) -> None:
    """The learning rate that the run began with, for this epoch: the last stage starts something new."""
    assert engine.optimizer is not None
    for group in engine.optimizer.param_groups:
        group["lr"] = group.get("initial_lr", group["lr"])


def apart(strategy: Strategy) -> None:
    """Raises ValueError for a fusion in which no encoder can be trained, or kept, by itself."""
    if getattr(strategy.fusion, "needs", "features") != "features":
        raise ValueError(
            f"{type(strategy).__name__} trains encoders apart from each other: {type(strategy.fusion).__name__} lets "
            "them exchange maps or tokens; take a fusion of features, such as concat"
        )
