"""Sustained boosting (AUG): the weak modality gets further classifiers, each correcting those before it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ogm.context import TrainingContext
from ogm.imbalance import TINY, discrepancy_ratios, true_class_scores
from ogm.losses import full
from ogm.parts.ensembles import average_predictions
from ogm.parts.heads import xavier_linear
from ogm.parts.stages import require_feature_fusion
from ogm.strategy import Strategy
from ogm.types import Batch, Output, Passes

BoostingVariant = Literal["code", "paper"]


class AUG(Strategy):
    """Train the modalities in turn, and from time to time give the weaker one a classifier that corrects the others.

    Modality m has n_m classifiers, at first one: o_m,t = layer2(relu(layer1_m,t(f_m))), each with a first layer of its
    own (D_m -> ``width``), all of all modalities with one second layer (``width`` -> C). O_m is the sum of its o_m,t,
    P_m the sum of all but the last.
    1. In each batch, for m = 1 .. M in configured order, an optimizer step on L_m. Only encoder m, its first layers and
       the second layer get a gradient.
    2. One classifier: L_m = CE(O_m, y). More: L_m = CE(O_m, y) + CE(P_m, y) + (1 - lam p) CE(o_m,n, y), where p,
       without gradient, is what the classifiers before the last know. ``"code"``: softmax(P_m)[y]. ``"paper"``: the sum
       of softmax(o_m,t)[y] over t < n; where it is above 1 / lam, the last term is negative.
    3. After the first epoch and every ``every`` epochs, the scores of that epoch are compared. ``"code"``: with s_m the
       sum of softmax(O_m)[y] over the samples that have all modalities, the second modality gets a classifier if s_1 /
       s_2 > sigma + margin, the first if s_1 / s_2 < sigma - margin. ``"paper"``: with s_m the mean of the sum over t
       of softmax(o_m,t)[y], the second if s_1 - sigma s_2 > margin, the first if s_2 - sigma s_1 > margin.
    4. A classifier that is added begins with a random first layer. ``"paper"``: it is trained like all others.
       ``"code"``: its first layer is never trained; encoder and second layer adapt to it.

    Prediction: merge O_1 + (1 - merge) O_2, with three or more modalities their mean; over the modalities that a sample
    has. The fusion module is not used. The optimizer takes M steps per batch.

    Args:
        lam: Weight of what is known already, 0 or more. Released: 0.5, with 0.2 in its comments.
        variant: ``"code"`` as released, or ``"paper"``; see steps 2 to 4.
        merge: Weight of the first modality in the prediction, in [0, 1]. Released for CREMA-D: 0.4, of audio.
        sigma: How much better the first modality may be than the second, above 0.
        margin: Further difference that is left as it is, 0 or more.
        every: Epochs between two checks, 1 or more; below 1, a share of the run. Default: a tenth of the run.
        most: Largest number of classifiers of a modality, 1 or more; room for all of them is made at the start.
        width: Width of the first layers, 1 or more.

    Differences:
        - Beyond its abstract the paper was not available to us: what is said of it here follows notes of others.
        - Released code: its optimizer is built before any classifier is added, and their gradients are deleted, so
          added first layers stay as they were drawn. Paper: all are trained. Ours: see ``variant``.
        - Released code against paper: also p of step 2 and the score of step 3, a softmax of the sum against a sum of
          softmaxes, and a ratio against a difference.
        - Released code: predicts with 0.4 of audio, a constant for CREMA-D. Ours: 0.5, so that none is preferred.
        - Released code, with the torch of its time: gradients are set to zero between the two steps of a batch, so in
          the step of visual the audio encoder moves on by momentum and weight decay. Ours: None, it does not.
        - Released code: two modalities. Ours for more: the one with the lowest score gets a classifier if the highest
          is above it as in step 3.
        - Ours: a classifier is added when the next epoch begins, since the released code evaluates before adding it;
          the check after the last epoch changes nothing. ``most`` is 20, the paper's number for CREMA-D.

    References:
        - Paper: Jiang, Huang and Yang, NeurIPS 2025 (arXiv 2502.20120).
        - Code: njustkmg/NeurIPS25-AUG at 841d079.
    """

    category = "schedule"
    title = "Mitigating Classification Ability Disproportion"
    paper = "Jiang, Huang and Yang, NeurIPS 2025"
    stages = "within the run, after some epochs the weaker modality gets one more classifier"
    needs_engine = True
    active: Tensor
    epoch_scores: Tensor

    def __init__(
        self,
        lam: float = 0.5,
        *,
        variant: BoostingVariant = "code",
        merge: float = 0.5,
        sigma: float = 1.0,
        margin: float = 0.01,
        every: float | None = None,
        most: int = 20,
        width: int = 256,
    ) -> None:
        super().__init__()
        if not (0 <= lam < math.inf and 0 <= merge <= 1 and 0 < sigma < math.inf and margin >= 0):
            raise ValueError(
                f"lam={lam}, merge={merge}, sigma={sigma}, margin={margin}: choose lam >= 0, merge in [0, 1], "
                "sigma > 0 and margin >= 0"
            )
        if (every is not None and not 0 < every < math.inf) or most < 1 or width < 1:
            raise ValueError(f"every={every}, most={most}, width={width}: choose every > 0, most >= 1 and width >= 1")
        self.lam, self.variant, self.merge, self.sigma, self.margin = lam, variant, merge, sigma, margin
        self.every, self.most, self.width = every, most, width
        self.prediction = "mean of the branches" if merge == 0.5 else "weighted mean of the branches"
        self.layer1 = nn.ModuleDict()
        self._number: dict[str, int] = {}

    def passes(self, modalities: int) -> Passes:
        """Return (M, M): each modality has a backward pass of its own."""
        return Passes(modalities, modalities)

    def setup(self) -> None:
        """Create all classifiers that may be added, how many are in use, and room for the scores of an epoch."""
        require_feature_fusion(self)
        if self.dims.keys() != set(self.modalities) or not self.num_classes:
            raise ValueError("AUG has classifiers of its own: pass dims= and num_classes= to attach")
        for m, wide in self.dims.items():
            layers = nn.ModuleList([xavier_linear(wide, self.width) for _ in range(self.most)])
            if self.variant == "code":
                layers[1:].requires_grad_(False)
            self.layer1[m] = layers
        self.layer2 = xavier_linear(self.width, self.num_classes)
        self.register_buffer("active", torch.ones(len(self.modalities), dtype=torch.int64))
        self.register_buffer("epoch_scores", torch.zeros(len(self.modalities) + 1))  # sums, then how many samples

    def param_groups(self) -> list[dict[str, Any]]:
        """Train what is not frozen from the start."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def first_layers(self, m: str) -> nn.ModuleList:
        """Return the first layers of all classifiers that modality m has or may get."""
        layers = self.layer1[m]
        assert isinstance(layers, nn.ModuleList)
        return layers

    # ---- between epochs
    def on_epoch_start(self, engine: TrainingContext) -> None:
        """Give a modality one more classifier, if the epoch before was one after which is checked (step 3)."""
        if not engine.epochs:
            raise ValueError("AUG plans by the length of the run: pass epochs= to the engine")
        *sums, count = self.epoch_scores.tolist()
        if count and is_checked(engine.epoch - 1, check_period(engine.epochs, self.every)):
            per = count if self.variant == "paper" else 1.0
            scores = {m: total / per for m, total in zip(self.modalities, sums, strict=True)}
            added = modality_to_boost(scores, self.sigma, self.margin, self.variant)
            if added is not None:
                k = self.modalities.index(added)
                self.active[k] = (self.active[k] + 1).clamp_max(self.most)
        self.epoch_scores.zero_()
        self._number = dict(zip(self.modalities, self.active.tolist(), strict=True))

    # ---- inside a step
    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        """Predict with the mean of the modalities' classifiers, weighted by ``merge``."""
        features = {m: model.encoders[m](batch.inputs[m]) for m in self.modalities}
        logits = {}
        for (m, f), active in zip(features.items(), self.active, strict=True):
            every = torch.stack(classifier_logits(f, self.first_layers(m), self.layer2))
            used = torch.arange(self.most, device=every.device) < active  # a mask: the host need not know how many
            logits[m] = torch.where(used[:, None, None], every, 0.0).sum(0)
        present = {m: batch.has_all([m]) & (m not in drop) for m in self.modalities}
        return Output(merged_prediction(logits, present, self.merge), logits, features)

    def step(self, batch: Batch, engine: TrainingContext) -> Output:
        """Train the modalities one after the other, with an optimizer step for each."""
        logits: dict[str, Tensor] = {}
        complete = batch.has_all(self.modalities)
        scores = []
        for m in self.modalities:
            outputs = []
            for part in engine.split(batch):
                with engine.autocast():
                    feature = engine.model.encoders[m](part.inputs[m])
                    each = classifier_logits(feature, self.first_layers(m)[: self._number[m]], self.layer2)
                    losses = {f"unimodal/{m}": engine.mean(self.boosting(each, part.label), part.weights([m]))}
                self.differentiate(losses, engine)
                engine.record(losses)
                outputs.append(torch.stack(each).detach())
            engine.finish_gradients()
            engine.update()
            several = torch.cat(outputs, dim=1)
            scores.append(torch.where(complete, true_probability_of(several, batch.label, self.variant), 0.0).sum())
            logits[m] = several.sum(0)
        self.epoch_scores += engine.total(torch.stack([*scores, complete.sum()]))
        rho = discrepancy_ratios(true_class_scores(logits, batch, engine))
        engine.log(**{f"discrepancy_ratio/{m}": r for m, r in rho.items()})
        engine.log(**{f"classifiers/{m}": float(n) for m, n in self._number.items()})
        return Output(merged_prediction(logits, {m: batch.has_all([m]) for m in self.modalities}, self.merge), logits)

    def boosting(self, each: Sequence[Tensor], label: Tensor) -> Tensor:
        """Compute L of each sample (step 2).

        Args:
            each: n tensors (B, C), the logits of the classifiers.
            label: (B,).

        Returns:
            (B,) losses.
        """
        output = full(torch.stack(list(each)).sum(0))
        loss = self.criterion(output, label)
        if len(each) == 1:
            return loss
        before, last = torch.stack(list(each[:-1])), full(each[-1])
        known = true_probability_of(before.detach(), label, self.variant)
        rest = (1 - self.lam * known) * self.criterion(last, label)
        return loss + self.criterion(full(before.sum(0)), label) + rest


def classifier_logits(feature: Tensor, layer1: Iterable[nn.Module], layer2: nn.Module) -> list[Tensor]:
    """Logits of each classifier of a modality.

    Args:
        feature: (B, D_m).
        layer1: First layers, one of each classifier.
        layer2: Second layer, of all.

    Returns:
        For each classifier (B, C).
    """
    return [layer2(first(feature).relu()) for first in layer1]


def true_probability_of(each: Tensor, label: Tensor, variant: BoostingVariant) -> Tensor:
    """What several classifiers together say of the true class.

    Args:
        each: (n, B, C) logits.
        label: (B,).
        variant: ``"code"``: softmax of the sum. ``"paper"``: sum of the softmaxes, up to n.

    Returns:
        (B,).
    """
    p = full(each.sum(0)).softmax(1) if variant == "code" else full(each).softmax(2).sum(0)
    return p.gather(1, label[:, None])[:, 0]


def merged_prediction(logits: Mapping[str, Tensor], present: Mapping[str, Tensor], merge: float) -> Tensor:
    """Prediction from the logits of all modalities.

    Args:
        logits: Modality -> (B, C).
        present: Modality -> (B,) bool, which samples have it.
        merge: Weight of the first of two modalities.

    Returns:
        (B, C) weighted mean over the modalities that a sample has; equal weights for three modalities or more.
    """
    weights = dict(zip(logits, (merge, 1 - merge), strict=True)) if len(logits) == 2 else None
    return average_predictions(logits, present, "logit_mean", weights)


def check_period(epochs: int, every: float | None) -> int:
    """Epochs between two checks.

    Args:
        epochs: Number of epochs of the run.
        every: That number; below 1, a share of the run; None: a tenth of the run.

    Returns:
        The number, 1 or more; shares are rounded down.
    """
    share = 0.1 if every is None else every
    return max(1, int(share * epochs if share < 1 else share))


def is_checked(epoch: int, period: int) -> bool:
    """Whether the scores are compared after an epoch.

    Args:
        epoch: Number of the epoch, from 0.
        period: Epochs between two checks.

    Returns:
        True after the first epoch, and after each period.
    """
    return epoch == 0 or (epoch + 1) % period == 0


def modality_to_boost(scores: Mapping[str, float], sigma: float, margin: float, variant: BoostingVariant) -> str | None:
    """Choose the modality that gets one more classifier.

    Args:
        scores: Modality -> score of an epoch.
        sigma: How much better the first may be.
        margin: Further difference that is left as it is.
        variant: ``"code"`` compares a ratio, ``"paper"`` a difference.

    Returns:
        The modality; None if the difference is small.
    """
    ordered = list(scores) if len(scores) == 2 else sorted(scores, key=lambda m: -scores[m])
    first, second = ordered[0], ordered[-1]  # of three or more the highest and the lowest
    if variant == "paper":
        if scores[first] - sigma * scores[second] > margin:
            return second
        behind = scores[second] - sigma * scores[first] > margin
    else:
        ratio = scores[first] / max(scores[second], TINY)
        if ratio > sigma + margin:
            return second
        behind = ratio < sigma - margin
    return first if behind and len(scores) == 2 else None
