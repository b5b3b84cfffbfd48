"""What a user's own model has learned from each modality, measured in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ogm.checks import HOW
from ogm.context import Context
from ogm.imbalance import discrepancy_ratios
from ogm.losses import full
from ogm.parts.heads import add_parts
from ogm.parts.stages import evaluation_mode
from ogm.shapley import coalitions, responses, shapley
from ogm.strategy import Strategy
from ogm.types import Batch, Output

LABELS = ("labels", "label")  # how a batch that is a dict names the class numbers
ADDS_UP = 0.01  # largest difference, relative to the largest logit, that counts as rounding


@dataclass
class SplitPredictions:
    """What a model predicts on N samples of a split, on the CPU.

    Attributes:
        label: (N,) class numbers.
        logits: Subset of the modalities, not empty -> (N, C) logits from these modalities alone.
        parts: Modality -> (N, C), its part of the fused logits, from which discrepancy ratios are formed.
        features: Modality -> (N, D_m); empty if the model does not return them.
    """

    label: Tensor
    logits: dict[frozenset[str], Tensor]
    parts: dict[str, Tensor]
    features: dict[str, Tensor]

    @staticmethod
    def cat(batches: Sequence[SplitPredictions]) -> SplitPredictions:
        """Join what was predicted batch after batch."""
        first = batches[0]
        return SplitPredictions(
            torch.cat([b.label for b in batches]),
            {s: torch.cat([b.logits[s] for b in batches]) for s in first.logits},
            {m: torch.cat([b.parts[m] for b in batches]) for m in first.parts},
            {m: torch.cat([b.features[m] for b in batches]) for m in first.features},
        )


def evaluate(
    model: nn.Module, loaders: Mapping[str, Iterable[Any]], *, strategy: Strategy | None = None
) -> dict[str, dict[str, float]]:
    """Measure what a model has learned from each modality, on every split.

    The model returns ``ogm.Output`` with unimodal logits, as ``Strategy.backward`` takes it. A batch of a loader is
    ``(input, ..., label)``, for ``model(input, ...)``, or a dict with "labels" or "label", the rest of which are the
    keyword arguments of the model. Modules are in evaluation mode meanwhile, and afterwards in the mode they had. In
    distributed training each process measures the samples of its own loaders, and nothing is communicated.

    Args:
        model: The model.
        loaders: Name of the split -> batches, such as ``{"train": ..., "test": ...}``. With a split "train" whose
            samples come in any order, the features of all other splits are probed.
        strategy: The strategy that trained it, for methods that predict by heads of their own. Its ``fusion`` is needed
            where three or more modalities are fused by something else than a sum.

    Returns:
        Split -> name -> number. ``accuracy`` is the share of the samples that are classified correctly, from 0 to 1,
        and ``accuracy/<modality>`` the same of the unimodal logits. ``discrepancy_ratio/<modality>`` is above 1 for a
        modality that leads, see ``ogm.imbalance``; it is formed of the sum over the split of the probability of the
        true class. ``shapley/<modality>`` is its Shapley value of the accuracy: a subset of the modalities is worth its
        accuracy with the other modalities left out, and no modality at all is worth guessing, 1/C for C classes. The
        values of all modalities add up to ``accuracy`` - 1/C. ``probe/<modality>`` is the accuracy of a linear
        classifier of its features (logistic regression, L2 with C = 1, on standardised features) that is fitted on
        "train".

    Raises:
        ValueError: If a loader is empty, a batch or output does not fit, a logit is not finite, or scikit-learn, which
            fits the probes, is not installed.
    """
    if not isinstance(model, nn.Module) or not isinstance(loaders, Mapping) or not loaders:
        raise ValueError("evaluate takes a torch.nn.Module and {split: loader}, such as {'train': ..., 'test': ...}")
    probed = "train" in loaders and len(loaders) > 1
    if probed:
        import_scikit_learn()
    with evaluation_mode(model, *([] if strategy is None else [strategy])), torch.no_grad():
        splits = {name: predict_split(model, name, loader, strategy, probed) for name, loader in loaders.items()}
    results = {name: measure(split) for name, split in splits.items()}
    for name in splits.keys() - {"train"} if probed else ():
        results[name] |= {f"probe/{m}": x for m, x in probe_features(splits["train"], splits[name]).items()}
    return results


def predict_split(
    model: nn.Module, split: str, loader: Iterable[Any], strategy: Strategy | None, keep_features: bool
) -> SplitPredictions:
    """Predict all batches of a split.

    Args:
        model: The model, in evaluation mode.
        split: Name of the split, for messages.
        loader: The batches.
        strategy: The strategy, if it predicts by heads of its own or knows the fusion.
        keep_features: Whether the features are needed.

    Returns:
        The predictions, on the CPU.

    Raises:
        ValueError: See ``evaluate``.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    fusion = None if strategy is None else strategy._fusion[0]
    batches = []
    for batch in loader:
        arguments, named, label = read_batch(batch, split, device)
        output = model(*arguments, **named)
        check_prediction(output, label, split, keep_features)
        if strategy is not None:
            output = strategy.replace_unimodal_logits(output)
            output = replace(output, logits=strategy.predict(output))
        given = Batch({}, label, torch.arange(len(label), device=device))
        logits = {s: full(z).cpu() for s, z in subset_logits(output, given, fusion).items()}
        if not all(z.isfinite().all() for z in logits.values()):
            raise ValueError(f"evaluate: the logits on {split!r} are not finite")
        parts = {m: full(z).cpu() for m, z in responses(output, given, Context(), fusion).items()}
        features = {m: f.double().cpu() for m, f in output.features.items()} if keep_features else {}
        batches.append(SplitPredictions(label.cpu(), logits, parts, features))
    if not batches:
        raise ValueError(f"evaluate: the loader of {split!r} has no batch")
    return SplitPredictions.cat(batches)


def read_batch(batch: Any, split: str, device: torch.device) -> tuple[list[Any], dict[str, Any], Tensor]:
    """Split a batch into what the model is called with and the labels.

    Args:
        batch: ``(input, ..., label)``, or a dict with "labels" or "label".
        split: Name of the split, for messages.
        device: Where the model is.

    Returns:
        Arguments, keyword arguments, and (B,) int64 labels, on the device.

    Raises:
        ValueError: If the batch is neither, or the labels are no class numbers.
    """
    arguments: list[Any] = []
    named: dict[str, Any] = {}
    label: Any = None
    if isinstance(batch, Mapping):
        named = dict(batch)
        label = next((named.pop(name) for name in LABELS if name in named), None)
    elif isinstance(batch, list | tuple) and len(batch) > 1:
        *arguments, label = batch
    if not isinstance(label, Tensor) or label.ndim != 1 or label.dtype != torch.int64 or not len(label):
        raise ValueError(
            f"evaluate: a batch of {split!r} is (input, ..., label), or a dict with 'labels', and labels are class "
            f"numbers, (B,) of torch.int64; got {type(batch).__name__}"
        )

    def move(x: Any) -> Any:
        return x.to(device) if isinstance(x, Tensor) else x

    return [move(x) for x in arguments], {name: move(x) for name, x in named.items()}, label.to(device)


def check_prediction(output: Any, label: Tensor, split: str, keep_features: bool) -> None:
    """Check what a model returned.

    Args:
        output: What it returned.
        label: (B,) class numbers.
        split: Name of the split, for messages.
        keep_features: Whether the features are needed.

    Raises:
        ValueError: If it is no ``Output``, lacks something, or does not fit the labels.
    """
    if not isinstance(output, Output):
        raise ValueError(
            f"evaluate: the model returns {type(output).__name__}, not an ogm.Output: {HOW['unimodal_logits']}"
        )
    if len(output.unimodal_logits) < 2:
        raise ValueError(f"evaluate needs the unimodal logits of two or more modalities: {HOW['unimodal_logits']}")
    if keep_features and not output.features.keys() >= output.unimodal_logits.keys():
        raise ValueError(
            f"evaluate: the probes need the features of every modality: {HOW['features']}; or leave 'train' out of the "
            "loaders"
        )
    shapes = {tuple(z.shape) for z in (output.logits, *output.unimodal_logits.values())}
    if len(shapes) > 1 or output.logits.ndim != 2 or len(output.logits) != len(label):
        raise ValueError(f"evaluate: logits on {split!r} are {sorted(shapes)} for {len(label)} labels, not all (B, C)")
    if not 0 <= int(label.min()) <= int(label.max()) < output.logits.shape[1]:
        raise ValueError(f"evaluate: labels of {split!r} are not all from 0 to {output.logits.shape[1] - 1}")


def subset_logits(output: Output, batch: Batch, fusion: Any) -> dict[frozenset[str], Tensor]:
    """Compute the logits from each subset of the modalities.

    Args:
        output: Logits, unimodal logits and, for a fusion that is no sum, features.
        batch: The samples, with all modalities.
        fusion: The fusion; None: the logits have to be the sum of the unimodal ones if there are three or more.

    Returns:
        Subset, not empty -> (B, C).

    Raises:
        ValueError: If subsets of two or more cannot be computed.
    """
    alone = output.unimodal_logits
    logits = {frozenset([m]): z for m, z in alone.items()} | {frozenset(alone): output.logits}
    adds_up = getattr(fusion, "is_additive", False)
    for subset in (s for s in coalitions(list(alone)) if s not in logits):
        if adds_up or fusion is None:
            if not adds_up and (add_parts(alone) - output.logits).abs().max() > ADDS_UP * output.logits.abs().max():
                raise ValueError(
                    "evaluate: the logits are not the sum of the unimodal ones, so those of two of three modalities "
                    "are not known: pass strategy=, attached with fusion="
                )
            logits[subset] = add_parts({m: alone[m] for m in subset})
        else:
            logits[subset] = fusion(output.features, batch.present, drop=alone.keys() - subset)
    return logits


def measure(split: SplitPredictions) -> dict[str, float]:
    """Compute accuracies, discrepancy ratios and Shapley values, see ``evaluate``.

    Args:
        split: What the model predicts.

    Returns:
        Name -> number.
    """
    modalities = list(split.parts)
    classes = next(iter(split.logits.values())).shape[1]
    worth = {s: (z.argmax(1) == split.label).double().mean() for s, z in split.logits.items()}
    worth[frozenset()] = torch.tensor(1 / classes, dtype=torch.float64)
    true_class = {m: z.double().softmax(1).gather(1, split.label[:, None]).sum() for m, z in split.parts.items()}
    return {
        "accuracy": float(worth[frozenset(modalities)]),
        **{f"accuracy/{m}": float(worth[frozenset([m])]) for m in modalities},
        **{f"discrepancy_ratio/{m}": float(r) for m, r in discrepancy_ratios(true_class).items()},
        **{f"shapley/{m}": float(shapley(worth, m, modalities)) for m in modalities},
    }


def import_scikit_learn() -> tuple[Any, Any]:
    """Import what fits the probes.

    Returns:
        The classes ``LogisticRegression`` and ``StandardScaler``.

    Raises:
        ValueError: If scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise ValueError(
            "evaluate fits its probes with scikit-learn: pip install 'ogm-balance[evaluate]', or leave 'train' out of "
            "the loaders"
        ) from error
    return LogisticRegression, StandardScaler


def probe_features(train: SplitPredictions, test: SplitPredictions) -> dict[str, float]:
    """Fit a linear classifier to the features of each modality, and apply it to other samples.

    Args:
        train: What it is fitted to.
        test: What it is applied to.

    Returns:
        Modality -> accuracy on ``test``, from 0 to 1.
    """
    regression, scaler = import_scikit_learn()
    accuracies = {}
    for m in train.parts:
        scale = scaler().fit(train.features[m].flatten(1).numpy())
        x, x_test = (scale.transform(split.features[m].flatten(1).numpy()) for split in (train, test))
        classifier = regression(C=1.0, max_iter=5000).fit(x, train.label.numpy())
        accuracies[m] = float(classifier.score(x_test, test.label.numpy()))
    return accuracies
