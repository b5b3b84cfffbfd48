"""Self-supervised pre-training of one encoder (SimCLR or VICReg): a stage of ``ssl_pretrain``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ogm.augmentations import InputKind, kind_of, view
from ogm.context import TrainingContext
from ogm.losses import full, nt_xent
from ogm.parts.heads import Projector, UnimodalModel, gather_rows, row_moments
from ogm.strategy import Strategy
from ogm.types import Batch, Output, Passes


class SSLUnimodal(Strategy):
    """Train one encoder without labels, on two random views of each sample.

    1. Two views of each input (``ogm/augmentations.py``) are mapped by the encoder and a projector (Linear, batch norm,
       ReLU, Linear) to embeddings (B, 128).
    2. ``"simclr"``: NT-Xent loss of the unit-norm embeddings (eq. 1 of SimCLR), mean over all 2B anchors; all other
       views of the global batch are negatives. ``"vicreg"``: 25 invariance + 25 variance + 1 covariance; no negatives.

    Only training samples are used. A linear head on the detached feature is trained with labels, to report how well the
    feature separates the classes; it has no influence on the encoder. The projector is thrown away after the run.

    Args:
        modality: The modality whose encoder is trained. Required.
        objective: ``"simclr"`` or ``"vicreg"``.
        temperature: Temperature of NT-Xent, above 0. Default 0.1, as in the released SimCLR code.
        kinds: Modality -> kind of its input, where the shape misleads (see ``ogm.augmentations.kind_of``).

    Differences:
        - Released SimCLR code: adds the means over the two directions. Ours: the mean over all anchors, half of that.
        - Released SimCLR code: the LARS optimizer. Ours: optimizer, learning rate, batch size and number of epochs of
          the run.

    References:
        - Paper: Chen et al., ICML 2020 (SimCLR); Bardes et al., ICLR 2022 (VICReg).
        - Code of SimCLR: google-research/simclr at 383d414.
    """

    category = "stage"
    title = "Self-supervised training of one encoder"
    paper = "Chen et al., ICML 2020; Bardes et al., ICLR 2022"
    prediction = "branch"
    stages = "made for ssl_pretrain; no competitor"
    needs_engine = True
    competes = False
    needs_whole_batch = True

    def __init__(
        self,
        modality: str,
        objective: Literal["simclr", "vicreg"] = "simclr",
        *,
        temperature: float = 0.1,
        kinds: Mapping[str, InputKind] | None = None,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: the temperature must be above 0")
        self.modality, self.temperature, self.kinds = modality, temperature, dict(kinds or {})
        self.objective: Literal["simclr", "vicreg"] = objective

    def passes(self, modalities: int) -> Passes:
        """Return (2, 1): two views of one input."""
        return Passes(2, 1)

    def setup(self) -> None:
        """Create the monitoring head and the projector."""
        if self.modality not in self.modalities:
            raise ValueError(f"modality={self.modality!r} is unknown: there are {', '.join(self.modalities)}")
        self.classifier = self.head(self.modality)
        self.projector = Projector(self.dims[self.modality])

    def param_groups(self) -> list[dict[str, Any]]:
        """Train projector and head; the head is not clipped with the rest."""
        return [
            {"params": list(self.projector.parameters())},
            {"params": list(self.classifier.parameters()), "clip": False},  # not clipped with the others
        ]

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        """Predict with the encoder and the monitoring head."""
        output: Output = self.export(model)(batch.inputs[self.modality])
        return output

    def step(self, batch: Batch, engine: TrainingContext) -> Output:
        """Train on two views of each input of a batch."""
        m, x = self.modality, batch.inputs[self.modality]
        kind, valid = self.kinds.get(m, kind_of(x)), batch.has_all([m]) if m in batch.present else None
        (part,) = engine.split(batch)
        views = [view(x, kind, part.index, f"view/{k}", engine) for k in (1, 2)]
        with engine.autocast():
            features = [engine.model.encoders[m](v) for v in views]
            first, second = (self.projector(f, valid) for f in features)
            if self.objective == "simclr":
                values = nt_xent(first, second, self.temperature, valid)
                losses = {"simclr": engine.mean(values, part.weights([m]))}
            else:
                weight = {"invariance": 25.0, "variance": 25.0, "covariance": 1.0}
                losses = {name: weight[name] * x for name, x in vicreg(first, second, valid).items()}
            logits = self.classifier(features[0].detach())
            losses["monitor"] = self.loss(logits, part, engine, m)
        self.differentiate(losses, engine)
        engine.record(losses)
        engine.finish_gradients()
        engine.update()
        return Output(logits, {m: logits}, {m: features[0]}).detach()

    def export(self, model: Any) -> nn.Module:
        """Return the encoder and its monitoring head."""
        return UnimodalModel(self.modality, model.encoders[self.modality], self.classifier)


def vicreg(x: Tensor, y: Tensor, valid: Tensor | None = None) -> dict[str, Tensor]:
    """The three terms of VICReg, without their weights, over the samples of all ranks.

    Args:
        x: (B, D) embeddings of the first view.
        y: (B, D) embeddings of the second view.
        valid: (B,) bool, the samples that count; None: all.

    Returns:
        0-dim terms: ``"invariance"``: mean squared difference. ``"variance"``: mean over both views and all coordinates
        of max(0, 1 - sqrt(var + 1e-4)), with unbiased variance. ``"covariance"``: sum of the squared off-diagonal
        covariances over D, added over both views.
    """
    (x, weight), (y, _) = gather_rows(full(x), valid), gather_rows(full(y), valid)
    count = weight.sum()
    invariance = (weight * (x - y).square().mean(1)).sum() / count.clamp_min(1)
    hinge, covariance = [], []
    with torch.autocast(x.device.type, enabled=False):
        for rows in (x, y):
            centred = weight[:, None] * (rows - row_moments(rows, weight)[0])
            matrix = centred.T @ centred / (count - 1).clamp_min(1)
            variance = matrix.diagonal()
            hinge.append((1 - (variance + 1e-4).sqrt()).relu().mean())
            covariance.append((matrix.square().sum() - variance.square().sum()) / len(matrix))
    return {
        "invariance": invariance,
        "variance": (hinge[0] + hinge[1]) / 2,
        "covariance": covariance[0] + covariance[1],
    }
