"""Unidirectional dynamic interaction (UDI): a frozen anchor modality guides the training of the others."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ogm.context import Context, TrainingContext
from ogm.imbalance import discrepancy_ratios, true_class_scores
from ogm.losses import full, kl
from ogm.parts.ensembles import counted_modalities, summed_logits
from ogm.parts.heads import gather_rows, row_moments, xavier_linear
from ogm.parts.stages import require_feature_fusion
from ogm.parts.teachers import best_modality, load_encoders, unimodal_prerequisites, validation_scores
from ogm.seeds import fold_in
from ogm.strategy import Strategy
from ogm.types import Batch, Output, Passes, Prerequisite


class UDI(Strategy):
    """Train the best modality alone and freeze it; the others then learn apart, guided by its frozen features.

    1. Train one ``unimodal`` model per modality. The anchor a is the one with the highest validation accuracy as it was
       after its best validation epoch; of several, the one with the lowest mean entropy, then the first. Its encoder
       and head are copied and frozen.
    2. Every other modality m, the follower, trains its encoder and a linear head g_m on
       L = CE(g_m, y) + alpha_con L_con + alpha_com L_com, with f_m (B, D_m) its features:
       - L_con = mean JS(softmax g_a || softmax g_m), so that the predictions agree (eq. 5).
       - L_com = mean_i log q(f_m,i | f_a,i) - mean_ij log q(f_m,j | f_a,i), an upper bound of the mutual information
         of the features (CLUB), so that the follower finds something else (eq. 8). Over the global batch.
    3. q is a Gaussian with diagonal covariance, whose mean and log-variance are a network of two layers of f_a. In each
       batch, before step 2, it takes one optimizer step on its negative log-likelihood.
    4. Before each epoch, on its first batch: xi_x = <grad CE, grad L_x> over the parameters of encoder m, x = con, com;
       alpha_x = relu(xi_x) / (relu(xi_con) + relu(xi_com) + 1e-8). A term that conflicts with CE has weight 0.

    Prediction: the sum of the logits g_m over the modalities that a sample has. The fusion module is not used. L_con
    and L_com count samples with both modalities. The optimizer takes two steps per batch, one of them for q alone.

    Args:
        width: Width of the hidden layer of q, 1 or more.
        estimator_lr: Initial learning rate of q, above 0, with the optimizer and schedule of the run.

    Differences:
        - There is no released code. Paper: does not say what q is beyond a lightweight network. Ours: two layers, the
          log-variance bounded by tanh as in CLUB's released code, trained by the run's optimizer.
        - Paper: eq. 5 is a sum over samples. Ours: a mean, so that it does not depend on the batch size.
        - Ours: followers start from scratch, as the anchor did, not from their own unimodal runs, which only serve to
          choose the anchor.
        - Ours, for three or more modalities: each follower interacts with the anchor alone. They share nothing, so they
          are trained side by side in one run rather than one after the other.
        - Ours: a fusion in which the encoders exchange signals is refused, since encoders must be trainable one by one.

    References:
        - Paper: Wang, Zhang, Liang, Qian and Hu, 2025 (arXiv 2509.02281).
        - Paper: Cheng et al., ICML 2020 (CLUB).
        - Code of CLUB: Linear95/CLUB at 57b4ad7.
        - Code: none was released.
    """

    category = "stage"
    title = "Unidirectional Dynamic Interaction"
    paper = "Wang et al., 2025 (arXiv 2509.02281)"
    prediction = "sum of the branches"
    stages = "one unimodal run per modality first: the best is frozen; within the run the others, guided by it"
    needs_engine = True
    needs_whole_batch = True
    anchor: Tensor
    alpha: Tensor

    def __init__(self, width: int = 64, *, estimator_lr: float = 1e-3) -> None:
        super().__init__()
        if width < 1 or not 0 < estimator_lr < math.inf:
            raise ValueError(f"width={width}, estimator_lr={estimator_lr}: choose width >= 1 and estimator_lr > 0")
        self.width, self.estimator_lr = width, estimator_lr
        self.heads, self.estimators = nn.ModuleDict(), nn.ModuleDict()

    def prerequisites(self, modalities: Sequence[str]) -> dict[str, Prerequisite]:
        """Name one ``unimodal`` run per modality."""
        return unimodal_prerequisites(modalities)

    def passes(self, modalities: int) -> Passes:
        """Return (M, 2): the anchor's encoder runs, too, and q has a backward pass of its own."""
        return Passes(modalities, 2)

    def setup(self) -> None:
        """Create heads, buffers, and a network q for each pair: which of them is the anchor is not known yet."""
        require_feature_fusion(self)
        self.heads.update({m: self.head(m) for m in self.modalities})
        for a in self.modalities:
            others = {m: GaussianEstimator(self.dims[a], self.dims[m], self.width) for m in self.modalities if m != a}
            self.estimators[a] = nn.ModuleDict(others)
        self.register_buffer("anchor", torch.tensor(-1))  # its number; -1: not known yet
        self.register_buffer("alpha", torch.zeros(len(self.modalities), 2))  # alpha_con and alpha_com

    def param_groups(self) -> list[dict[str, Any]]:
        """Train q with a learning rate of its own, and without clipping."""
        return [
            {"params": list(self.heads.parameters())},
            {"params": list(self.estimators.parameters()), "lr": self.estimator_lr, "clip": False},
        ]

    # ---- stages
    def on_epoch_start(self, engine: TrainingContext) -> None:
        """Choose and freeze the anchor once, and set the weights of this epoch."""
        if int(self.anchor) < 0:
            a = best_modality(*validation_scores(self._trained, self.modalities, engine))
            trained = cast(Any, self._trained[a])
            load_encoders({a: self._encoders[a]}, {a: trained.encoder})
            self.heads[a].load_state_dict(trained.classifier.state_dict())
            self.anchor.fill_(self.modalities.index(a))
        self._anchor = self.modalities[int(self.anchor)]
        self._followers = [m for m in self.modalities if m != self._anchor]
        engine.freeze(self._encoders[self._anchor], self.heads[self._anchor], self.fusion)
        self.set_weights(engine)

    def set_weights(self, engine: TrainingContext) -> None:
        """Compute the weights alpha from the gradients of one batch (step 4), which change nothing else.

        Args:
            engine: The engine of the run.
        """
        torch.manual_seed(fold_in(engine.seed, "udi/weights", engine.epoch))
        statistics = [b for e in self._encoders.values() for b in e.buffers()]
        saved = [b.clone() for b in statistics]
        engine.model.train()
        self._encoders[self._anchor].eval()
        (part,) = engine.split(next(iter(engine.loaders["train"].epoch(engine.epoch))))
        with engine.autocast():
            output = self.forward(engine.model, part)
            terms = {m: self.terms(m, output, part, engine) for m in self._followers}
        parameters = {m: self.parameters_of(m) for m in self._followers}
        together = {x: torch.stack([terms[m][x] for m in self._followers]).sum() for x in ("cls", "con", "com")}
        gradients = engine.gradients(together, [p for several in parameters.values() for p in several])
        for b, value in zip(statistics, saved, strict=True):  # not before: the graph needs them as they are
            b.copy_(value)
        start = 0
        for m, several in parameters.items():  # of each follower its own part: no term reaches another's encoder
            own = {x: g[start : start + len(several)] for x, g in gradients.items()}
            self.alpha[self.modalities.index(m)] = interaction_weights(own["cls"], own["con"], own["com"])
            start += len(several)

    # ---- inside a step
    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        """Predict with the sum of the heads' logits."""
        features = {m: model.encoders[m](batch.inputs[m]) for m in self.modalities}
        logits = {m: self.heads[m](f) for m, f in features.items()}
        return Output(summed_logits(logits, counted_modalities(self.modalities, batch, drop)), logits, features)

    def terms(self, m: str, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the three terms of a follower's loss, without their weights.

        Args:
            m: The follower.
            output: Output of the step.
            batch: The batch of this step.
            ctx: Communication between ranks.

        Returns:
            ``"cls"``, ``"con"`` and ``"com"`` -> 0-dim.
        """
        both = batch.weights([self._anchor, m])
        agreement = consistency(output.unimodal_logits[self._anchor].detach(), output.unimodal_logits[m])
        mean, log_variance = self.gaussian(m, output)
        valid = batch.has_all([self._anchor, m]) if batch.present else None
        shared = complement(output.features[m], mean, log_variance, valid)
        return {
            "cls": self.loss(output.unimodal_logits[m], batch, ctx, m),
            "con": ctx.mean(agreement, both),
            "com": ctx.mean(shared, both),
        }

    def gaussian(self, m: str, output: Output) -> tuple[Tensor, Tensor]:
        """Compute what q expects of a follower's features.

        Args:
            m: The follower.
            output: Output of the step.

        Returns:
            Mean and log-variance, (B, D_m) each.
        """
        estimator = cast(Any, self.estimators[self._anchor])[m]
        mean, log_variance = estimator(output.features[self._anchor].detach())
        return mean, log_variance

    def step(self, batch: Batch, engine: TrainingContext) -> Output:
        """Train q, then the followers, on one batch."""
        (part,) = engine.split(batch)
        with engine.autocast():
            output = self.forward(engine.model, part)  # the anchor is frozen: there is no graph through it
            fit = {}
            for m in self._followers:
                nll = estimator_loss(output.features[m].detach(), *self.gaussian(m, output))
                fit[f"estimator/{m}"] = engine.mean(nll, part.weights([self._anchor, m]))
        self.take_step(fit, engine)
        with engine.autocast():
            losses: dict[str, Tensor] = {}
            for m in self._followers:
                con, com = self.alpha[self.modalities.index(m)].unbind()
                terms = self.terms(m, output, part, engine)
                losses |= {f"unimodal/{m}": terms["cls"], f"consistency/{m}": con * terms["con"]}
                losses |= {f"complement/{m}": com * terms["com"]}
                engine.log(**{f"alpha_con/{m}": con.clone(), f"alpha_com/{m}": com.clone()})
        self.take_step(losses, engine)
        output = output.detach()
        rho = discrepancy_ratios(true_class_scores(output.unimodal_logits, batch, engine))
        engine.log(**{f"discrepancy_ratio/{m}": r for m, r in rho.items()})
        return output

    def take_step(self, losses: dict[str, Tensor], engine: TrainingContext) -> None:
        """Take one optimizer step.

        Args:
            losses: Name -> 0-dim loss.
            engine: The engine of the run.
        """
        self.differentiate(losses, engine)
        engine.record(losses)
        engine.finish_gradients()
        engine.update()


class GaussianEstimator(nn.Module):
    """q(f_m | f_a): the mean and the logarithm of the variance of a follower's features, given the anchor's.

    Args:
        inputs: Width of the anchor's features.
        outputs: Width of the follower's features.
        width: Width of the hidden layer.
    """

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(xavier_linear(inputs, width), nn.ReLU(), xavier_linear(width, 2 * outputs))

    def forward(self, anchor: Tensor) -> tuple[Tensor, Tensor]:
        """Predict a distribution.

        Args:
            anchor: (B, inputs).

        Returns:
            Mean (B, outputs), and log-variance (B, outputs) between -1 and 1.
        """
        mean, raw = full(self.layers(anchor)).chunk(2, dim=1)
        return mean, raw.tanh()


def consistency(one: Tensor, other: Tensor) -> Tensor:
    """Jensen-Shannon divergence of two predictions (L_con of each sample).

    Args:
        one: (B, C) logits.
        other: (B, C) logits.

    Returns:
        (B,) divergences, natural logarithm.
    """
    p, q = full(one).log_softmax(1), full(other).log_softmax(1)
    mixture = torch.logaddexp(p, q) - math.log(2)
    return (kl(p, mixture) + kl(q, mixture)) / 2


def estimator_loss(follower: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Negative log-likelihood of features under a Gaussian with diagonal covariance.

    Args:
        follower: (B, D) features.
        mean: (B, D).
        log_variance: (B, D).

    Returns:
        (B,) -log q.
    """
    squares = (full(follower) - mean).square() * (-log_variance).exp()
    return (squares + log_variance + math.log(2 * math.pi)).sum(1) / 2


def complement(follower: Tensor, mean: Tensor, log_variance: Tensor, valid: Tensor | None = None) -> Tensor:
    """CLUB: an upper bound of the mutual information of two features (L_com of each sample).

    With j over the N rows of the global batch, log q(f_i | a_i) - mean_j log q(f_j | a_i). Only the squares differ, and
    the mean of (f_j - mu)^2 over j is the variance of f plus (its mean - mu)^2, so no pairs are formed.

    Args:
        follower: (B, D) features f of this rank.
        mean: (B, D) mean mu of q, given the anchor's features a.
        log_variance: (B, D) of q.
        valid: (B,) bool, which rows count among the j; None: all.

    Returns:
        (B,) per sample i; those of rows that are not valid must not be counted.
    """
    follower = full(follower)
    centre, variance = row_moments(*gather_rows(follower, valid))
    others = variance + (centre - mean).square()
    return ((others - (follower - mean).square()) * (-log_variance).exp()).sum(1) / 2


def interaction_weights(cls: Sequence[Tensor], con: Sequence[Tensor], com: Sequence[Tensor]) -> Tensor:
    """Weights of the two interactions: how far the gradient of each agrees with that of the classification.

    Args:
        cls: Gradients of CE, one per parameter.
        con: Gradients of L_con.
        com: Gradients of L_com.

    Returns:
        (2,) alpha_con and alpha_com; 0 for one that conflicts, and both 0 if both do.
    """
    products = [
        torch.stack([(x.double() * y.double()).sum() for x, y in zip(cls, other, strict=True)]).sum()
        for other in (con, com)
    ]
    agreement = torch.stack(products).relu()
    return agreement / (agreement.sum() + 1e-8)
