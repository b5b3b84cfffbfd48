"""Adaptively masking subnetworks (AMSS): the more a modality knows, the fewer of its filters are updated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ogm.checks import check_complete
from ogm.context import Context
from ogm.losses import full
from ogm.parts.gradients import gradients_of
from ogm.strategy import Strategy
from ogm.types import Batch, Output

MaskMode = Literal["adaptive", "unbiased", "random"]
ShareRule = Literal["others_mean", "complement"]
LEAST_KEPT, MOST_KEPT = 0.1, 0.9  # of the filters of a modality that are updated


class AMSS(Strategy):
    """Update only a part of the filters of each encoder, a smaller part of the modality that knows more.

    After the backward pass, from the unimodal logits u_m (B, C) and features f_m (B, D_m) of this step:
    1. I_m = H(Y) - CE(u_m, y) + 1/2, with H(Y) the entropy of the frequencies of the labels in the batch.
    2. E_m = mean entropy of softmax(f_m), r_m = I_m / E_m.
    3. keep = softmax over modalities of r_other / temperature, limited to [0.1, 0.9]: with two modalities, the share of
       one comes of the other's r. If some I_m <= 0, keep_m = 1/2 for all.
    4. In each weight of F filters of encoder m, ceil(F keep_m) filters are drawn without replacement, by probabilities
       p proportional to the squared norms of their gradients. The gradients of all other filters become 0.

    CE and E are means over the global batch. Norm layers and biases, heads and fusion keep their gradients. A filter
    whose gradient is 0 still moves by momentum and weight decay. A modality counts the samples that have it; if none
    has, keep_m = 1/2 for all.

    Args:
        mode: How filters are drawn. ``"adaptive"``: step 4 (AMSS). ``"unbiased"``: the gradients that are kept are also
            divided by p + 1 / F (AMSS+). ``"random"``: all filters are equally likely.
        temperature: T, above 0. Released: 0.2 for sound and image, 0.5 for text and image.
        multi: keep for three or more modalities. ``"others_mean"``: r_other is the mean of the others' r; the shares
            then add up to 1, if none is limited. ``"complement"``: keep_m = 1 - softmax(r / temperature)_m, as in the
            released code for NVGesture; they add up to M - 1. With two modalities these are the same.
        scope: Which weights have filters. ``"conv4d"``: those of two-dimensional convolutions, with four dimensions.
            ``"weights"``: all with two or more dimensions, for encoders without such convolutions; a filter is then a
            row of the weight.

    Differences:
        - Released code: its option has ``random`` by default, but all commands in its README that name it say
          ``Adaptive``, as the paper's abstract does ("non-uniform adaptive sampling"). Ours: ``"adaptive"``.
        - Released code: H(Y) is the cross-entropy of the frequencies with their softmax. Ours: their entropy.
        - Released code: computes a mask for the columns of the last layer, and never applies it. Ours: no such mask.
        - Released code: only convolutions inside residual layers, so not the first one. Ours: every convolution.
        - Released code for three modalities (NVGesture): ``multi="complement"``, with 3 in place of 1/2 in I_m, and
          every keep_m = 1/2 if one I_m is 1 or less. Ours: the same constants for any number of modalities.
        - Released code: draws on each process by itself. Ours: the same filters on all ranks.
        - Released code: fails if fewer filters than are to be drawn have a gradient. Ours: those without are drawn
          last.
        - Beyond its abstract the paper was not available to us; this is its released code.

    References:
        - Paper: Yang, Pan, Jiang, Xu and Tang, TPAMI 2025 (arXiv 2404.08347).
        - Code: njustkmg/TPAMI-AMSS at 3161ecc.
    """

    category = "gradient"
    title = "Adaptively Mask Subnetworks Considering Modal Significance"
    paper = "Yang et al., TPAMI 2025"
    touches = "weights"
    reads = ("unimodal_logits", "features")

    def __init__(
        self,
        mode: MaskMode = "adaptive",
        *,
        temperature: float = 0.2,
        multi: ShareRule = "others_mean",
        scope: Literal["conv4d", "weights"] = "conv4d",
    ) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature={temperature}: it must be above 0")
        self.mode, self.temperature, self.multi, self.scope = mode, temperature, multi, scope

    def setup(self) -> None:
        """Refuse encoders that have no filters in the scope."""
        parameters = [p for m in self.modalities for p in self.parameters_of(m)]
        if self.scope == "conv4d" and not any(p.ndim == 4 for p in parameters):
            raise ValueError(
                "amss masks the filters of two-dimensional convolutions, and no encoder has any: say scope='weights'"
            )

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        """Mask the gradients of each encoder's filters (steps 1 to 4)."""
        for what in self.reads:
            check_complete(self, what, getattr(output, what))
        super().on_gradients(output, batch, ctx)
        information, entropy = self.information(output, batch, ctx)
        keep = keep_shares(information, entropy, self.temperature, self.multi)
        ctx.log(**{f"keep/{m}": keep[k] for k, m in enumerate(self.modalities)})
        ctx.log(**{f"information/{m}": information[k] for k, m in enumerate(self.modalities)})
        inside = self.in_scope(self.scope)
        shares = [share.expand(len(several)) for share, several in zip(keep, inside.values(), strict=True)]
        self.mask([p for several in inside.values() for p in several], torch.cat(shares), ctx)

    def information(self, output: Output, batch: Batch, ctx: Context) -> tuple[Tensor, Tensor]:
        """Compute what the modalities know, and how spread their features are (steps 1 and 2).

        Args:
            output: Output of the step.
            batch: The batch of this step.
            ctx: Communication between ranks.

        Returns:
            I (M,) and E (M,), float64; NaN for a modality that no sample has.
        """
        sums = [label_counts(batch.label, output.logits.shape[1])]
        for m in self.modalities:
            present = batch.has_all([m])
            ce = self.criterion(full(output.unimodal_logits[m]), batch.label)
            each = torch.stack([ce, feature_entropy(output.features[m]), torch.ones_like(ce)]).double()
            sums.append(torch.where(present, each, 0.0).sum(1))
        counts, means = torch.split(ctx.total(torch.cat(sums)), [output.logits.shape[1], 3 * len(self.modalities)])
        ce_sum, entropy_sum, number = means.view(-1, 3).T
        return label_entropy(counts) - ce_sum / number + 0.5, entropy_sum / number

    def mask(self, parameters: Sequence[nn.Parameter], keep: Tensor, ctx: Context) -> None:
        """Keep the gradients of some filters of each parameter (step 4).

        Args:
            parameters: L parameters with gradients; the first dimension is that of the filters.
            keep: (L,) shares.
            ctx: Seed and step.
        """
        gradients = gradients_of(parameters)
        filters = [len(g) for g in gradients]
        real = torch.arange(max(filters)) < torch.tensor(filters)[:, None]  # (L, F); the rest of a row is padding
        place = torch.where(real, real.flatten().cumsum(0).view_as(real) - 1, 0)  # among the filters of all weights
        real, place = (x.to(keep.device, non_blocking=True) for x in (real, place))
        norms = torch.zeros(real.shape, dtype=torch.float64, device=keep.device)
        if self.mode != "random":
            each = [torch.linalg.vector_norm(full(g).flatten(1), dim=1) for g in gradients]
            norms = torch.where(real, torch.cat(each).double()[place], 0.0)
        probability = filter_probabilities(norms, real)
        numbers = torch.arange(real.numel(), device=keep.device).view(real.shape)
        ranks = draw_ranks(probability, ctx.uniform(numbers, "amss"))
        kept = (ranks < kept_count(real.sum(1), keep)[:, None]) & real
        factors = filter_factors(kept, probability, real.sum(1), self.mode == "unbiased").to(gradients[0].dtype)
        shapes = [(-1, *[1] * (g.ndim - 1)) for g in gradients]
        rows = [row[:n].view(shape) for row, n, shape in zip(factors, filters, shapes, strict=True)]
        torch._foreach_mul_(gradients, rows)


def feature_entropy(features: Tensor) -> Tensor:
    """Entropy of softmax(features), natural logarithm.

    Args:
        features: (B, D).

    Returns:
        (B,).
    """
    log_p = full(features).log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


def label_counts(label: Tensor, classes: int) -> Tensor:
    """How often each class occurs.

    Args:
        label: (B,).
        classes: Number of classes C.

    Returns:
        (C,) float64.
    """
    return (label[:, None] == torch.arange(classes, device=label.device)).sum(0).double()


def label_entropy(counts: Tensor) -> Tensor:
    """Entropy of the frequencies of the labels, natural logarithm.

    Args:
        counts: (C,) how often each class occurs.

    Returns:
        0-dim.
    """
    p = counts / counts.sum()
    return -torch.xlogy(p, p).sum()


def keep_shares(information: Tensor, entropy: Tensor, temperature: float, multi: ShareRule = "others_mean") -> Tensor:
    """Shares of the filters that are updated.

    Args:
        information: (M,) I; NaN if not known.
        entropy: (M,) E.
        temperature: T.
        multi: Rule for three or more modalities, see ``AMSS``.

    Returns:
        (M,) keep, in [0.1, 0.9]; 1/2 for all if an I is not positive, or not known.
    """
    ratio = information / entropy.clamp_min(1e-12)
    others = (ratio.sum() - ratio) / (len(ratio) - 1)
    scaled = (others if multi == "others_mean" else ratio) / temperature
    keep = scaled.softmax(0) if multi == "others_mean" else 1 - scaled.softmax(0)
    return torch.where((information > 0).all(), keep.clamp(LEAST_KEPT, MOST_KEPT), 0.5).nan_to_num(0.5)


def filter_probabilities(norms: Tensor, real: Tensor) -> Tensor:
    """Probabilities of the filters, by their gradients.

    Args:
        norms: (L, F) norm of the gradient of each filter, 0 where there is none.
        real: (L, F) bool, which filters there are; the first ones of each row.

    Returns:
        (L, F) proportional to the squared norms, each row of sum 1; equal if all gradients of a row are 0.
    """
    squares = (norms / norms.amax(1, keepdim=True).clamp_min(1e-300)).square()  # divided first: none overflows
    weights: Tensor = torch.where(squares.sum(1, keepdim=True) > 0, squares, real.to(squares.dtype))
    return weights / weights.sum(1, keepdim=True)


def draw_ranks(probability: Tensor, uniform: Tensor) -> Tensor:
    """Order in which filters are drawn, one after the other without replacement.

    Adding Gumbel noise to the logarithms of the probabilities and sorting draws in just this way.

    Args:
        probability: (L, F), each row of sum 1.
        uniform: (L, F) random numbers in [0, 1).

    Returns:
        (L, F) int64, 0 for the filter that is drawn first; those of probability 0 come last, in their order.
    """
    gumbel = -(-uniform.clamp_min(1e-300).log()).log()
    order = (probability.log() + gumbel).argsort(dim=1, descending=True, stable=True)
    return torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )


def kept_count(filters: Tensor, keep: Tensor) -> Tensor:
    """Number of filters that are kept.

    Args:
        filters: Number of filters F, of any shape.
        keep: Share of them.

    Returns:
        ceil(F keep), in the same shape.
    """
    return (filters * keep).ceil()


def filter_factors(kept: Tensor, probability: Tensor, filters: Tensor, unbiased: bool) -> Tensor:
    """What the gradients of the filters are multiplied by.

    Args:
        kept: (L, F) bool, which filters were drawn.
        probability: (L, F) p.
        filters: (L,) number of filters of each weight.
        unbiased: Whether kept gradients are divided by p + 1 / F.

    Returns:
        (L, F) 0 for a filter that is not kept; else 1, or 1 / (p + 1 / F).
    """
    return torch.where(kept, 1 / (probability + 1 / filters[:, None]) if unbiased else 1.0, 0.0).to(probability.dtype)
