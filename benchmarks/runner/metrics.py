"""What a prediction is worth: accuracy, macro-F1, loss, and what a linear probe reads from the features."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from ogm.engine import Engine
from ogm.types import Output


def scores(logits: Tensor, label: Tensor) -> dict[str, float]:
    """Accuracy, macro-F1 and mean cross-entropy of a prediction.

    Args:
        logits: (N, C).
        label: (N,) class numbers.

    Returns:
        ``accuracy``, ``macro_f1`` (the mean over the classes that occur among labels or predictions, as
        scikit-learn's) and ``loss``.
    """
    classes, predicted = logits.shape[1], logits.argmax(1)
    confusion = torch.bincount(label * classes + predicted, minlength=classes**2).reshape(classes, classes).double()
    hits, count = confusion.diagonal(), confusion.sum(0) + confusion.sum(1)
    f1 = (2 * hits / count.clamp_min(1))[count > 0].mean()
    loss = F.cross_entropy(logits.double(), label)
    return {"accuracy": float(hits.sum() / len(label)), "macro_f1": float(f1), "loss": float(loss)}


def evaluate(engine: Engine, split: str) -> dict[str, float]:
    """The scores of a split.

    Args:
        engine: What predicts.
        split: ``train``, ``val`` or ``test``.

    Returns:
        ``accuracy``, ... of the prediction, and ``accuracy/<modality>``, ... of each modality's own.
    """
    fused: list[Tensor] = []
    unimodal: dict[str, list[Tensor]] = {}
    labels = []
    for output, batch in engine.predict(split):
        fused.append(engine.strategy.predict(output).float())
        labels.append(batch.label)
        for m, logits in output.unimodal_logits.items():
            unimodal.setdefault(m, []).append(logits.float())
    label = torch.cat(labels)
    result = scores(torch.cat(fused), label)
    for m, parts in unimodal.items():
        result |= {f"{name}/{m}": value for name, value in scores(torch.cat(parts), label).items()}
    return result


def probe(engine: Engine) -> dict[str, float]:
    """How well a linear classifier reads the classes from each modality's frozen features.

    Logistic regression (L2, C = 1) on standardised features, fitted on the training split as evaluation sees it. A
    branch's accuracy mixes encoder and head; a probe's does not.

    Args:
        engine: Whose encoders are probed.

    Returns:
        Modality -> test accuracy.
    """
    by_split = {split: _features(engine, split) for split in ("train", "test")}
    accuracies = {}
    for m in by_split["train"][0]:
        (x, y), (x_test, y_test) = ((features[m].numpy(), label.numpy()) for features, label in by_split.values())
        scaler = StandardScaler().fit(x)
        classifier = LogisticRegression(C=1.0, max_iter=5000).fit(scaler.transform(x), y)
        accuracies[m] = float(classifier.score(scaler.transform(x_test), y_test))
    return accuracies


def _features(engine: Engine, split: str) -> tuple[Mapping[str, Tensor], Tensor]:
    """Each modality's features (N, D_m), in double precision, and the labels (N,), on the CPU."""
    outputs: list[Output] = []
    labels = []
    for output, batch in engine.predict(split):
        outputs.append(output)
        labels.append(batch.label.cpu())
    features = {m: torch.cat([o.features[m] for o in outputs]).double().cpu() for m in outputs[0].features}
    return features, torch.cat(labels)
