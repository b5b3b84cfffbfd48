"""Gradient blending (G-Blend): weigh the unimodal and the joint losses by how well each generalises."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ogm import create
from ogm.context import Context, TrainingContext
from ogm.losses import full
from ogm.strategy import Strategy
from ogm.types import Batch, Output

JOINT = "joint"


class Losses(NamedTuple):
    """Mean losses over whole splits, in evaluation mode, before and after training on one loss alone.

    Attributes:
        train0: Training loss before. val0: validation loss before. train1: training loss after. val1: validation loss
        after.
    """

    train0: float
    val0: float
    train1: float
    val1: float


class GBlend(Strategy):
    """Weigh each loss by its generalisation relative to its overfitting, estimated by training on it alone.

    L = sum_k w_k CE_k over k in {1..M, joint}, sum_k w_k = 1. Each modality has a linear head on its feature; the joint
    loss is that of the fused logits z. The prediction is argmax z.

    The weights are estimated by training on each loss k alone for n epochs (its encoder and head, or all encoders and
    the fusion), with the optimizer and schedule of the run and fresh momentum, and restoring all weights afterwards:
    1. G_k = the decrease of the validation loss.
    2. O_k = the increase of (validation loss - training loss).
    3. w_k = max(G_k, 0) / (O_k^2 + 1e-8), normalised to sum 1; all equal if no G_k is positive.

    In both modes each epoch costs M unimodal epochs and one joint epoch more. With two modalities a run takes three to
    four times as long as joint training.

    Args:
        mode: ``"online"``: estimate before every ``super_epoch`` epochs, from the current weights, n = ``super_epoch``.
            ``"offline"``: estimate once, before training, with n = the epochs of the run.
        super_epoch: Number of epochs between two estimates, 1 or more. A larger one only saves evaluations.

    Differences:
        - The authors never released their estimator. Ours is the published formula.
        - BalanceBenchmark: uses |G_k|, so a loss whose validation gets worse is rewarded; compares sums over splits of
          different sizes; and measures "before" after the first epoch. Ours does none of these.
        - Ours: the validation split is the one that selects checkpoints; the test split is not used. Where a fusion
          lets encoders exchange signals, a unimodal estimate trains the encoder by itself.

    References:
        - Paper: Wang, Tran and Feiszli, CVPR 2020.
        - Code: facebookresearch/VMZ at 4cc542d (loss weighting with given weights); GeWu-Lab/BalanceBenchmark at
          4c1482f.
    """

    category = "loss"
    title = "Gradient-Blending"
    paper = "Wang, Tran and Feiszli, CVPR 2020"
    stages = (
        "before each super-epoch (offline: the run), an estimate per loss, as long as it: M + 1 more epochs for each"
    )
    needs_engine = True
    weights: Tensor
    ratio: Tensor

    def __init__(self, mode: Literal["online", "offline"] = "online", *, super_epoch: int = 10) -> None:
        super().__init__()
        if super_epoch < 1:
            raise ValueError(f"super_epoch={super_epoch}: the number of epochs must be 1 or more")
        self.mode, self.super_epoch = mode, super_epoch

    def setup(self) -> None:
        """Create a head per modality, and the weights of the losses, which start equal."""
        if JOINT in self.modalities:
            raise ValueError(
                f"a modality is called {JOINT!r}, which GBlend uses for the joint loss: rename the modality"
            )
        self.heads = nn.ModuleDict({m: self.head(m) for m in self.modalities})
        self.blended = (*self.modalities, JOINT)
        self.register_buffer("weights", torch.full((len(self.blended),), 1 / len(self.blended)))
        self.register_buffer("ratio", torch.zeros(len(self.blended)))  # |O / G|, for the curves

    def replace_unimodal_logits(self, output: Output) -> Output:
        """Replace the unimodal logits by those of the heads."""
        return replace(output, unimodal_logits={m: head(output.features[m]) for m, head in self.heads.items()})

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the weighted losses of all modalities and the joint one."""
        joint = torch.stack(list(super().losses(output, batch, ctx).values())).sum()
        losses = {m: self.loss(z, batch, ctx, m) for m, z in output.unimodal_logits.items()} | {JOINT: joint}
        weights = dict(zip(self.blended, self.weights.clone().unbind(), strict=True))
        ratios = dict(zip(self.blended, self.ratio.clone().unbind(), strict=True))
        ctx.log(
            **{f"weight/{k}": weight for k, weight in weights.items()},
            **{f"overfitting/{k}": ratio for k, ratio in ratios.items()},
        )
        return blend(losses, weights)

    # ---- estimates
    def on_epoch_start(self, engine: TrainingContext) -> None:
        """Estimate the weights, before the epochs in question."""
        if not engine.epochs:
            raise ValueError("GBlend plans by the length of the run: pass epochs= to the engine")
        length = self.super_epoch if self.mode == "online" else engine.epochs
        if engine.epoch % length:
            return
        losses = self.estimates(min(length, engine.epochs - engine.epoch), engine)
        gains = {k: gain_and_overfitting(values) for k, values in losses.items()}
        weights = blending_weights(gains)
        self.weights.copy_(engine.decide(torch.tensor([weights[k] for k in self.blended]).to(self.weights)))
        ratios = [abs(overfitted) / max(abs(gained), 1e-12) for gained, overfitted in gains.values()]
        self.ratio.copy_(engine.decide(torch.tensor(ratios).to(self.ratio)))

    def estimates(self, epochs: int, engine: TrainingContext) -> dict[str, Losses]:
        """Train on each loss alone, and restore the state of the run bit for bit.

        Args:
            epochs: Number of epochs for each loss.
            engine: The engine of the run.

        Returns:
            Name of the loss -> mean losses before and after.
        """
        assert engine.optimizer is not None
        state, losses = copy.deepcopy(engine.state_dict()), {}
        for name in self.blended:
            engine.strategy = self.alone(name)
            engine.optimizer.state.clear()
            needed = [] if name == JOINT else [name]
            before = mean_loss("train", needed, engine), mean_loss("val", needed, engine)
            for _ in range(epochs):
                engine.train_epoch()
            losses[name] = Losses(*before, mean_loss("train", needed, engine), mean_loss("val", needed, engine))
            engine.strategy = self
            engine.load_state_dict(copy.deepcopy(state))  # an optimizer keeps the very tensors it is given
        return losses

    def alone(self, name: str) -> Strategy:
        """Create a strategy that trains on one loss alone, with the network and heads of the run.

        Args:
            name: A modality, or ``"joint"``.

        Returns:
            The strategy, attached.
        """
        strategy = create("vanilla") if name == JOINT else create("unimodal", modality=name)
        strategy.attach(self._encoders, dims=self.dims, num_classes=self.num_classes, fusion=self._fusion[0])
        if name != JOINT:
            strategy.classifier = self.heads[name]
        strategy.criterion = self.criterion
        return strategy


def mean_loss(split: str, needed: Sequence[str], engine: TrainingContext) -> float:
    """Mean loss of the engine's current strategy over a split, in evaluation mode.

    Args:
        split: Name of the split.
        needed: Modalities that a sample must have to count.
        engine: The engine; its strategy makes the predictions.

    Returns:
        The mean over the samples that have these modalities; 0 if there is none.
    """
    total, count = 0.0, 0.0
    for output, batch in engine.predict(split):
        present = batch.has_all(needed)
        losses = engine.strategy.criterion(full(output.logits), batch.label).double()
        total += float(torch.where(present, losses, 0.0).sum())
        count += float(present.sum())
    return total / max(count, 1.0)


def gain_and_overfitting(losses: Losses) -> tuple[float, float]:
    """Generalisation and overfitting of one loss.

    Args:
        losses: Losses before and after training on it.

    Returns:
        G = val0 - val1, and O = (val1 - train1) - (val0 - train0).
    """
    x = losses
    return x.val0 - x.val1, (x.val1 - x.train1) - (x.val0 - x.train0)


def blending_weights(gains: Mapping[str, tuple[float, float]], eps: float = 1e-8) -> dict[str, float]:
    """Weights of the losses.

    Args:
        gains: Name of the loss -> (G, O).
        eps: Added to O^2.

    Returns:
        Name of the loss -> w, proportional to max(G, 0) / (O^2 + eps), with sum 1; all equal if no G is positive.
    """
    raw = {k: max(g, 0.0) / (o**2 + eps) for k, (g, o) in gains.items()}
    total = sum(raw.values())
    return {k: x / total if total > 0 else 1 / len(raw) for k, x in raw.items()}


def blend(losses: Mapping[str, Tensor], weights: Mapping[str, Tensor | float]) -> dict[str, Tensor]:
    """Multiply each loss by its weight.

    Args:
        losses: Name -> 0-dim loss.
        weights: Name -> weight.

    Returns:
        Name -> 0-dim weighted loss; training minimises their sum.
    """
    return {k: weights[k] * loss for k, loss in losses.items()}
