"""Checks of what a user's own loop gives to a strategy, before anything is differentiated: one line, with the cure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ogm.registry import nearest
from ogm.types import Batch, Output

if TYPE_CHECKING:
    from ogm.context import Context
    from ogm.model_access import ModelAccess
    from ogm.strategy import Strategy

HOW = {
    "unimodal_logits": "give ogm.Output(logits, unimodal_logits={modality: (B, C)}); of a linear head over "
    "concatenated features they are ogm.split_linear(head, features)",
    "features": "give ogm.Output(logits, unimodal_logits, features={modality: (B, D)})",
    "inputs": "give backward ogm.Batch({modality: input}, label, index) in place of the label",
}


def unwrapped(optimizer: Any) -> torch.optim.Optimizer | None:
    """Take an optimizer out of what Accelerate and Lightning wrap around it.

    Args:
        optimizer: A torch optimizer, a wrapper with the attribute ``optimizer``, or None.

    Returns:
        The torch optimizer, or None.

    Raises:
        ValueError: If it is something else.
    """
    while isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = inner
    if not isinstance(optimizer, torch.optim.Optimizer | None):
        raise ValueError(f"optimizer= takes one torch.optim.Optimizer, got {type(optimizer).__name__}")
    return optimizer


def check_modules(strategy: ModelAccess, encoders: Any, fusion: Any) -> None:
    """Check that ``attach`` was given a module for each modality, and a fusion that has none of them inside.

    Args:
        strategy: The strategy.
        encoders: Modality -> encoder.
        fusion: The fusion; None if it is not known.

    Raises:
        ValueError: If not.
    """
    if not isinstance(encoders, Mapping | nn.ModuleDict):
        raise ValueError(f"{strategy.id}: attach takes {{modality: encoder}}, got {type(encoders).__name__}")
    for m, encoder in encoders.items():
        if not isinstance(encoder, nn.Module):
            raise ValueError(f"{strategy.id}: the encoder of {m!r} is no torch.nn.Module but {type(encoder).__name__}")
        if fusion is not None and not {*encoder.parameters()}.isdisjoint(fusion.parameters()):
            raise ValueError(
                f"{strategy.id}: the fusion given to attach has the encoder of {m!r} in it: pass the part after the "
                "encoders alone, such as net.head"
            )


def check_fit(
    strategy: ModelAccess,
    encoders: Mapping[str, nn.Module],
    fusion: Any,
    dims: Mapping[str, int],
    trained: Mapping[str, nn.Module],
) -> None:
    """Check that a strategy can balance a model, and has been given what it needs.

    Args:
        strategy: The strategy.
        encoders: Modality -> encoder.
        fusion: The fusion; None if it is not known.
        dims: Modality -> feature width D_m; empty if not known.
        trained: Name -> what an earlier run exported.

    Raises:
        ValueError: If not.
    """
    name = strategy.id
    if len(encoders) < 2:
        raise ValueError(f"{name} balances two or more modalities, got {list(encoders)}")
    if strategy.most_modalities is not None and len(encoders) > strategy.most_modalities:
        raise ValueError(f"{name} balances at most {strategy.most_modalities} modalities, got {list(encoders)}")
    if strategy.needs_additive and not getattr(fusion, "is_additive", True):
        raise ValueError(
            f"{name} needs a fusion whose logits are a sum or mean of unimodal ones, such as concat; "
            f"{type(fusion).__name__} does not split"
        )
    if strategy.needs_concat and not concatenates(fusion, dims):
        raise ValueError(
            f"{name} needs a fusion that is one linear layer over all features (concat), and dims= with it; "
            + ("none was given" if fusion is None else f"{type(fusion).__name__} is none")
        )
    if "fusion" in strategy.reads and not hasattr(fusion, "unimodal_logits"):
        raise ValueError(
            f"{name} works on the fused head: pass fusion= to attach, and with a torch.nn.Linear over all features "
            "side by side dims=, the width of each"
        )
    missing = strategy.prerequisites(list(encoders)).keys() - trained.keys()
    if missing:
        raise ValueError(f"{name} builds on runs made before it: pass trained= with {sorted(missing)}")


def concatenates(fusion: Any, dims: Mapping[str, int]) -> bool:
    """Return whether a fusion's logits are one linear layer, ``head``, over all features side by side.

    Args:
        fusion: The fusion; None if it is not known.
        dims: Modality -> feature width D_m.
    """
    head = getattr(fusion, "head", None)
    additive = bool(getattr(fusion, "is_additive", True))
    return additive and isinstance(head, nn.Linear) and head.in_features == sum(dims.values())


def check_attached(strategy: Strategy) -> None:
    """Raise ValueError for a strategy that was not attached, or cannot work by ``backward`` alone."""
    if not strategy.modalities:
        raise ValueError(f"{strategy.id} does not know the encoders yet: call attach first")
    if strategy.needs_engine:
        raise ValueError(f"{strategy.id} does more than a backward pass can: train with an Engine")


def check_label(strategy: Strategy, label: Any) -> None:
    """Raise ValueError unless labels are a non-empty (B,) int64 tensor."""
    if not isinstance(label, Tensor) or label.ndim != 1 or label.dtype != torch.int64:
        got = f"{tuple(label.shape)} of {label.dtype}" if isinstance(label, Tensor) else type(label).__name__
        raise ValueError(f"{strategy.id}: labels are class numbers, (B,) of torch.int64, got {got}")
    if len(label) == 0:
        raise ValueError(f"{strategy.id}: the batch is empty")


def check_batch(strategy: Strategy, batch: Batch) -> None:
    """Raise ValueError if the tensors of a batch do not fit each other or the modalities."""
    check_label(strategy, batch.label)
    check_modalities(strategy, "present", batch.present)
    parts = {"index": batch.index, "weight": batch.weight, **{f"present[{m!r}]": x for m, x in batch.present.items()}}
    for what, x in parts.items():
        if x is not None and x.shape != batch.label.shape:
            raise ValueError(
                f"{strategy.id}: the batch's {what} is {tuple(x.shape)}, its label {tuple(batch.label.shape)}"
            )
    for m, x in batch.inputs.items():
        if len(x) != len(batch):
            raise ValueError(f"{strategy.id}: inputs[{m!r}] has {len(x)} samples, there are {len(batch)} labels")


def check_modalities(strategy: Strategy, what: str, tensors: Mapping[str, Any]) -> None:
    """Check that a dict has no key that is not a modality.

    Args:
        strategy: The strategy, which knows the modalities.
        what: What the dict holds, for the message.
        tensors: The dict.

    Raises:
        ValueError: If there is another key; the message names the nearest modality.
    """
    for m in tensors:
        if m not in strategy.modalities:
            hint = nearest(m, strategy.modalities, f"attach was given {', '.join(strategy.modalities)}")
            raise ValueError(f"{strategy.id}: {what} of {m!r}, which is no modality{hint}")


def check_complete(strategy: Strategy, what: str, tensors: Mapping[str, Any]) -> None:
    """Check that a dict has an entry for every modality.

    Args:
        strategy: The strategy, which knows the modalities.
        what: What the dict holds: ``"unimodal_logits"``, ``"features"`` or ``"inputs"``.
        tensors: The dict.

    Raises:
        ValueError: If one is missing; the message says how to give it.
    """
    for m in strategy.modalities:
        if m not in tensors:
            raise ValueError(f"{strategy.id} needs the {what} of every modality, {m!r} is missing: {HOW[what]}")


def check_features(strategy: Strategy, features: Any, samples: int) -> None:
    """Raise ValueError for features (B, D_m) of unknown modalities, or of another shape than ``attach`` was told."""
    if not isinstance(features, Mapping):
        raise ValueError(f"{strategy.id}: features are {{modality: (B, D)}}, got {type(features).__name__}")
    check_modalities(strategy, "features", features)
    for m, f in features.items():
        if f.ndim != 2 or len(f) != samples or f.shape[1] != strategy.dims.get(m, f.shape[1]):
            expected = f"({samples}, {strategy.dims.get(m, 'D')})"
            raise ValueError(f"{strategy.id}: features[{m!r}] is {tuple(f.shape)}, expected {expected}")


def check_output(strategy: Strategy, output: Any, batch: Batch) -> None:
    """Raise ValueError if the output does not fit the batch, or lacks what the strategy reads."""
    if not isinstance(output, Output):
        raise ValueError(f"{strategy.id}: backward takes an ogm.Output(logits, ...), got {type(output).__name__}")
    check_logits(strategy, output.logits, batch.label)
    check_modalities(strategy, "unimodal_logits", output.unimodal_logits)
    for m, z in output.unimodal_logits.items():
        if z.shape != output.logits.shape:
            raise ValueError(
                f"{strategy.id}: unimodal_logits[{m!r}] is {tuple(z.shape)}, the logits {tuple(output.logits.shape)}"
            )
    check_features(strategy, output.features, len(batch))
    for what, tensors in (
        ("unimodal_logits", output.unimodal_logits),
        ("features", output.features),
        ("inputs", batch.inputs),
    ):
        if what in strategy.reads or (what == "unimodal_logits" and tensors):
            check_complete(strategy, what, tensors)
    if output.unimodal_logits and len(strategy.modalities) > 2 and not splits(strategy._fusion[0]):
        check_complete(strategy, "features", output.features)  # the fusion is evaluated for subsets of modalities


def splits(fusion: Any) -> bool:
    """Return whether unimodal logits are parts of the fused ones; a fusion that does not say is taken as additive."""
    return bool(getattr(fusion, "is_additive", True) or getattr(fusion, "has_unimodal_heads", False))


def check_logits(strategy: Strategy, logits: Any, label: Tensor) -> None:
    """Raise ValueError unless logits are (B, C) numbers with a gradient, which fit the labels and the strategy."""
    name = strategy.id
    if not isinstance(logits, Tensor):
        raise ValueError(f"{name}: logits are a (B, C) torch.Tensor, got {type(logits).__name__}")
    if logits.ndim != 2 or not logits.is_floating_point() or len(logits) != len(label):
        raise ValueError(
            f"{name}: logits are (B, C) floating-point numbers for {len(label)} labels, got {tuple(logits.shape)} of "
            f"{logits.dtype}"
        )
    classes = logits.shape[1]
    if strategy.num_classes not in (0, classes):
        raise ValueError(f"{name}: {classes} logits per sample, but attach was told num_classes={strategy.num_classes}")
    if label.device != logits.device:
        raise ValueError(f"{name}: labels are on {label.device}, logits on {logits.device}")
    if label.device.type == "cpu":  # elsewhere the host would have to wait for the device
        wrong = label[(label < 0) | (label >= classes)]
        if len(wrong):
            raise ValueError(f"{name}: there is a label {int(wrong[0])}, and {classes} logits: 0 to {classes - 1}")
    if not logits.requires_grad:
        raise ValueError(f"{name}: the logits were made without a gradient, there is nothing to differentiate")
    for x in (*strategy.parameters(), *strategy.buffers()):
        if x.device != logits.device:
            raise ValueError(f"{name} has tensors on {x.device}, the logits are on {logits.device}: use strategy.to()")


def check_optimizer(strategy: Strategy, ctx: Context) -> None:
    """Raise ValueError if an optimizer is needed and missing, or lacks parameters that it must train."""
    if ctx.optimizer is None:
        if strategy.needs_optimizer:
            raise ValueError(message_optimizer_missing(strategy))
        if ctx.scaler is not None and ctx.scaler.is_enabled():
            raise ValueError(f"{strategy.id}: a GradScaler needs its optimizer: pass optimizer= beside scaler=")
        return
    if strategy.needs_optimizer and isinstance(ctx.optimizer, torch.optim.LBFGS):
        raise ValueError(f"{strategy.id}: LBFGS moves several times in one step, which cannot be scaled: take another")
    held = {id(p) for group in ctx.optimizer.param_groups for p in group["params"]}
    if any(p.requires_grad and id(p) not in held for p in strategy.parameters()):
        raise ValueError(message_not_trained(strategy))
    for m in strategy.modalities:
        own = strategy.parameters_of(m)
        if own and not any(id(p) in held for p in own):
            raise ValueError(
                f"{strategy.id}: the optimizer given to backward has no parameter of the encoder of {m!r}: it takes "
                "one optimizer for all encoders, in param groups of their own if need be"
            )


def message_optimizer_missing(strategy: Strategy) -> str:
    """Return the message for a strategy that scales updates and was not given the optimizer."""
    return f"{strategy.id} scales what the optimizer makes of a gradient: pass optimizer= to backward"


def message_not_trained(strategy: Strategy) -> str:
    """Return the message for a strategy whose own parameters are not trained."""
    return (
        f"{strategy.id} has parameters of its own, and the optimizer does not train them: build it with "
        "[{'params': net.parameters()}, *strategy.param_groups()]"
    )


def check_micro_batch(strategy: Strategy, batch: Batch, accumulate_to: Any) -> None:
    """Raise ValueError if a mean over micro-batches would not be the mean over the whole batch."""
    if not isinstance(accumulate_to, int) or isinstance(accumulate_to, bool):
        raise ValueError(f"{strategy.id}: accumulate_to={accumulate_to!r}: how many samples the whole batch has")
    if strategy.needs_whole_batch:
        raise ValueError(f"{strategy.id} needs the whole batch before it differentiates: leave accumulate_to out")
    if batch.present or batch.weight is not None:
        raise ValueError(
            f"{strategy.id}: where modalities are missing a mean over micro-batches is not the mean over the batch: "
            "leave accumulate_to out"
        )
