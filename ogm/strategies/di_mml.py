"""Detached and interactive multimodal learning (DI-MML): separate losses, and a contrast in missing dimensions."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ogm.context import Context, TrainingContext
from ogm.losses import full, one_way
from ogm.parts.stages import last_stage_length, last_stage_start, require_feature_fusion, restore_initial_learning_rate
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class DIMML(Strategy):
    """Train the encoders without any joint loss; each learns from the others only in dimensions that it lacks.

    Stage 1: L = sum_m [CE(g_m(h_m), y) + w CE(G(h_m), y)], with a linear head g_m per modality and one shared head G.
    From epoch e_c on, L_DUC is added:
    1. Once, at the start of epoch e_c, on the training set in evaluation mode: coordinate d of modality m has accuracy
       acc_d, the share of samples whose nearest class centroid in that single coordinate is the true class. It is
       effective if acc_d is above the mean over d. E_m is the set of effective coordinates of modality m.
    2. For each ordered pair (learner m, target n), in the coordinates S that are in E_n but not in E_m: cross-entropy
       of softmax_j(<h_m,i[S], h_n,j[S]> / temperature) with the true pair j = i, without gradient to h_n. The means
       over samples are summed over pairs and divided by M - 1.

    Stage 2: encoders and heads are frozen at their best validation epochs; the fusion is trained with CE.

    Prediction: mean of the M + 1 logits of heads and fusion, weighted per sample by softmax(max softmax(logits) /
    certainty); in stage 1 without the fusion, so that no epoch of stage 1 is selected. Features of
    different widths are first mapped to the largest width by linear layers that are trained too. In stage 2 the
    learning rate is the initial one of the run.

    Args:
        w: Weight of the shared head's loss, 0 or more.
        temperature: T of the contrast, above 0. Released: 50 for CREMA-D and ModelNet40, 10 for AVE and UCF101.
        certainty: T2 of the prediction, above 0. Released: 1 for CREMA-D and UCF101, 3 for AVE and ModelNet40.
        e_c: First epoch with L_DUC, from 0. Default: 2/15 of stage 1, at least 1 (released: 20 of 150).
        fuse: Number of epochs of stage 2, at the end of the run. Default: 2/17 of the run, at least 1 (released: 20 of
            170).

    Differences:
        - Released code: saves both encoders whenever either improves. Ours: each at its own best epoch.
        - Released code: searches effective dimensions on augmented, shuffled data. Ours: without augmentation.
        - Released code: its loader for CREMA-D adds noise to the frames, also at evaluation. Ours: none, since the data
          do not depend on the method.
        - Released code: exponentials of dot products overflow for small temperatures. Ours: log-softmax.
        - Released code: two modalities. The division by M - 1 for more is ours.
        - Ours: a fusion in which the encoders exchange signals is refused, since encoders must be trainable one by one.

    References:
        - Paper: Fan et al., ACM MM 2024.
        - Code: fanyunfeng-bit/DI-MML at 83b9b7a.
    """

    category = "schedule"
    title = "Detached and Interactive Multimodal Learning"
    paper = "Fan et al., ACM MM 2024"
    prediction = "mean of fusion and branches, weighted by certainty"
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
                f"w={w}, temperature={temperature}, certainty={certainty}, e_c={e_c}: choose w >= 0, temperature > 0, "
                "certainty > 0 and e_c >= 0"
            )
        if fuse is not None and fuse < 0:
            raise ValueError(f"fuse={fuse}: the number of epochs of stage 2 must be 0 or more")
        self.w, self.temperature, self.certainty, self.e_c, self.fuse = w, temperature, certainty, e_c, fuse
        self.heads, self.widen = nn.ModuleDict(), nn.ModuleDict()

    def setup(self) -> None:
        """Create heads and adapters, copies of each modality's best modules, and buffers."""
        require_feature_fusion(self)
        width = max(self.dims.values(), default=0)
        self.widen.update({m: nn.Linear(d, width) for m, d in self.dims.items() if d != width})
        self.dims = dict.fromkeys(self.dims, width)  # the width of the heads' inputs
        self.heads.update({m: self.head(m) for m in self.modalities})
        self.shared = self.head(self.modalities[0])
        number = len(self.modalities)
        self.best = nn.ModuleDict({m: copy.deepcopy(self._branch(m)) for m in self.modalities}).requires_grad_(False)
        self.register_buffer("best_accuracy", torch.full((number,), -1.0))
        self.register_buffer("effective", torch.zeros(number, width, dtype=torch.bool))
        self.register_buffer("fusing", torch.tensor(False))

    def _branch(self, m: str) -> nn.ModuleList:
        """The modules of modality m that are saved at its best epoch."""
        return nn.ModuleList([self._encoders[m], self.heads[m], *([self.widen[m]] if m in self.widen else [])])

    def param_groups(self) -> list[dict[str, Any]]:
        """Train heads and adapters, but not the copies."""
        return [{"params": [*self.heads.parameters(), *self.widen.parameters(), *self.shared.parameters()]}]

    # ---- stages
    def first_final_epoch(self, epochs: int) -> int:
        """Return the first epoch of stage 2."""
        return last_stage_start(epochs, 20 / 170, self.fuse)

    def on_epoch_start(self, engine: TrainingContext) -> None:
        """Choose the stage, find effective coordinates once, and freeze what the stage does not train."""
        fuse = last_stage_length(engine.epochs, 20 / 170, self.fuse)
        separate = engine.epochs - fuse
        e_c = max(1, round(separate * 20 / 150)) if self.e_c is None else self.e_c
        self._fusing, self._interactive = engine.epoch >= separate, e_c <= engine.epoch
        if engine.epoch == e_c and not self._fusing:
            self._find_effective(engine)
        self.fusing.fill_(self._fusing)
        if not self._fusing:
            engine.freeze(self.fusion)
            return
        if engine.epoch == separate:
            for m, best in zip(self.modalities, self.best.values(), strict=True):
                self._branch(m).load_state_dict(best.state_dict())
        engine.freeze(*self._encoders.values(), self.heads, self.widen, self.shared)
        restore_initial_learning_rate(engine)

    def on_epoch_end(self, engine: TrainingContext) -> None:
        """Save each branch whose validation accuracy is the best so far."""
        if self._fusing:
            return
        correct, count = torch.zeros(2, len(self.modalities), device=self.best_accuracy.device)
        for output, batch in engine.predict("val"):
            present = torch.stack([batch.has_all([m]) for m in self.modalities])
            predicted = torch.stack([output.unimodal_logits[m].argmax(1) for m in self.modalities])
            correct, count = correct + ((predicted == batch.label) & present).sum(1), count + present.sum(1)
        accuracy = engine.decide(correct / count.clamp_min(1))
        for k, m in enumerate(self.modalities):
            if accuracy[k] > self.best_accuracy[k]:
                self.best[m].load_state_dict(self._branch(m).state_dict())
        self.best_accuracy.copy_(torch.maximum(accuracy, self.best_accuracy))

    def _find_effective(self, engine: TrainingContext) -> None:
        batches = [(self._wide(output.features), batch) for output, batch in engine.predict("train")]
        label = torch.cat([batch.label for _, batch in batches])
        for k, m in enumerate(self.modalities):
            present = torch.cat([batch.has_all([m]) for _, batch in batches])
            features = full(torch.cat([wide[m] for wide, _ in batches]))
            accuracy = dimension_accuracy(features[present], label[present], self.num_classes)
            self.effective[k] = engine.decide(effective_dimensions(accuracy))

    # ---- inside a step
    def _wide(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {m: self.widen[m](f) if m in self.widen else f for m, f in features.items()}

    def replace_unimodal_logits(self, output: Output) -> Output:
        """Replace the unimodal logits by those of the modalities' own heads g_m."""
        wide = self._wide(output.features)
        return replace(output, unimodal_logits={m: head(wide[m]) for m, head in self.heads.items()})

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the losses of stage 1, with L_DUC from epoch e_c on; in stage 2 the CE of the fusion."""
        if self._fusing:
            return super().losses(output, batch, ctx)
        wide, losses = self._wide(output.features), {}
        for m in self.modalities:
            losses[f"private/{m}"] = self.loss(output.unimodal_logits[m], batch, ctx, m)
            losses[f"shared/{m}"] = self.w * self.loss(self.shared(wide[m]), batch, ctx, m)
        if not self._interactive:
            return losses
        effective = dict(zip(self.modalities, self.effective, strict=True))
        for m in self.modalities:
            for n in self.modalities:
                if n != m:
                    lacking = effective[n] & ~effective[m]
                    pull = interaction(wide[m], wide[n], lacking, self.temperature, batch.has_all([m, n]))
                    mean = ctx.mean(pull, batch.weights([m, n]))
                    losses[f"interaction/{m}<-{n}"] = mean / (len(self.modalities) - 1)
        return losses

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        """Predict with the mean of all heads, weighted by certainty; in stage 2 with the fusion among them."""
        output = super().forward(model, batch, drop)
        present = {m: batch.has_all([m]) & (m not in drop) for m in self.modalities}
        logits, counted = list(output.unimodal_logits.values()), list(present.values())
        if bool(self.fusing):
            logits, counted = [*logits, output.logits], [*counted, torch.ones_like(counted[0])]
        return replace(output, logits=certainty_weighted_mean(logits, self.certainty, counted)[0])


def dimension_accuracy(features: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """How well each single coordinate separates the classes.

    Args:
        features: (N, D).
        label: (N,).
        num_classes: Number of classes C.

    Returns:
        (D,) for each coordinate, the share of samples whose nearest class centroid in it is that of the true class. A
        tie in distance goes to the lower class; a class without samples has no centroid.
    """
    one_hot = nn.functional.one_hot(label, num_classes).to(features.dtype)  # (N, C)
    centroids = (one_hot.T @ features / one_hot.sum(0)[:, None]).nan_to_num(torch.inf)  # (C, D)
    correct = [
        (chunk[:, None] - centroids).abs().argmin(1) == chunk_label[:, None]  # (n, C, D) -> (n, D)
        for chunk, chunk_label in zip(torch.split(features, 64), torch.split(label, 64), strict=True)
    ]
    return torch.cat(correct).to(features.dtype).mean(0)


def effective_dimensions(accuracy: Tensor) -> Tensor:
    """The coordinates that separate the classes better than average.

    Args:
        accuracy: (D,) accuracies of the coordinates.

    Returns:
        (D,) bool.
    """
    return accuracy > accuracy.mean()


def interaction(learner: Tensor, target: Tensor, dims: Tensor, temperature: float, valid: Tensor | None) -> Tensor:
    """L_DUC of one pair of modalities.

    Args:
        learner: (B, D) features that receive the gradient.
        target: (B, D) features of the other modality; they receive none.
        dims: (D,) bool, the coordinates that count.
        temperature: Divides the dot products.
        valid: (B,) bool, the samples that have both modalities; None: all.

    Returns:
        (B,) cross-entropies of softmax_j(<learner_i, target_j> / temperature) at j = i. The other samples of the global
        batch, also of the same class, are negatives. 0 if no coordinate counts.
    """
    mask = dims.to(learner.dtype)
    values = one_way(learner * mask, (target * mask).detach(), temperature, valid)
    return torch.where(dims.any(), values, 0.0)


def certainty_weighted_mean(
    logits: Sequence[Tensor], temperature: float, present: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Mean of several predictions, weighted per sample by their certainty.

    Args:
        logits: K tensors (B, C).
        temperature: Divides the certainties, the largest softmax values.
        present: K tensors (B,) bool, which predictions count for each sample. If none counts, all do.

    Returns:
        (B, C) weighted mean of the logits, and the weights (K, B).
    """
    stacked, counted = torch.stack([full(z) for z in logits]), torch.stack(list(present))
    counted = counted | ~counted.any(0)
    certainty = stacked.softmax(2).amax(2) / temperature
    weight = certainty.masked_fill(~counted, -torch.inf).softmax(0)
    return (weight[..., None] * stacked).sum(0), weight
