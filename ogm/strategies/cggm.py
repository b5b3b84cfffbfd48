"""Classifier-guided gradient modulation (CGGM): modalities that improve faster than others get smaller gradients."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ogm.checks import check_complete
from ogm.context import Context
from ogm.parts.gradients import clip_gradients
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class CGGM(Strategy):
    """Give smaller gradients to modalities that improve faster, as measured by auxiliary classifiers.

    In step t:
    1. Train a small classifier per modality on the detached feature of its encoder. acc_m(t) is its accuracy on this
       batch, before its update.
    2. Gain d_m = acc_m(t) - acc_m(t - 1), with acc_m(-1) = 0. B_m = (S - d_m) / S with S = sum_m d_m + 1e-8: the share
       of the gains that the other modalities made.
    3. Multiply all gradients of encoder m by rho B_m.
    4. Add to the loss of the next step lam (sum_m |B_m| - sum_m B_m cos_m) / M. cos_m is the cosine between the weights
       of the last layers of the fusion and of classifier m. It pulls the fusion's layer only.
    5. Clip the gradient norm of the network, without the classifiers, to ``clip``.

    A fusion whose logits are not the output of one linear layer (sum, late) has no term of step 4.

    Args:
        rho: Factor of the modulation, above 0. Released: 1.3; 1.0 for BraTS.
        lam: Weight of the direction term, 0 or more. Released: 0.2 for MOSI and IEMOCAP, 0.05 for Food-101, 0.1 for
            BraTS.
        safe: Limit B_m: (M - 1) / M for all modalities where S is at most 1e-3, else B_m in [0, 2]. Without it the
            formula of step 2 is used as it is, and B_m can have any size and sign.
        clip: Largest gradient norm, above 0; None: no clipping.
        classifier_lr: Learning rate of the classifiers, above 0. Default: that of the run. Released: 5e-4 beside 1e-3.

    Differences:
        - Paper: cos_m is the cosine between the gradients of the two layers. Released code and ours: between their
          weights; the author calls the two equivalent (issue 3 of the repository).
        - Released code: no limit on B_m (``safe=False``). Ours: ``safe=True``, because the gains of two random batches
          often add up to almost nothing or less.
        - Released code: classifiers are two-layer Transformers with an optimizer of their own. Ours: two linear layers,
          trained by the optimizer of the run.
        - Released code: the direction term of step t - 1 keeps its old graph. Ours: the cosine is taken of the present
          weights, with B_m of the last step, so that a resumed run needs no old graph.

    References:
        - Paper: Guo et al., NeurIPS 2024 (arXiv 2411.01409).
        - Code: zrguo/CGGM at 21e428c.
    """

    category = "gradient"
    title = "Classifier-Guided Gradient Modulation"
    paper = "Guo et al., NeurIPS 2024"
    reads = ("features",)
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
            raise ValueError(f"rho={rho}, lam={lam}, clip={clip}: choose rho > 0, lam >= 0 and clip > 0")
        if classifier_lr is not None and not classifier_lr > 0:
            raise ValueError(f"classifier_lr={classifier_lr}: the classifiers' learning rate must be above 0")
        self.rho, self.lam, self.safe, self.clip, self.classifier_lr = rho, lam, safe, clip, classifier_lr
        self.classifiers = nn.ModuleDict()

    def setup(self) -> None:
        """Create the classifiers, and buffers for accuracies and shares of the last batch."""
        if self.dims.keys() != set(self.modalities) or not self.num_classes:
            raise ValueError("CGGM has a classifier per modality: pass dims= and num_classes= to attach")
        last = self.last_layer()
        for m, wide in self.dims.items():
            hidden = wide if last is None else last.in_features  # to be comparable with the fusion's last layer
            layers = nn.Linear(wide, hidden), nn.ReLU(), nn.Linear(hidden, self.num_classes)
            self.classifiers[m] = nn.Sequential(*layers)
        self.register_buffer("accuracy", torch.zeros(len(self.modalities)))
        self.register_buffer("share", torch.zeros(len(self.modalities)))  # B of the last batch

    def last_layer(self) -> nn.Linear | None:
        """The linear layer that outputs the fused logits; None if there is no single one."""
        head = getattr(self._fusion[0], "head", None)
        return head if isinstance(head, nn.Linear) and head.out_features == self.num_classes else None

    def last_layers(self) -> list[nn.Linear]:
        """The last linear layer of each classifier, in the order of the modalities."""
        return [list(layers.children())[-1] for layers in self.classifiers.values()]  # type: ignore[misc]

    def param_groups(self) -> list[dict[str, Any]]:
        """Train the classifiers with a learning rate of their own, and do not clip them with the network."""
        options = {} if self.classifier_lr is None else {"lr": self.classifier_lr}
        return [{"params": list(self.parameters()), "clip": False, **options}]

    def replace_unimodal_logits(self, output: Output) -> Output:
        """Add the classifiers' logits on detached features to ``extra``."""
        check_complete(self, "features", output.features)
        predictions = {
            f"classifier/{m}": classifier(output.features[m].detach()) for m, classifier in self.classifiers.items()
        }
        return replace(output, extra=output.extra | predictions)

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the CE of the fused logits and of each classifier, and the direction term (step 4)."""
        predictions = {f"classifier/{m}": output.extra[f"classifier/{m}"] for m in self.modalities}
        classifier_losses = {name: self.loss(z, batch, ctx, name.partition("/")[2]) for name, z in predictions.items()}
        losses = super().losses(output, batch, ctx) | classifier_losses
        last = self.last_layer()
        if last is not None and self.lam > 0:
            classifiers = torch.stack([layer.weight.detach() for layer in self.last_layers()])
            losses["direction"] = direction_term(self.share, cosines(last.weight, classifiers), self.lam)
        return losses

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        """Multiply the encoders' gradients by rho B_m, and clip (steps 2, 3 and 5)."""
        super().on_gradients(output, batch, ctx)
        accuracies = self.classifier_accuracies(output, batch, ctx)
        b = others_share(accuracies - self.accuracy, safe=self.safe)
        torch._foreach_copy_([self.accuracy, self.share], [accuracies, b])
        factors = (self.rho * self.share).unbind()
        for m, k, accuracy in zip(self.modalities, factors, accuracies.unbind(), strict=True):
            ctx.log(**{f"coefficient/{m}": k, f"classifier_accuracy/{m}": accuracy})
            self.modulate(self.parameters_of(m), k, "grad")
        if self.clip is not None:
            modules = (*self._encoders.values(), *(f for f in self._fusion if f is not None))
            clip_gradients((p for module in modules for p in module.parameters()), self.clip)

    def classifier_accuracies(self, output: Output, batch: Batch, ctx: Context) -> Tensor:
        """Compute the accuracy of each classifier on the samples that have its modality.

        Args:
            output: Output of the step, with the classifiers' logits in ``extra``.
            batch: The whole batch of this step.
            ctx: Communication between ranks.

        Returns:
            (M,) accuracies over the global batch; the last one if no sample has the modality.
        """
        present = batch.presence(self.modalities)
        predictions = torch.stack([output.extra[f"classifier/{m}"] for m in self.modalities]).argmax(2)
        right = (predictions == batch.label) & present
        correct, count = ctx.total(torch.stack([right, present]).sum(2, dtype=torch.float64)).unbind()
        return torch.where(count > 0, correct / count, self.accuracy)


def others_share(gains: Tensor, *, safe: bool = True) -> Tensor:
    """The share of all gains in accuracy that the other modalities made.

    Args:
        gains: (M,) gains of the modalities since the last step.
        safe: Limit the shares, see ``CGGM``.

    Returns:
        (M,) B_m = (S - gain_m) / S, with S the sum of all gains + 1e-8.
    """
    total = gains.sum() + 1e-8
    b = (total - gains) / total
    if not safe:
        return b
    return b.clamp(0, 2).masked_fill(total <= 1e-3, (len(gains) - 1) / len(gains))


def cosines(one: Tensor, others: Tensor) -> Tensor:
    """Cosine similarities of a tensor with others, taken as vectors.

    Args:
        one: Tensor of any shape.
        others: (M, ...) M tensors of the same shape.

    Returns:
        (M,) cosines; 0 if one of the two is zero.
    """
    one, units = one.flatten(), F.normalize(others.flatten(1), dim=1)
    return units @ one * (one @ one + 1e-24).rsqrt()


def direction_term(b: Tensor, cosine: Tensor, lam: float = 1.0) -> Tensor:
    """The direction term of the loss.

    Args:
        b: (M,) shares B_m.
        cosine: (M,) cosines cos_m.
        lam: Its weight.

    Returns:
        0-dim lam (sum_m |B_m| - sum_m B_m cos_m) / M.
    """
    b = lam / len(b) * b
    return b.abs().sum() - b @ cosine
