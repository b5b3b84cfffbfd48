"""ARL: each modality drives the model in inverse proportion to the variance of its prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ogm.checks import check_complete
from ogm.context import Context
from ogm.imbalance import TINY, true_class_scores
from ogm.losses import entropy
from ogm.parts.gradients import finite_or_one
from ogm.strategy import Strategy
from ogm.types import Batch, Output, Target

FACTOR = 1.5  # of every encoder's gradient in the released code


class ARL(Strategy):
    """Aim for an imbalance: the modality whose prediction has the lower entropy gets the larger gradient.

    o_m (B, C) are the fused logits with the features of all other modalities at zero; biases stay. With
    ``variant="paper"``, for two modalities, in each step:
    1. L = CE(z, y) + gamma sum_m CE(o_m, y).
    2. H_m = mean entropy of softmax(o_m), s_m = sum of softmax(o_m)[y], both over the samples of the global batch that
       have both modalities. q = H_1 / H_0 (eq. 17), d = s_0 / s_1 (eq. 4).
    3. (a_0, a_1) = softmax(temperature q, temperature d) (eq. 18).
    4. The whole gradient of encoder m is multiplied by 1 + a_m (eq. 19 and 20); the fusion keeps its own.

    With ``variant="code"``, for any number of modalities: before epoch ``warmup``, gamma is 1 and all factors are 1;
    from then on gamma counts, and every encoder's gradient is multiplied by 1.5. It is a weighted multi-loss, and
    stands beside the method as a control. What the released script computes in each step and only prints are the curves
    ``printed_weight/<modality>``, for two modalities.

    The prediction is argmax z; the unimodal accuracies are those of o_m.

    Args:
        gamma: Weight of the unimodal losses, 0 or more. Paper: 4. Released scripts: 4 for CREMA-D, 3 for
            Kinetics-Sounds, 5 for AVE.
        temperature: T of the softmax in step 3, 0 or more. Paper: 8 for CREMA-D, 4 elsewhere.
        variant: ``"paper"`` or ``"code"``, as above.
        warmup: Number of epochs before gamma and the factor of ``variant="code"``, 0 or more; no use otherwise. Default
            6, as released: epochs 0 to 5.
        target: Scale the gradients (``"grad"``, as released) or the optimizer's updates (``"update"``), for optimizers
            that undo a constant factor of the gradient.

    Differences:
        - Paper: q = 1 / sum_c p_c log p_c per modality, which is negative. The sign cancels in the quotient.
        - Paper: d is of one sample. Ours: of sums over the batch, as in OGM-GE.
        - Paper: reports three modalities (MOSI) without a formula for them. Ours: two, with ``variant="paper"``.
        - Released code: the weights are computed and printed, but the gradients are scaled by weights that are set to
          0.5 and never changed, that is by 1.5 for every modality. Ours: ``variant="code"``.
        - Released code: its weights are softmax(T (magnitude of the other modality) (weight by entropy)), with
          entropies clamped at 0.3 of their sum; eq. 17 and 18 are not in it.
        - Released code: the hook multiplies a tensor by the tuple ``saved_tensors``, a TypeError from epoch 6 on, and
          with a ResNet the script ends in ``raise EOFError`` before it trains, so that it does not run. Ours follows
          its formulas.
        - Released script for VGGSound: calls a file that is not in the repository.
        - Released code: keeps the epoch that is best on the test set, from epoch 31 on. Ours: does not look at it.

    References:
        - Paper: Wei, Luo and Luo, ICCV 2025 (arXiv 2507.10203).
        - Code: shicaiwei123/ICCV2025-ARL at 358af4f.
    """

    category = "gradient"
    title = "Asymmetric Representation Learning"
    paper = "Wei et al., ICCV 2025"
    most_modalities: int | None = 2
    reads = ("features", "fusion")

    def __init__(
        self,
        gamma: float = 4.0,
        temperature: float = 4.0,
        *,
        variant: Literal["paper", "code"] = "paper",
        warmup: int = 6,
        target: Target = "grad",
    ) -> None:
        super().__init__()
        if not (gamma >= 0 and temperature >= 0 and warmup >= 0):
            raise ValueError(f"gamma={gamma}, temperature={temperature}, warmup={warmup}: all must be 0 or more")
        self.gamma, self.temperature, self.variant, self.warmup, self.target = (
            gamma,
            temperature,
            variant,
            warmup,
            target,
        )
        self.needs_optimizer = target == "update"
        if variant == "code":
            self.most_modalities = None

    def warming_up(self, ctx: Context) -> bool:
        """Return whether this is an epoch before gamma and the factor of the released code."""
        return self.variant == "code" and ctx.epoch < self.warmup

    def replace_unimodal_logits(self, output: Output) -> Output:
        """Replace the unimodal logits by the fused ones with all other features at zero."""
        check_complete(self, "features", output.features)
        alone = {m: self.fusion(output.features, drop=set(self.modalities) - {m}) for m in self.modalities}
        return replace(output, unimodal_logits=alone)

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the CE of the fused logits and, weighted, of every o_m."""
        weight = 1.0 if self.warming_up(ctx) else self.gamma
        unimodal = {f"unimodal/{m}": weight * self.loss(z, batch, ctx, m) for m, z in output.unimodal_logits.items()}
        return super().losses(output, batch, ctx) | unimodal

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        """Multiply the gradient of each encoder by its factor."""
        found = statistics(output.unimodal_logits, batch, ctx)
        self.log_ratios(found.score, ctx)
        if self.variant == "code" and len(self.modalities) == 2:
            weights = printed_weights(found, self.temperature).weight
            ctx.log(**{f"printed_weight/{m}": w for m, w in weights.items()})
        if self.warming_up(ctx):
            return
        factors = self.factors(found, ctx)
        ctx.log(**{f"coefficient/{m}": k for m, k in factors.items()})
        for m, parameters in self.in_scope("all").items():
            self.modulate(parameters, factors[m], self.target)

    def factors(self, found: Statistics, ctx: Context) -> dict[str, Tensor] | dict[str, float]:
        """Compute the factors of the gradients.

        Args:
            found: Statistics of the global batch.
            ctx: Where to log how many are not finite; these count as 1.

        Returns:
            Modality -> factor; 1 if no sample has all modalities.
        """
        if self.variant == "code":
            return dict.fromkeys(self.modalities, FACTOR)
        shares = asymmetry(found, self.temperature).coefficient
        k = torch.where(found.samples > 0, 1 + torch.stack(list(shares.values())), 1.0)
        return dict(zip(shares, finite_or_one(k, ctx).unbind(), strict=True))


class Statistics(NamedTuple):
    """What is known of the predictions of a global batch, over the samples that have all modalities.

    Attributes:
        entropy: Modality -> 0-dim mean entropy H_m.
        magnitude: Modality -> 0-dim sum over the classes of the mean absolute logit.
        score: Modality -> 0-dim sum s_m of the true class's probability.
        samples: 0-dim number of these samples.
    """

    entropy: dict[str, Tensor]
    magnitude: dict[str, Tensor]
    score: dict[str, Tensor]
    samples: Tensor


class Asymmetry(NamedTuple):
    """The ratios and the coefficients of step 3.

    Attributes:
        q_ratio: 0-dim H_1 / H_0.
        d_ratio: 0-dim s_0 / s_1.
        coefficient: Modality -> 0-dim a_m.
    """

    q_ratio: Tensor
    d_ratio: Tensor
    coefficient: dict[str, Tensor]


class Printed(NamedTuple):
    """What the released script computes and prints; each is modality -> 0-dim number.

    Attributes:
        entropy_share: H_m over the sum of both.
        variance_weight: 1 / max(entropy share, 0.3), over the sum of both.
        magnitude_share: Magnitude of the logits over the sum of both.
        weight: softmax over modalities of T times the other's magnitude share times the own variance weight.
    """

    entropy_share: dict[str, Tensor]
    variance_weight: dict[str, Tensor]
    magnitude_share: dict[str, Tensor]
    weight: dict[str, Tensor]


def statistics(logits: Mapping[str, Tensor], batch: Batch, ctx: Context) -> Statistics:
    """Compute the statistics of the global batch.

    Args:
        logits: Modality -> o_m (B, C).
        batch: Labels, and which samples have which modality.
        ctx: Communication between ranks.

    Returns:
        The statistics, without a graph; entropies are NaN if no sample has all modalities.
    """
    complete = batch.has_all(logits)
    values = [x for z in logits.values() for x in (entropy(z.detach().double()), z.detach().double().abs().sum(1))]
    sums = ctx.total(torch.stack([*(torch.where(complete, x, 0.0).sum() for x in values), complete.sum()]))
    means = sums[:-1] / sums[-1]
    entropies, magnitudes = (dict(zip(logits, means[k::2].unbind(), strict=True)) for k in (0, 1))
    return Statistics(entropies, magnitudes, true_class_scores(logits, batch, ctx), sums[-1])


def asymmetry(found: Statistics, temperature: float) -> Asymmetry:
    """Compute the coefficients of two modalities.

    Args:
        found: Statistics of the global batch; what is below 1e-12 is set to it.
        temperature: T.

    Returns:
        The two ratios, and the coefficients.
    """
    first, second = (h.clamp_min(TINY) for h in found.entropy.values())
    score, other = (s.clamp_min(TINY) for s in found.score.values())
    ratios = torch.stack([second / first, score / other])
    coefficients = (temperature * ratios).softmax(0).unbind()
    return Asymmetry(ratios[0], ratios[1], dict(zip(found.entropy, coefficients, strict=True)))


def printed_weights(found: Statistics, temperature: float) -> Printed:
    """Compute what the released script prints for two modalities.

    Args:
        found: Statistics of the global batch.
        temperature: T.

    Returns:
        The numbers on the way, and the weights.
    """

    def share(x: Tensor) -> Tensor:
        return x / x.sum()

    entropies, magnitudes = (share(torch.stack(list(x.values()))) for x in (found.entropy, found.magnitude))
    variance = share(1 / entropies.clamp_min(0.3))
    weights = (temperature * magnitudes.flip(0) * variance).softmax(0)
    return Printed(
        *(dict(zip(found.entropy, x.unbind(), strict=True)) for x in (entropies, variance, magnitudes, weights))
    )
