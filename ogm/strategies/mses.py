"""Early stopping for each modality by itself: who no longer gains goes back to its best, and stays there."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ogm.engine import Engine
from ogm.strategies.mlb import final_layer
from ogm.strategies.mslr import validation
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class MSES(Strategy):
    """Modality-specific early stopping, a baseline in the repository of AGM; spec methods_gradient.md, 3.10.

    After every epoch the validation loss of each modality's unimodal logits is smoothed, 0.6 of the last epoch's plus
    0.4 of this one's (not recursively). A modality whose best is more than ``patience`` epochs ago (default: a tenth of
    the run, at least 5) stops: its encoder, and its own layer of the head where it has one (sum, late), go back to that
    best, and from then on stand still, running statistics too. When all have stopped, nothing is trained any more.

    The released code instead multiplies gradients by zero, so that momentum and weight decay move on, and goes back to
    the best epoch with the *whole* model, undoing what the other modality learned; it crashes if the first epoch was
    the best. The original publication was not at hand.
    """

    category = "schedule"
    paper = "baseline of Li et al., ICCV 2023"
    stages = "validation after every epoch; modalities stop one by one"
    touches = "nothing"
    needs_engine = True
    watched: Tensor

    def __init__(self, patience: int | None = None) -> None:
        super().__init__()
        if patience is not None and patience < 0:
            raise ValueError(f"patience={patience}: epochs without a gain before a modality stops, 0 or more")
        self.patience = patience
        self.best = nn.ModuleDict()
        self._still: list[str] = []

    def setup(self) -> None:
        for m in self.modalities:
            self.best[m] = copy.deepcopy(nn.ModuleList(self.own(m))).requires_grad_(False)
        self.register_buffer("watched", unwatched(len(self.modalities)))

    def own(self, modality: str) -> nn.ModuleList:
        """What stops with a modality."""
        head = final_layer(self._fusion[0])
        layer = [head[modality]] if isinstance(head, nn.ModuleDict) and modality in head else []
        return nn.ModuleList([self._encoders[modality], *layer])

    def param_groups(self) -> list[dict[str, Any]]:
        return []  # all it has of its own are copies

    def on_epoch_start(self, engine: Engine) -> None:
        self._still = [m for m, at in zip(self.modalities, self.watched[3].tolist(), strict=True) if at >= 0]
        engine.freeze(*(module for m in self._still for module in self.own(m)))

    def on_epoch_end(self, engine: Engine) -> None:
        patience = max(5, engine.epochs // 10) if self.patience is None else self.patience
        loss = validation(engine, partial(F.cross_entropy, reduction="none"))
        self.watched.copy_(watch(self.watched, loss, engine.epoch, patience))
        _, _, best, stopped = self.watched.tolist()
        for m, best_at, stopped_at in zip(self.modalities, best, stopped, strict=True):
            if best_at == engine.epoch:
                self.best[m].load_state_dict(self.own(m).state_dict())
            if stopped_at == engine.epoch:
                self.own(m).load_state_dict(self.best[m].state_dict())

    def step(self, batch: Batch, engine: Engine) -> Output:
        if len(self._still) < len(self.modalities):
            return super().step(batch, engine)
        outputs = []  # training is over: the curves go on, level
        for part in engine.split(batch):
            with torch.no_grad(), engine.autocast():
                outputs.append(self.forward(engine.model, part))
                engine.record(self.losses(outputs[-1], part, engine))
        output = Output.cat(outputs)
        self.on_gradients(output, batch, engine)
        engine.step += 1
        return output


def unwatched(modalities: int) -> Tensor:
    """What ``watch`` knows before the first epoch."""
    none = torch.full((modalities,), -1.0)
    return torch.stack([none * torch.nan, none * -torch.inf, none, none])


def watch(known: Tensor, loss: Tensor, epoch: int, patience: int, previous_weight: float = 0.6) -> Tensor:
    """(4, M): last loss, lowest smoothed loss, its epoch, and the epoch after which a modality stopped (-1: none yet).

    From the same as of the epoch before, and the validation losses (M,) of ``epoch``; NaN: there was nothing to see.
    """
    last, best, best_epoch, stopped = known
    seen, active = ~torch.isnan(loss), stopped < 0
    smooth = smoothed(last, loss, previous_weight)
    better = active & (smooth < best)
    best_epoch = torch.where(better, epoch, best_epoch)
    stops = active & seen & (epoch - best_epoch > patience)
    return torch.stack(
        [
            torch.where(seen, loss, last),
            torch.where(better, smooth, best),
            best_epoch,
            torch.where(stops, epoch, stopped),
        ]
    )


def smoothed(last: Tensor, loss: Tensor, previous_weight: float = 0.6) -> Tensor:
    """The loss and the *raw* one of the epoch before, if there was one (not NaN), weighed."""
    return torch.where(torch.isnan(last), loss, previous_weight * last + (1 - previous_weight) * loss)
