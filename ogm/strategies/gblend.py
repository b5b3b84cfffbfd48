"""Gradient blending: weigh the unimodal and the joint losses by how well training on each generalises."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.engine import Engine
from ogm.losses import full
from ogm.strategies.unimodal import Unimodal
from ogm.strategies.vanilla import Vanilla
from ogm.strategy import Strategy
from ogm.types import Batch, Output

JOINT = "joint"


class Losses(NamedTuple):
    """Mean losses over whole splits, in evaluation mode, before and after training on one loss alone."""

    train0: float
    val0: float
    train1: float
    val1: float


class GBlend(Strategy):
    """Wang, Tran and Feiszli, CVPR 2020 (spec methods_gradient.md, 3.11).

    L = sum_k w_k CE_k over k = every modality (a linear head of its own on its encoder) and the joint prediction, which
    alone predicts. The weights come of estimates. For each k alone, network and heads are trained for ``super_epoch``
    epochs on CE_k (its encoder and head, or all encoders and the fusion), with the run's optimizer and schedule and
    fresh momentum, and are put back. G_k is the drop of the validation loss meanwhile, O_k the growth of the gap
    between validation and training loss; w_k is proportional to max(G_k, 0) / (O_k^2 + 1e-8), and they add up to 1; if
    nothing generalises all are alike. ``mode="online"`` estimates before every ``super_epoch`` epochs, from where the
    run stands; ``"offline"`` once, before the first, over as many epochs as the run has.

    Either way each epoch costs M unimodal ones and a joint one besides: with two modalities, a run takes three to four
    times as long as joint training. A long ``super_epoch`` saves evaluations only. Where a fusion lets encoders
    exchange signals, a unimodal estimate is of the encoder by itself. The validation split here is the one that
    checkpoints are selected on; the test split is not looked at. The estimator was never released; BalanceBenchmark's
    takes |G_k|, so that a loss whose validation gets worse is rewarded, and compares sums over splits of unlike length.
    """

    category = "loss"
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
            raise ValueError(f"super_epoch={super_epoch}: needs 1 epoch or more")
        self.mode, self.super_epoch = mode, super_epoch

    def setup(self) -> None:
        if JOINT in self.modalities:
            raise ValueError(f"a modality is called {JOINT!r}, which is GBlend's name for all of them: rename it")
        self.heads = nn.ModuleDict({m: self.head(m) for m in self.modalities})
        self.blended = (*self.modalities, JOINT)
        self.register_buffer("weights", torch.full((len(self.blended),), 1 / len(self.blended)))
        self.register_buffer("ratio", torch.zeros(len(self.blended)))  # |O / G|, for the curves

    def read(self, output: Output) -> Output:
        return replace(output, unimodal_logits={m: head(output.features[m]) for m, head in self.heads.items()})

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        joint = torch.stack(list(super().losses(output, batch, ctx).values())).sum()
        found = {m: self.loss(z, batch, ctx, m) for m, z in output.unimodal_logits.items()} | {JOINT: joint}
        weights = dict(zip(self.blended, self.weights.clone().unbind(), strict=True))
        ratios = dict(zip(self.blended, self.ratio.clone().unbind(), strict=True))
        ctx.log(**{f"weight/{k}": w for k, w in weights.items()}, **{f"overfitting/{k}": r for k, r in ratios.items()})
        return blend(found, weights)

    # ---- estimates
    def on_epoch_start(self, engine: Engine) -> None:
        if not engine.epochs:
            raise ValueError("GBlend looks ahead by super-epochs of the run: the engine must be told epochs=")
        length = self.super_epoch if self.mode == "online" else engine.epochs
        if engine.epoch % length:
            return
        found = self.estimates(min(length, engine.epochs - engine.epoch), engine)
        gains = {k: gain(x) for k, x in found.items()}
        weights = blending_weights(gains)
        self.weights.copy_(engine.decide(torch.tensor([weights[k] for k in self.blended]).to(self.weights)))
        ratios = [abs(o) / max(abs(g), 1e-12) for g, o in gains.values()]
        self.ratio.copy_(engine.decide(torch.tensor(ratios).to(self.ratio)))

    def estimates(self, epochs: int, engine: Engine) -> dict[str, Losses]:
        """What so many epochs on each loss alone lead to. The run is left as it was, to the bit: as by a checkpoint."""
        assert engine.optimizer is not None
        here, found = copy.deepcopy(engine.state_dict()), {}
        for name in self.blended:
            engine.strategy = self.alone(name)
            engine.optimizer.state.clear()
            before = mean_loss("train", engine), mean_loss("val", engine)
            for _ in range(epochs):
                engine.train_epoch()
            found[name] = Losses(*before, mean_loss("train", engine), mean_loss("val", engine))
            engine.strategy = self
            engine.load_state_dict(copy.deepcopy(here))  # an optimizer keeps the very tensors it is given
        return found

    def alone(self, name: str) -> Strategy:
        """The strategy that trains one of the losses, on the run's own network and heads."""
        one: Strategy = Vanilla() if name == JOINT else Unimodal(name)
        one.attach(self._encoders, dims=self.dims, num_classes=self.num_classes, fusion=self._fusion[0])
        if isinstance(one, Unimodal):
            head = self.heads[name]
            assert isinstance(head, nn.Linear)
            one.classifier = head
        one.criterion = self.criterion
        return one


def mean_loss(split: str, engine: Engine) -> float:
    """Mean loss of what is predicted about a whole split, over the samples that the loss is of; evaluation mode."""
    total, count = 0.0, 0.0
    needed = [engine.strategy.modality] if isinstance(engine.strategy, Unimodal) else []
    for output, batch in engine.predict(split):
        here = batch.have(needed)
        losses = engine.strategy.criterion(full(output.logits), batch.label).double()
        total += float(torch.where(here, losses, 0.0).sum())
        count += float(here.sum())
    return total / max(count, 1.0)


def gain(losses: Losses) -> tuple[float, float]:
    """G, by how much the validation loss fell, and O, by how much the gap of validation over training loss grew."""
    x = losses
    return x.val0 - x.val1, (x.val1 - x.train1) - (x.val0 - x.train0)


def blending_weights(gains: Mapping[str, tuple[float, float]], eps: float = 1e-8) -> dict[str, float]:
    """Loss -> w, proportional to max(G, 0) / (O^2 + eps), adding up to 1; all alike if no G is above 0."""
    raw = {k: max(g, 0.0) / (o**2 + eps) for k, (g, o) in gains.items()}
    total = sum(raw.values())
    return {k: x / total if total > 0 else 1 / len(raw) for k, x in raw.items()}


def blend(losses: Mapping[str, Tensor], weights: Mapping[str, Tensor | float]) -> dict[str, Tensor]:
    """Each loss times its weight: what training minimises is their sum."""
    return {k: weights[k] * loss for k, loss in losses.items()}
