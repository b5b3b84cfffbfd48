"""Modality-specific early stopping (MSES): a modality that stops improving returns to its best state and is frozen."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ogm.context import TrainingContext
from ogm.parts.heads import final_layer
from ogm.parts.stages import validation_means
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class MSES(Strategy):
    """Stop training a modality once its validation loss no longer improves.

    After each epoch t:
    1. l_m(t) = mean validation cross-entropy of the unimodal logits u_m.
    2. Smoothed loss: 0.6 l_m(t - 1) + 0.4 l_m(t), with the unsmoothed loss of the epoch before; l_m(0) in the first
       epoch.
    3. If the smoothed loss is the lowest so far, store the weights of modality m: its encoder, and its own layer of the
       head where it has one (sum, late).
    4. If the lowest was more than ``patience`` epochs ago, stop modality m: load its stored weights and freeze it,
       including its batch-norm statistics.

    When all modalities have stopped, nothing is trained any more.

    Args:
        patience: Epochs without improvement before a modality stops, 0 or more. Default: a tenth of the run, at least
            5. Released: 80 for CREMA-D (of 1500 epochs), 30 for UR-FUNNY, 10 for AV-MNIST.

    Differences:
        - The original publication was not available; ours follows the baseline in AGM's repository.
        - Released code: multiplies the gradients of a stopped modality by 0, so that momentum and weight decay still
          move it. Ours: freezes it.
        - Released code: restores the whole model, and so undoes the progress of the other modalities. Ours: restores
          the stopped modality only.
        - Released code: never writes the snapshot of the first epoch (CREMA-D, AV-MNIST), so an early stop there
          crashes.

    References:
        - Paper: Li et al., ICCV 2023 (arXiv 2308.07686), which has it as a baseline.
        - Code: lihong2303/AGM_ICCV2023 at 5a65542.
    """

    category = "schedule"
    title = "Modality-Specific Early Stopping"
    paper = "baseline of Li et al., ICCV 2023"
    stages = "validation after every epoch; modalities stop one by one"
    touches = "nothing"
    needs_engine = True
    watched: Tensor

    def __init__(self, patience: int | None = None) -> None:
        super().__init__()
        if patience is not None and patience < 0:
            raise ValueError(f"patience={patience}: the number of epochs without improvement must be 0 or more")
        self.patience = patience
        self.best = nn.ModuleDict()
        self._stopped: list[str] = []

    def setup(self) -> None:
        """Copy the modules of each modality, and create the state of early stopping."""
        for m in self.modalities:
            self.best[m] = copy.deepcopy(nn.ModuleList(self.modules_of(m))).requires_grad_(False)
        self.register_buffer("watched", initial_stopping_state(len(self.modalities)))

    def modules_of(self, modality: str) -> nn.ModuleList:
        """Find the modules that are stopped together with a modality.

        Args:
            modality: Name of the modality.

        Returns:
            Its encoder, and its own layer of the head where it has one.
        """
        head = final_layer(self._fusion[0])
        layer = [head[modality]] if isinstance(head, nn.ModuleDict) and modality in head else []
        return nn.ModuleList([self._encoders[modality], *layer])

    def param_groups(self) -> list[dict[str, Any]]:
        """Return nothing: the strategy's own modules are copies that are never trained."""
        return []  # its own modules are copies, which are never trained

    def on_epoch_start(self, engine: TrainingContext) -> None:
        """Freeze the modalities that have stopped."""
        self._stopped = [
            m for m, stopped_at in zip(self.modalities, self.watched[3].tolist(), strict=True) if stopped_at >= 0
        ]
        engine.freeze(*(module for m in self._stopped for module in self.modules_of(m)))

    def on_epoch_end(self, engine: TrainingContext) -> None:
        """Update the losses, store the best modules, and restore those of a modality that stops."""
        patience = max(5, engine.epochs // 10) if self.patience is None else self.patience
        loss = validation_means(engine, partial(F.cross_entropy, reduction="none"))
        self.watched.copy_(update_stopping_state(self.watched, loss, engine.epoch, patience))
        _, _, best, stopped = self.watched.tolist()
        for m, best_at, stopped_at in zip(self.modalities, best, stopped, strict=True):
            if best_at == engine.epoch:
                self.best[m].load_state_dict(self.modules_of(m).state_dict())
            if stopped_at == engine.epoch:
                self.modules_of(m).load_state_dict(self.best[m].state_dict())

    def step(self, batch: Batch, engine: TrainingContext) -> Output:
        """Train on one batch; once all modalities have stopped, only compute its losses."""
        if len(self._stopped) < len(self.modalities):
            return super().step(batch, engine)
        outputs = []  # training is over; losses are still computed for the curves
        for part in engine.split(batch):
            with torch.no_grad(), engine.autocast():
                outputs.append(self.forward(engine.model, part))
                engine.record(self.losses(outputs[-1], part, engine))
        output = Output.cat(outputs)
        self.on_gradients(output, batch, engine)
        engine.step += 1
        return output


def initial_stopping_state(modalities: int) -> Tensor:
    """State of ``update_stopping_state`` before the first epoch.

    Args:
        modalities: Number of modalities M.

    Returns:
        (4, M), see ``update_stopping_state``.
    """
    none = torch.full((modalities,), -1.0)
    return torch.stack([none * torch.nan, none * -torch.inf, none, none])


def update_stopping_state(
    state: Tensor, loss: Tensor, epoch: int, patience: int, previous_weight: float = 0.6
) -> Tensor:
    """Update the early-stopping state with the validation losses of one epoch.

    Args:
        state: (4, M) state: last loss, lowest smoothed loss, its epoch, and the epoch after which the modality stopped
            (-1: not yet).
        loss: (M,) validation losses of this epoch; NaN where no sample had the modality.
        epoch: Number of this epoch, from 0.
        patience: Epochs without improvement before a modality stops.
        previous_weight: Weight of the previous epoch's loss in the smoothed loss.

    Returns:
        (4, M) the new state.
    """
    last, best, best_epoch, stopped = state
    measured, running = ~torch.isnan(loss), stopped < 0
    smooth = smooth_losses(last, loss, previous_weight)
    better = running & (smooth < best)
    best_epoch = torch.where(better, epoch, best_epoch)
    stops = running & measured & (epoch - best_epoch > patience)
    return torch.stack(
        [
            torch.where(measured, loss, last),
            torch.where(better, smooth, best),
            best_epoch,
            torch.where(stops, epoch, stopped),
        ]
    )


def smooth_losses(last: Tensor, loss: Tensor, previous_weight: float = 0.6) -> Tensor:
    """Smooth a loss with the unsmoothed loss of the epoch before.

    Args:
        last: (M,) losses of the epoch before; NaN where there was none.
        loss: (M,) losses of this epoch.
        previous_weight: Weight of ``last``.

    Returns:
        (M,) previous_weight last + (1 - previous_weight) loss; ``loss`` where ``last`` is NaN.
    """
    return torch.where(torch.isnan(last), loss, previous_weight * last + (1 - previous_weight) * loss)
