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
    """accuracy, macro_f1 and loss (mean cross-entropy) of logits (N, C) for labels (N,).

    Macro-F1 is the mean over the classes that occur among labels or predictions (as scikit-learn's).
    """
    classes, predicted = logits.shape[1], logits.argmax(1)
    confusion = torch.bincount(label * classes + predicted, minlength=classes**2).reshape(classes, classes).double()
    hits, count = confusion.diagonal(), confusion.sum(0) + confusion.sum(1)
    f1 = (2 * hits / count.clamp_min(1))[count > 0].mean()
    loss = F.cross_entropy(logits.double(), label)
    return {"accuracy": float(hits.sum() / len(label)), "macro_f1": float(f1), "loss": float(loss)}


def evaluate(engine: Engine, split: str) -> dict[str, float]:
    """The scores of a split: ``accuracy``... of the prediction, ``accuracy/<modality>``... of each modality's own."""
    fused, own, label = [], {}, []  # type: ignore[var-annotated]
    for output, batch in engine.predict(split):
        fused.append(engine.strategy.predict(output).float())
        label.append(batch.label)
        for m, z in output.unimodal_logits.items():
            own.setdefault(m, []).append(z.float())
    truth = torch.cat(label)
    found = scores(torch.cat(fused), truth)
    for m, parts in own.items():
        found |= {f"{name}/{m}": value for name, value in scores(torch.cat(parts), truth).items()}
    return found


def probe(engine: Engine) -> dict[str, float]:
    """modality -> test accuracy of logistic regression (L2, C = 1) on its frozen, standardised features.

    Fitted on the training split as evaluation sees it. A branch's accuracy mixes encoder and head; a probe's does not.
    """
    seen = {split: _features(engine, split) for split in ("train", "test")}
    found = {}
    for m in seen["train"][0]:
        (x, y), (x_test, y_test) = ((features[m].numpy(), label.numpy()) for features, label in seen.values())
        scaler = StandardScaler().fit(x)
        reader = LogisticRegression(C=1.0, max_iter=5000).fit(scaler.transform(x), y)
        found[m] = float(reader.score(scaler.transform(x_test), y_test))
    return found


def _features(engine: Engine, split: str) -> tuple[Mapping[str, Tensor], Tensor]:
    outputs: list[Output] = []
    label = []
    for output, batch in engine.predict(split):
        outputs.append(output)
        label.append(batch.label.cpu())
    features = {m: torch.cat([o.features[m] for o in outputs]).double().cpu() for m in outputs[0].features}
    return features, torch.cat(label)
