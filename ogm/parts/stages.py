"""Stages within a run: how long the last one is, what it starts with, validation between epochs, evaluation mode."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ogm.context import TrainingContext
from ogm.strategy import Strategy


def last_stage_length(epochs: int, share: float, given: int | None) -> int:
    """Compute the number of epochs of the last stage of a run.

    Args:
        epochs: Epochs of the run.
        share: Share of the run that the stage gets by default.
        given: A number of epochs to use instead.

    Returns:
        ``given``, or share epochs (rounded, at least 1); at most epochs - 1.
    """
    length = max(1, round(share * epochs)) if given is None else given
    return min(length, max(epochs - 1, 0))


def last_stage_start(epochs: int, share: float, given: int | None) -> int:
    """Compute the epoch in which the last stage of a run begins.

    Args:
        epochs: Epochs of the run.
        share: Share of the run that the stage gets by default.
        given: A number of epochs to use instead.

    Returns:
        The epoch, counted from 0; 0 if the run is to have no last stage, ``epochs`` if it is too short for one.
    """
    return 0 if given == 0 else max(1, epochs - last_stage_length(epochs, share, given))


def restore_initial_learning_rate(engine: TrainingContext) -> None:
    """Set the learning rate of this epoch to the initial one of the run, for a stage that trains something new.

    Args:
        engine: The engine of the run.
    """
    assert engine.optimizer is not None
    for group in engine.optimizer.param_groups:
        group["lr"] = group.get("initial_lr", group["lr"])


def require_feature_fusion(strategy: Strategy) -> None:
    """Check that each encoder can be trained and saved by itself.

    Args:
        strategy: A strategy that has been given its fusion.

    Raises:
        ValueError: If the fusion lets encoders exchange signals.
    """
    if getattr(strategy.fusion, "input_kind", "features") != "features":
        raise ValueError(
            f"{type(strategy).__name__} trains the encoders separately, but {type(strategy.fusion).__name__} lets them "
            "exchange maps or tokens: choose a fusion of features, such as concat"
        )


@contextlib.contextmanager
def evaluation_mode(*modules: Any) -> Iterator[None]:
    """Context in which modules are in evaluation mode; afterwards every submodule has the mode that it had before.

    Args:
        modules: The modules.
    """
    modes = [(submodule, submodule.training) for module in modules for submodule in module.modules()]
    for submodule, _ in modes:
        submodule.training = False
    try:
        yield
    finally:
        for submodule, mode in modes:
            submodule.training = mode


@torch.no_grad()
def validation_means(engine: TrainingContext, measure: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Average a per-sample measure of the unimodal logits over the validation set.

    Args:
        engine: The engine of the run.
        measure: Maps unimodal logits (B, C) and labels (B,) to values (B,).

    Returns:
        (M,) float64 means over the samples that have the modality, equal on all ranks; NaN where no sample has it.
    """
    modalities = engine.strategy.modalities
    total = torch.zeros(len(modalities), 2, dtype=torch.float64, device=engine.device)
    for output, batch in engine.predict("val"):
        for k, m in enumerate(modalities):
            present = batch.has_all([m])
            values = measure(output.unimodal_logits[m], batch.label).double()
            total[k] += torch.stack([torch.where(present, values, 0.0).sum(), present.sum().double()])
    return engine.decide(total[:, 0] / total[:, 1])
