"""Classifier-guided gradient modulation: whoever improves faster than the others gets a smaller gradient."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ogm.context import Context
from ogm.strategies.agm import clip_where
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class CGGM(Strategy):
    """Guo et al., NeurIPS 2024 (arXiv 2411.01409); spec methods_gradient.md, 3.16.

    A small classifier per modality learns from the encoder's features, which it does not change. Its batch accuracies
    say how much each modality gained since the last batch; B_m is the *others'* share of all gains, and the gradient of
    encoder m, all parameters, is multiplied by ``rho`` B_m. The loss has a second term, ``lam`` times
    (sum |B_m| - sum B_m cos_m) / M of the last batch, cos_m being the cosine between the weights of the last layers of
    the fusion and of classifier m: the released code's, which the author calls equivalent to the paper's cosine of
    gradients. It needs one linear layer there; without (sum, late) the term is left out. The network's gradient, not
    the classifiers', is clipped to norm ``clip``.

    Gains between two random batches are often near zero or negative in sum, and B_m then of any size and sign. ``safe``
    (the specification's): all count (M - 1) / M if the sum is at most 1e-3, else B_m is kept within 0 and 2; without it
    the formula is bare, as in the released code. Other deviations: the classifiers are two linear layers (official:
    Transformers), trained by the run's optimizer, at the run's learning rate or at ``classifier_lr`` (official: 5e-4
    beside 1e-3); ``rho`` and ``lam`` are the official ones for MOSI and IEMOCAP (Food-101: lam 0.05); the cosine of the
    last batch's term is taken of the present weights, not of those it was formed with, so that a resumed run needs no
    old graph.
    """

    category = "gradient"
    paper = "Guo et al., NeurIPS 2024"
    accuracy: Tensor
    share: Tensor

    def __init__(
        self,
        rho: float = 1.3,
        lam: float = 0.2,
        *,
        safe: bool = True,
        clip: float | None = 0.8,
        classifier_lr: float | None = None,
    ) -> None:
        super().__init__()
        if not (0 < rho < math.inf and lam >= 0 and (clip is None or clip > 0)):
            raise ValueError(f"rho={rho}, lam={lam}, clip={clip}: needs rho > 0, lam >= 0, clip > 0")
        if classifier_lr is not None and not classifier_lr > 0:
            raise ValueError(f"classifier_lr={classifier_lr}: the classifiers' learning rate must be above 0")
        self.rho, self.lam, self.safe, self.clip, self.classifier_lr = rho, lam, safe, clip, classifier_lr
        self.classifiers = nn.ModuleDict()

    def setup(self) -> None:
        if self.dims.keys() != set(self.modalities) or not self.num_classes:
            raise ValueError("CGGM owns a classifier per modality: pass dims= and num_classes= to attach")
        last = self.last_layer()
        for m, wide in self.dims.items():
            hidden = wide if last is None else last.in_features  # as wide as the fused one, to be compared with it
            layers = nn.Linear(wide, hidden), nn.ReLU(), nn.Linear(hidden, self.num_classes)
            self.classifiers[m] = nn.Sequential(*layers)
        self.register_buffer("accuracy", torch.zeros(len(self.modalities)))
        self.register_buffer("share", torch.zeros(len(self.modalities)))  # B of the last batch

    def last_layer(self) -> nn.Linear | None:
        """The one linear layer that says the fused logits, if there is one."""
        head = getattr(self._fusion[0], "head", None)
        return head if isinstance(head, nn.Linear) and head.out_features == self.num_classes else None

    def last_layers(self) -> list[nn.Linear]:
        """Those of the classifiers."""
        return [list(layers.children())[-1] for layers in self.classifiers.values()]  # type: ignore[misc]

    def param_groups(self) -> list[dict[str, Any]]:
        own = {} if self.classifier_lr is None else {"lr": self.classifier_lr}
        return [{"params": list(self.parameters()), "clip": False, **own}]

    def read(self, output: Output) -> Output:
        if output.features.keys() != self.classifiers.keys():
            raise ValueError("CGGM classifies features: the output needs those of every modality")
        said = {f"classifier/{m}": read(output.features[m].detach()) for m, read in self.classifiers.items()}
        return replace(output, extra=output.extra | said)

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        said = {f"classifier/{m}": output.extra[f"classifier/{m}"] for m in self.modalities}
        own = {name: self.loss(z, batch, ctx, name.partition("/")[2]) for name, z in said.items()}
        found = super().losses(output, batch, ctx) | own
        last = self.last_layer()
        if last is not None and self.lam > 0:
            cosines = [cosine(last.weight, c.weight.detach()) for c in self.last_layers()]
            found["direction"] = self.lam * direction(self.share, torch.stack(cosines))
        return found

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        super().on_gradients(output, batch, ctx)
        now = torch.stack([self.hits(m, output, batch, ctx) for m in self.modalities])
        b = others_share(now - self.accuracy, safe=self.safe)
        self.accuracy.copy_(now)
        self.share.copy_(b)
        for m, x, y in zip(self.modalities, b.unbind(), now.unbind(), strict=True):
            ctx.log(**{f"coefficient/{m}": self.rho * x, f"classifier_accuracy/{m}": y})
            for p in self.parameters_of(m):
                self.modulate(p, self.rho * x, "grad")
        if self.clip is not None:
            parts = (*self._encoders.values(), *(f for f in self._fusion if f is not None))
            found = [p for part in parts for p in part.parameters() if p.grad is not None]
            clip_where(now.new_ones((), dtype=torch.bool), found, self.clip)

    def hits(self, modality: str, output: Output, batch: Batch, ctx: Context) -> Tensor:
        """The classifier's accuracy on those of the batch that have the modality; the last one if there are none."""
        rows = batch.have([modality])
        right = (output.extra[f"classifier/{modality}"].argmax(1) == batch.label) & rows
        hits, count = ctx.total(torch.stack([right.sum(), rows.sum()])).unbind()
        return torch.where(count > 0, hits / count.clamp_min(1), self.accuracy[self.modalities.index(modality)])


def others_share(gains: Tensor, *, safe: bool = True) -> Tensor:
    """B (M,): what of all gains (M,) in accuracy the other modalities made."""
    total = gains.sum() + 1e-8
    b = (total - gains) / total
    if not safe:
        return b
    return torch.where(total <= 1e-3, (len(gains) - 1) / len(gains), b.clamp(0, 2))


def cosine(one: Tensor, other: Tensor) -> Tensor:
    """Of two tensors of one shape, as vectors; 0-dim."""
    return F.cosine_similarity(one.flatten(), other.flatten(), dim=0, eps=1e-12)


def direction(b: Tensor, cosines: Tensor) -> Tensor:
    """(sum |B_m| - sum B_m cos_m) / M, of (M,) each: the less a modality's gain, the more its direction counts."""
    return (b.abs().sum() - (b * cosines).sum()) / len(b)
