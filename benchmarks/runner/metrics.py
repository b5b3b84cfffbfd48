"""What a model predicts on a split, and what a linear probe reads from its features."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from benchmarks.config.suite import OWN
from benchmarks.records.predictions import Predictions, centred
from ogm.engine import Diverged, Engine
from ogm.parts.ensembles import counted_modalities
from ogm.types import Output


def predict(engine: Engine, split: str) -> Predictions:
    """What the model predicts on a split.

    Args:
        engine: What predicts.
        split: ``train``, ``val`` or ``test``.

    Returns:
        The prediction of the method, and of each modality where a sample has it (of all where it has none).

    Raises:
        Diverged: A logit is not finite.
    """
    heads: dict[str, list[Tensor]] = {}
    there: dict[str, list[Tensor]] = {}
    labels = []
    for output, batch in engine.predict(split):
        branches = output.unimodal_logits
        labels.append(batch.label)
        heads.setdefault(OWN, []).append(engine.strategy.predict(output))
        for (m, logits), counted in zip(branches.items(), counted_modalities(branches, batch), strict=True):
            heads.setdefault(m, []).append(logits)
            there.setdefault(m, []).append(counted)
    kept = []
    for name, parts in heads.items():
        values = torch.cat(parts).double().cpu().numpy()
        if not np.isfinite(values).all():
            whose = "the prediction" if name == OWN else name
            raise Diverged(f"the logits of {whose} on {split} stopped being finite")
        kept.append(centred(values, None if name == OWN else torch.cat(there[name]).cpu().numpy()))
    return Predictions(np.stack(kept), torch.cat(labels).cpu().numpy(), tuple(heads)[1:])


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
