"""A strategy in Lightning's automatic optimisation. Manual optimisation needs nothing: it calls ``backward`` itself."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from ogm.checks import check_output
from ogm.parts.gradients import gradients_of, multiply
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class BalancedMixin:
    """Lets ``strategy.backward`` take the place of ``loss.backward`` in automatic optimisation.

    It stands before the base class, ``class Classifier(BalancedMixin, LightningModule)``, of ``lightning`` or of
    ``pytorch_lightning``. Gradients are accumulated as ``accumulate_grad_batches`` says, also where the last batches of
    an epoch are fewer or smaller: each step acts as on one large batch. The gradients are clipped afterwards.

    Mixed precision works in float16 and bfloat16. Processes: one, or several with DDP whose ``find_unused_parameters``
    is False.
    """

    _given: tuple[Strategy, Output, Tensor | Batch, dict[str, Any]] | None = None
    trainer: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.backward is not BalancedMixin.backward:
            raise TypeError(f"class {cls.__name__}: BalancedMixin must stand before LightningModule, and own backward")

    def balanced_loss(self, strategy: Strategy, output: Output, label: Tensor | Batch, **progress: Any) -> Tensor:
        """Return what ``training_step`` returns. In ``validation_step`` it is a loss like any other.

        Args:
            strategy: The strategy, attached to the encoders.
            output: What the network computed.
            label: (B,) class numbers, or a batch.
            **progress: ``epoch``, ``epochs``, ``fraction`` and ``seed`` of ``Strategy.backward``.

        Returns:
            0-dim mean loss of the fused logits, without a graph: it is for curves. What is differentiated are the
            losses of the strategy, from ``output``.

        Raises:
            ValueError: If something does not fit, or this is the second call in one training step.
        """
        batch = strategy._loop.as_batch(strategy, label)
        if torch.is_grad_enabled():
            check_output(strategy, output, batch)
            if self._given is not None:
                raise ValueError(f"{strategy.id}: balanced_loss was called twice, with no backward pass in between")
            self._given = strategy, output, label, progress
        return strategy.criterion(output.logits.detach(), batch.label).mean()

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the strategy's gradients. Lightning calls it.

        Args:
            loss: What ``training_step`` returned, over the number of batches in a step.
            *args: Not used.
            **kwargs: Not used.

        Raises:
            ValueError: If the loss is not that of ``balanced_loss``, or gradients are accumulated where they cannot be.
        """
        if self._given is None or loss.requires_grad:
            raise ValueError(
                "training_step must return self.balanced_loss(strategy, output, label) and add nothing to it that has "
                "a gradient: terms of your own belong to manual optimisation"
            )
        (strategy, output, label, progress), self._given = self._given, None
        whole = samples_of_step(strategy, self.trainer)
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        unscaled = None if scaler is None else UnscaledMeanwhile(scaler)
        optimizer = self.optimizers()  # type: ignore[attr-defined]
        strategy.backward(output, label, optimizer=optimizer, accumulate_to=whole, scaler=unscaled, **progress)  # type: ignore[arg-type]
        if unscaled is not None:
            unscaled.scale_again()


class UnscaledMeanwhile:
    """The part of a ``GradScaler`` that a strategy uses, where the trainer itself will unscale the gradients later.

    A scaler unscales the gradients of a step only once. So they are divided by the scale here, for the strategy, and
    multiplied by it afterwards, for the trainer. The scale is a power of two: no bit is lost.

    Args:
        scaler: The trainer's scaler.
    """

    def __init__(self, scaler: GradScaler) -> None:
        self.scaler = scaler
        self.optimizer: torch.optim.Optimizer | None = None
        self.is_enabled, self.scale, self.get_scale = scaler.is_enabled, scaler.scale, scaler.get_scale

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients of an optimizer's parameters by the scale."""
        self.optimizer = optimizer
        self._multiply(1 / self.scaler.get_scale())

    def scale_again(self) -> None:
        """Multiply by the scale what ``unscale_`` has divided, if it was called."""
        if self.optimizer is not None:
            self._multiply(self.scaler.get_scale())

    def _multiply(self, factor: float) -> None:
        assert self.optimizer is not None
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        multiply(gradients_of(parameters), factor)


def samples_of_step(strategy: Strategy, trainer: Any) -> int | None:
    """Count the samples of the step that the current batch belongs to.

    Args:
        strategy: The strategy, for messages.
        trainer: The ``lightning.Trainer``.

    Returns:
        Their number; None if every batch is a step.

    Raises:
        ValueError: If gradients are accumulated, and the strategy cannot, or the number is not known beforehand.
    """
    batches = trainer.accumulate_grad_batches
    if batches == 1:
        return None
    if strategy.needs_whole_batch:
        raise ValueError(f"{strategy.id} needs the whole batch before it differentiates: accumulate_grad_batches=1")
    loader = trainer.train_dataloader
    size: int | None = getattr(loader, "batch_size", None)
    sampler = getattr(loader, "sampler", None)
    if size is None or not isinstance(sampler, Sized):
        raise ValueError(
            f"{strategy.id}: to accumulate gradients, the number of samples in a step must be known: train with one "
            "DataLoader that has a batch_size and a sampler with a length, or in manual optimisation"
        )
    first: int = trainer.fit_loop.epoch_loop.batch_idx // batches * batches
    last: int = min(first + batches, trainer.num_training_batches)
    return min(last * size, len(sampler)) - first * size
