"""Prototypical modal rebalance: an extra pull towards class prototypes for the modality that lags."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ogm.context import Context
from ogm.engine import Engine
from ogm.imbalance import TINY, true_class_scores
from ogm.losses import full
from ogm.strategy import Strategy
from ogm.types import Batch, Output

WHOLE = 20_000  # training samples up to which prototypes are means over all of them; beyond, over a tenth
Coefficient = Literal["binary", "clipped"]


class PMR(Strategy):
    """Fan et al., CVPR 2023 (spec methods_gradient.md, 3.7): L = CE(z) + alpha sum_m beta_m CE(-D_m).

    D_m are the Euclidean distances, not squared, of modality m's features to its class prototypes; beta, formed before
    the backward pass from the scores of softmax(-D_m), is above 0 for all modalities but the strongest. The fused head
    has no part in it, so its gradients are joint training's. Before each epoch in the window prototypes are made anew
    as class means of features in evaluation mode, and blended: (1 - momentum) fresh + momentum old. A class without
    samples keeps its prototype; one that never had any is nobody's neighbour, and its samples have no such loss.

    ``coefficient="binary"`` is the released code's (1 for the lagging modalities); ``"clipped"``, the paper's as far as
    we know it: clip(s_max / s_m - 1, 0, 1). The prototypical entropy term of the abstract is in no released code, and
    is not here. The code takes its distance as a root with an infinite slope at 0 and divides by empty classes: both
    give NaN. Prototypes are means over the whole training set up to 20,000 samples; beyond, as in the code, over the
    first tenth of the shuffled, augmented batches (of CG-MNIST it takes the test set). ``alpha``, ``momentum`` and the
    window are those of its commands for CREMA-D and AVE: epochs 0 to 70 of 150; for CG-MNIST they are 1 and 0 to 60,
    which a run on that is given. A run of 20 epochs never leaves either.
    """

    category = "loss"
    paper = "Fan et al., CVPR 2023"
    stages = "before each epoch, the encoders over the training set once: prototypes"
    touches = "encoders"
    needs_whole_batch = True
    needs_engine = True

    def __init__(
        self,
        alpha: float = 2.0,
        momentum: float = 0.0,
        coefficient: Coefficient = "binary",
        *,
        start: int = 0,
        end: int | None = 70,
    ) -> None:
        super().__init__(start=start, end=end)
        if not (alpha >= 0 and 0 <= momentum < 1):
            raise ValueError(f"alpha={alpha}, momentum={momentum}: needs alpha >= 0, 0 <= momentum < 1")
        self.alpha, self.momentum, self.coefficient = alpha, momentum, coefficient

    def setup(self) -> None:
        if self.dims.keys() != set(self.modalities) or not self.num_classes:
            raise ValueError("PMR keeps a prototype per class and modality: pass dims= and num_classes= to attach")
        for m in self.modalities:
            self.register_buffer(f"prototypes_{m}", torch.zeros(self.num_classes, self.dims[m]))
            self.register_buffer(f"known_{m}", torch.zeros(self.num_classes, dtype=torch.bool))

    def prototypes(self, modality: str) -> tuple[Tensor, Tensor]:
        """(C, D_m) prototypes, and (C,) bool which classes have one."""
        return self.get_buffer(f"prototypes_{modality}"), self.get_buffer(f"known_{modality}")

    @torch.no_grad()
    def on_epoch_start(self, engine: Engine) -> None:
        if not self.active(engine):
            return
        loader = engine.loaders["train"]
        batches: Iterable[Batch] = loader.all()
        if loader.num_samples > WHOLE:
            shuffled = loader.epoch(engine.epoch)
            batches = itertools.islice(shuffled, max(1, len(shuffled) // 10))
        sums: dict[str, Tensor] = {}
        engine.model.train(False)
        for batch in batches:
            with engine.autocast():
                features = engine.model.encode(batch.inputs, batch.present)
            for m, f in features.items():
                sums[m] = sums.get(m, 0) + class_sums(f, batch.label, self.num_classes, batch.have([m]))
        for m, found in sums.items():
            old, known = self.prototypes(m)
            found = engine.total(found)  # where every rank saw all of them, sums and counts grow alike
            old.copy_(blended(old, known, found, self.momentum))
            known |= found[:, -1] > 0

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        found = super().losses(output, batch, ctx)
        if not self.active(ctx):
            return found
        near, sure = {}, {}
        for m in self.modalities:
            prototypes, known = self.prototypes(m)
            near[m], sure[m] = nearness(output.features[m], prototypes, known), known[batch.label]
        score = true_class_scores(near, batch, ctx)
        beta = coefficients(score, self.coefficient)
        ctx.log(**{f"prototype_score/{m}": s for m, s in score.items()}, **{f"beta/{m}": b for m, b in beta.items()})
        for m, z in near.items():
            there = batch.weights([m])
            counted = sure[m].to(z.dtype) * (1.0 if there is None else there)
            found[f"prototype/{m}"] = self.alpha * beta[m] * ctx.mean(self.criterion(z, batch.label), counted)
        return found


def class_sums(features: Tensor, label: Tensor, classes: int, there: Tensor) -> Tensor:
    """(C, D + 1) float64: per class, the sum of features (B, D) over samples that are ``there`` (B,), and their number.

    To be added up over batches and ranks before anything is divided.
    """
    rows = torch.cat([features.double(), features.new_ones(len(features), 1, dtype=torch.float64)], 1)
    one_hot = F.one_hot(label, classes).double()
    return one_hot.T @ torch.where(there[:, None], rows, 0.0)


def blended(old: Tensor, known: Tensor, sums: Tensor, momentum: float) -> Tensor:
    """(C, D) prototypes: momentum old + (1 - momentum) fresh where the class was ``known`` (C,) before, else fresh.

    ``sums`` as of ``class_sums``; a class without samples keeps its old one.
    """
    count = sums[:, -1:]
    fresh = (sums[:, :-1] / count.clamp_min(1)).to(old.dtype)
    mixed = torch.where(known[:, None], momentum * old + (1 - momentum) * fresh, fresh)
    return torch.where(count > 0, mixed, old)


def nearness(features: Tensor, prototypes: Tensor, known: Tensor) -> Tensor:
    """(B, C) -||z_i - c_k||, the logits of prototypes (C, D) for features (B, D); next to nothing where not ``known``.

    Where a feature is its prototype the slope is 0. Not by a matrix product, which is off by rounding near 0.
    """
    with torch.autocast(features.device.type, enabled=False):
        x = full(features)
        distance = torch.cdist(x, prototypes.to(x.dtype), compute_mode="donot_use_mm_for_euclid_dist")
    return (-distance).masked_fill(~known, torch.finfo(x.dtype).min)


def coefficients(scores: Mapping[str, Tensor], rule: Coefficient = "binary") -> dict[str, Tensor]:
    """modality -> beta, 0-dim, from score sums: 0 for the strongest, for all at a tie, and where there is no score."""
    most = torch.stack(list(scores.values())).amax()
    if rule == "binary":
        return {m: (s < most).to(s.dtype) for m, s in scores.items()}
    lag = {m: (most / s.clamp_min(TINY) - 1).clamp(0, 1) for m, s in scores.items()}
    return {m: torch.where(most > TINY, x, 0.0) for m, x in lag.items()}
