"""A strategy in the Trainer of Hugging Face's transformers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from ogm.strategy import Strategy
from ogm.types import Output


class BalancedTrainer(Trainer):  # type: ignore[misc]
    """A ``transformers.Trainer`` whose gradients are those of a strategy.

    The model's ``forward`` takes the inputs by name and returns ``ogm.Output``; the data set's samples are dicts with
    the same names and ``labels``, the class number. Make the strategy a submodule of the model, ``model.strategy``, so
    that it is moved, trained and saved with it. ``evaluate`` and ``predict`` of the trainer see the logits that the
    strategy predicts by. Gradients are accumulated as ``gradient_accumulation_steps`` says: each step acts as on one
    large batch. They are clipped afterwards (``max_grad_norm``, 1 by default).

    Args:
        strategy: The strategy, attached to the model's encoders.
        model: The model.
        args: Settings of the training.
        **kwargs: Further arguments of ``transformers.Trainer``.

    Raises:
        ValueError: If the strategy or the trainer's arguments ask for something that does not go together.
    """

    def __init__(self, strategy: Strategy, model: nn.Module, args: TrainingArguments, **kwargs: Any) -> None:
        check_arguments(strategy, args, kwargs.get("compute_loss_func"))
        super().__init__(model, args, **kwargs)
        self.strategy, self.samples_of_step = strategy, 0
        self.label_names = ["labels"]

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Tensor]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], Any]:
        """Collect the batches of the next step, and count their samples.

        Args:
            epoch_iterator: The batches of the epoch.
            num_batches: How many make a step.
            device: Where the model is.

        Returns:
            The batches, and what the base class counts in them.

        Raises:
            ValueError: If a batch has no ``labels``.
        """
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not all("labels" in batch for batch in batches):
            raise ValueError(f"{self.strategy.id}: a sample is a dict with 'labels', its class number, and the inputs")
        self.samples_of_step = sum(len(batch["labels"]) for batch in batches)
        return batches, items

    def training_step(
        self, model: nn.Module, inputs: dict[str, Tensor], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Compute the strategy's gradients of a batch.

        Args:
            model: The model, as the trainer has wrapped it.
            inputs: Name -> (B, ...), and ``labels``, (B,) class numbers.
            num_items_in_batch: Not used.

        Returns:
            0-dim loss, detached; those of the batches of one step add up.
        """
        model.train()
        if callable(getattr(self.optimizer, "train", None)):  # for optimizers that keep an average of the weights
            self.optimizer.train()
        inputs = self._prepare_inputs(inputs)
        with self.compute_loss_context_manager():
            output: Output = model(**{name: x for name, x in inputs.items() if name != "labels"})
        epoch = self.state.epoch or 0.0
        return self.strategy.backward(
            output,
            inputs["labels"],
            epoch=int(epoch),
            epochs=math.ceil(self.state.num_train_epochs),
            fraction=epoch % 1,
            seed=self.args.seed,
            accumulate_to=self.samples_of_step if self.args.gradient_accumulation_steps > 1 else None,
            optimizer=self.optimizer,
        )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Compute the loss of the prediction, for evaluation.

        Args:
            model: The model.
            inputs: Name -> (B, ...), and ``labels``, (B,) class numbers.
            return_outputs: Whether to return the logits, too.
            num_items_in_batch: Not used.

        Returns:
            0-dim mean loss; with ``return_outputs`` also a dict with it and ``logits`` (B, C).
        """
        output = model(**{name: x for name, x in inputs.items() if name != "labels"})
        logits = self.strategy.predict(self.strategy.replace_unimodal_logits(output))
        loss = self.strategy.criterion(logits, inputs["labels"]).mean()
        return (loss, {"loss": loss, "logits": logits}) if return_outputs else loss


def check_arguments(strategy: Strategy, args: TrainingArguments, compute_loss_func: Any) -> None:
    """Check that a strategy and the trainer's arguments go together, before anything is trained.

    Args:
        strategy: The strategy.
        args: The trainer's arguments.
        compute_loss_func: The trainer's argument of that name.

    Raises:
        ValueError: If not; the message says what to change.
    """
    if strategy.edits_features:
        raise ValueError(
            f"{strategy.id} edits features before they are fused, which needs the label there: use Accelerate's loop"
        )
    if strategy.needs_engine:
        raise ValueError(f"{strategy.id} does more than a backward pass can: train with an Engine")
    if strategy.needs_whole_batch and args.gradient_accumulation_steps > 1:
        raise ValueError(f"{strategy.id} needs the whole batch before it differentiates: gradient_accumulation_steps=1")
    refused = {
        "fp16": (args.fp16, "take bf16, or Accelerate's loop"),
        "label_smoothing_factor": (args.label_smoothing_factor, "set strategy.criterion"),
        "compute_loss_func": (compute_loss_func, "set strategy.criterion"),
        "deepspeed": (args.deepspeed, "the strategy needs whole gradients: take DDP"),
        "fsdp": (args.fsdp, "the strategy needs whole gradients: take DDP"),
        "several GPUs in one process": (args.n_gpu > 1, "start one process per GPU, with torchrun"),
    }
    for name, (given, cure) in refused.items():
        if given:
            raise ValueError(f"{strategy.id}: BalancedTrainer cannot do {name}: {cure}")
