"""Adaptive gradient modulation (AGM): scale each modality's error signal by how far its lead exceeds its usual lead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from ogm.checks import check_complete
from ogm.context import Context, average
from ogm.parts.gradients import add, clip_gradients, finite_or_one, gradients_of
from ogm.parts.stages import evaluation_mode
from ogm.shapley import coalitions, shapley
from ogm.strategy import Strategy
from ogm.types import Batch, Output, Passes

SubsetLogits = dict[frozenset[str], Tensor]


class AGM(Strategy):
    """Slow a modality down when it leads by more than usual, and speed it up when it leads by less.

    Works with any fusion.

    Let F(S) be the logits (B, C) of the model when only the modalities in S are kept.

    In step t, inside the epoch window:
    1. Response of modality m: phi_m (B, C), its Shapley value of F; sum_m phi_m are the fused logits z. For two
       modalities phi_1 = (F(12) - F(2) + F(1)) / 2.
    2. Score c_m = mean over the batch of -log max(softmax(phi_m)[y], floor).
    3. r_m = exp(mean_{k != m} c_k - c_m), above 1 for a modality that leads. tau_m is the same formula of the mean
       scores of all earlier steps.
    4. kappa_m = exp(alpha min(tau_m - r_m, cap)).
    5. L = CE(z, y). In its backward pass the gradient with respect to phi_m is multiplied by kappa_m.
    6. If an element of the head's weight gradient is above 1 or below -1, clip the norm of all gradients to ``clip``.

    Only samples with every modality enter the scores. An absent modality counts as one that was removed.

    Args:
        alpha: Strength of the modulation, 0 or more. Published: 1.5 for CREMA-D, 2.5 for AV-MNIST, 4.0 for UR-FUNNY, in
            runs of 1500, 1000 and 800 epochs.
        ablation: How modalities are removed. ``"input"`` (as released): their inputs are zero, and F(S) is computed in
            evaluation mode, with a graph; this costs another forward and backward pass through every encoder.
            ``"feature"``: their features are zero, in training mode, at almost no cost. For a concat fusion this
            multiplies every gradient of encoder m and of its columns of the head by kappa_m, and that of the bias by
            the mean of kappa.
        cap: Upper limit of tau_m - r_m, above 0. Default: 10 for two modalities, 7 for three or more.
        floor: Smallest probability in the scores, between 0 and 1.
        clip: Gradient norm of step 6, above 0; None: never clip. Default 1, as released for CREMA-D.
        start: First epoch of the window, counted from 0.
        end: Last epoch of the window (inclusive); None: until the end of the run.

    Differences:
        - Released code: after the window the last kappa stays in force. Ours: kappa is 1 outside the window.
        - Released code: encodes all modalities again for every subset. Ours: each encoder runs once more, on its input
          and a single zero input beside it. A fusion in which the encoders exchange signals is run once per subset.
        - Released code: ``cap`` and ``floor`` differ between its scripts (caps: 10 for CREMA-D, 7 for UR-FUNNY, none
          for AVE, AV-MNIST and MOSEI). Ours: always both.
        - BalanceBenchmark: the sign of tau_m - r_m is inverted, and the term F(m) / 2 of the response is missing. Ours
          follows the released code.

    References:
        - Paper: Li et al., ICCV 2023 (arXiv 2308.07686).
        - Code: lihong2303/AGM_ICCV2023 at 5a65542; GeWu-Lab/BalanceBenchmark at 4c1482f.
    """

    category = "gradient"
    title = "Adaptive Gradient Modulation"
    paper = "Li et al., ICCV 2023"
    needs_whole_batch = True
    running: Tensor
    count: Tensor

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        ablation: Literal["input", "feature"] = "input",
        cap: float | None = None,
        floor: float = 1e-8,
        clip: float | None = 1.0,
        start: int = 0,
        end: int | None = None,
    ) -> None:
        super().__init__(start=start, end=end)
        if not (alpha >= 0 and (cap is None or cap > 0) and 0 < floor < 1 and (clip is None or clip > 0)):
            raise ValueError(
                f"alpha={alpha}, cap={cap}, floor={floor}, clip={clip}: choose alpha >= 0, cap > 0, 0 < floor < 1 "
                "and clip > 0"
            )
        self.reads = ("inputs" if ablation == "input" else "features", "fusion")
        self.alpha, self.ablation, self.cap, self.floor, self.clip = alpha, ablation, cap, floor, clip
        self._encoded: list[
            tuple[Tensor, Tensor]
        ] = []  # further outputs of the encoders, and what the fusion was given

    def setup(self) -> None:
        """Create the running means of the scores, and choose the default of ``cap``."""
        self.register_buffer("running", torch.zeros(len(self.modalities)))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        if self.cap is None:
            self.cap = 10.0 if len(self.modalities) == 2 else 7.0

    def passes(self, modalities: int) -> Passes:
        """Return (2 M, 2) for inputs that are removed, (M, 1) for features."""
        return Passes(2 * modalities, 2) if self.ablation == "input" else Passes(modalities, 1)

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the CE of the fused logits, with a graph that scales each response's gradient by kappa_m."""
        if not self.in_window(ctx):
            return super().losses(output, batch, ctx)
        phi = shapley_responses(self.subset_logits(output, batch), self.modalities)
        kappa = self.factors(phi, batch, ctx)
        return super().losses(replace(output, logits=scale_backward(output.logits, phi, kappa)), batch, ctx)

    def subset_logits(self, output: Output, batch: Batch) -> SubsetLogits:
        """Compute the logits of the model with some of the modalities alone, for every subset of them.

        Args:
            output: Output of the step, with the features of all modalities.
            batch: The batch of this step.

        Returns:
            Subset of modalities -> logits (B, C), with a graph.
        """
        fusion, all_modalities = self.fusion, set(self.modalities)
        logits = {frozenset(all_modalities): output.logits}
        subsets = [subset for subset in coalitions(self.modalities) if len(subset) < len(all_modalities)]
        if self.ablation == "feature":
            check_complete(self, "features", output.features)
            return logits | {
                subset: fusion(output.features, batch.present, drop=all_modalities - subset) for subset in subsets
            }
        check_complete(self, "inputs", batch.inputs)
        with evaluation_mode(fusion, *self._encoders.values()):
            if getattr(fusion, "input_kind", "features") != "features":
                for subset in subsets:
                    inputs = {m: x if m in subset else torch.zeros_like(x) for m, x in batch.inputs.items()}
                    features = fusion.encode(self._encoders, inputs, batch.present)
                    logits[subset] = fusion(features, batch.present)
                return logits
            encoded = {m: encode(with_zeros(batch.inputs[m])) for m, encode in self._encoders.items()}
            leaves = {m: z.detach().requires_grad_(z.requires_grad) for m, z in encoded.items()}
            self._encoded = [(encoded[m], leaf) for m, leaf in leaves.items() if leaf.requires_grad]
            for subset in subsets:
                features = {m: z[:-1] if m in subset else z[-1:].expand_as(z[:-1]) for m, z in leaves.items()}
                logits[subset] = fusion(features, batch.present)
        return logits

    def differentiate(self, losses: dict[str, Tensor], ctx: Context) -> None:
        """Add the gradient of the loss to every ``.grad``: first without, then through the encoders' further outputs.

        In one pass autograd would add up the two gradients of each parameter one by one.
        """
        super().differentiate(losses, ctx)
        encoded, self._encoded = [(z, leaf.grad) for z, leaf in self._encoded if leaf.grad is not None], []
        if not encoded:
            return
        outputs, errors = zip(*encoded, strict=True)
        parameters = [p for m in self.modalities for p in self.parameters_of(m)]
        found = torch.autograd.grad(outputs, parameters, errors, allow_unused=True)
        reached = [(p, g) for p, g in zip(parameters, found, strict=True) if g is not None]
        further = average([g for _, g in reached])  # where DistributedDataParallel has averaged ``.grad`` already
        both = [(p.grad, g) for (p, _), g in zip(reached, further, strict=True) if p.grad is not None]
        add([own for own, _ in both], [g for _, g in both])
        for (p, _), g in zip(reached, further, strict=True):
            if p.grad is None:
                p.grad = g

    def discard_step(self) -> None:
        """Forget a step that was not finished, and the outputs of its encoders."""
        super().discard_step()
        self._encoded = []

    @torch.no_grad()
    def factors(self, phi: Mapping[str, Tensor], batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the factors of the error signals, and update the running means of the scores.

        Args:
            phi: Modality -> response (B, C).
            batch: The batch of this step.
            ctx: Where to log, and communication between ranks.

        Returns:
            Modality -> 0-dim factor kappa_m, finite.
        """
        complete = batch.has_all(self.modalities)
        sums = [torch.where(complete, floored_ce(p, batch.label, self.floor), 0.0).sum() for p in phi.values()]
        *total, count = ctx.total(torch.stack([*sums, complete.sum()])).unbind()
        ce = torch.stack(total) / count.clamp_min(1)
        assert self.cap is not None
        kappa = torch.where(count > 0, modulation_factors(ce, self.running, self.alpha, self.cap), 1.0)
        valid = (count > 0) & torch.isfinite(ce).all()
        self.count += valid
        self.running.copy_(torch.where(valid, cumulative_mean(self.running, ce, self.count.clamp_min(1)), self.running))
        coefficients = dict(zip(self.modalities, finite_or_one(kappa, ctx).unbind(), strict=True))
        ctx.log(
            coefficients_above_100=(kappa > 100).sum(),
            **{f"coefficient/{m}": coefficient for m, coefficient in coefficients.items()},
        )
        return coefficients

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        """Clip the gradients of encoders and fusion if the head's are large (step 6)."""
        super().on_gradients(output, batch, ctx)
        if not self.in_window(ctx) or self.clip is None:
            return
        head_gradients = gradients_of(p for p in self.fusion.head.parameters() if p.ndim > 1)
        if head_gradients:
            large = torch.stack([g.abs().amax() for g in head_gradients]).amax() > 1
            modules = (*self._encoders.values(), self.fusion)
            clip_gradients((p for module in modules for p in module.parameters()), self.clip, where=large)


def floored_ce(logits: Tensor, label: Tensor, floor: float = 1e-8) -> Tensor:
    """Cross-entropy with a lower limit on the probability, in float64.

    Args:
        logits: (B, C).
        label: (B,).
        floor: The smallest probability.

    Returns:
        (B,) -log max(softmax(logits)[label], floor).
    """
    return -logits.double().softmax(1).gather(1, label[:, None])[:, 0].clamp_min(floor).log()


def lead_ratios(ce: Tensor) -> Tensor:
    """How far each modality leads the others.

    Args:
        ce: (M,) cross-entropies of the modalities' responses.

    Returns:
        (M,) exp(mean of the others' cross-entropies - the modality's own); above 1 for a modality that leads.
    """
    return torch.exp((ce.sum() - ce) / (len(ce) - 1) - ce)


def modulation_factors(ce: Tensor, running: Tensor, alpha: float, cap: float) -> Tensor:
    """Factors of the error signals.

    Args:
        ce: (M,) cross-entropies of this batch.
        running: (M,) their means over all earlier batches.
        alpha: Strength of the modulation.
        cap: Upper limit of the difference of the leads.

    Returns:
        (M,) kappa = exp(alpha min(leads(running) - leads(ce), cap)). NaN stays NaN.
    """
    return torch.exp(alpha * (lead_ratios(running) - lead_ratios(ce)).clamp_max(cap))


def cumulative_mean(running: Tensor, ce: Tensor, t: Tensor | int) -> Tensor:
    """Cumulative mean with one more batch.

    Args:
        running: (M,) mean over the first t - 1 batches.
        ce: (M,) values of batch t.
        t: Number of batches including this one, from 1.

    Returns:
        (M,) running (t - 1) / t + ce / t.
    """
    return running * ((t - 1) / t) + ce / t


def shapley_responses(subset_logits: SubsetLogits, players: tuple[str, ...]) -> dict[str, Tensor]:
    """Shapley responses of the modalities.

    Args:
        subset_logits: Subset of modalities -> logits (B, C). The logits of the empty subset cancel and are not needed.
        players: Names of all modalities.

    Returns:
        Modality -> response (B, C). The responses add up to the logits of all modalities.
    """
    all_logits = subset_logits[frozenset(players)]
    values = {frozenset[str](): torch.zeros_like(all_logits), **subset_logits}
    return {m: shapley(values, m, players) for m in players}


def scale_backward(logits: Tensor, phi: Mapping[str, Tensor], kappa: Mapping[str, Tensor]) -> Tensor:
    """The same logits, whose gradient reaches each response multiplied by its factor.

    Args:
        logits: (B, C) logits of all modalities.
        phi: Modality -> response (B, C), with a graph.
        kappa: Modality -> 0-dim factor.

    Returns:
        (B, C) logits + sum_m kappa_m (phi_m - phi_m), the subtracted terms and ``logits`` being constants of the
        backward pass. The values equal ``logits`` bit for bit.
    """
    return logits.detach() + torch.stack([kappa[m] * (p - p.detach()) for m, p in phi.items()]).sum(0)


def with_zeros(x: Tensor) -> Tensor:
    """Inputs with one more sample, the last, that is all zeros.

    Args:
        x: (B, ...).

    Returns:
        (B + 1, ...).
    """
    return torch.cat([x, torch.zeros_like(x[:1])])
