"""Adaptive gradient modulation: scale each modality's error signal by how its lead differs from what it used to be."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ogm.coalitions import coalitions, shapley
from ogm.context import Context
from ogm.strategies.ogm import usable
from ogm.strategy import Passes, Strategy
from ogm.types import Batch, Output

Worth = dict[frozenset[str], Tensor]


class AGM(Strategy):
    """Li et al., ICCV 2023 (arXiv 2308.07686); spec methods_gradient.md, 3.6. For any fusion.

    The response of a modality is its Shapley share of the logits; the gradient of the loss with respect to it is
    multiplied by kappa_m = exp(alpha min(tau_m - r_m, cap)). r_m, above 1 for one that leads, comes of the responses'
    cross-entropies in this batch, tau_m of their means over all batches before. Leading by more than usual slows down.

    ``ablation`` says what the logits of fewer modalities are. ``"input"`` (the paper's): the others' inputs are zero,
    and all of it is in evaluation mode. That takes one more pass through every encoder, and back; the feature of a
    zero input is computed for one sample (the released code encodes all modalities anew for each subset). A fusion in
    which encoders meet on their way is run once per subset. ``"feature"``: the others' *features* are zero, in this
    same pass, which costs next to nothing. On a concat that is exactly kappa_m on every gradient of encoder m and on
    its columns of the head, and the mean of kappa on the bias.

    If an entry of the head's weight gradient is beyond 1, all gradients are clipped to norm ``clip`` (as on CREMA-D;
    None: never). ``cap`` is 10, or 7 for three modalities and more: those of its scripts for CREMA-D and UR-FUNNY, of
    which the others (AVE, AV-MNIST, MOSEI) have none. Its alphas are for runs of 800 to 1500 epochs. Deviations from
    the released code: after the window the multipliers are 1 (there the last ones stay in force). A sample counts for
    the scores if it has every modality; an absent modality is as one ablated for good. The sign is the official one;
    BalanceBenchmark's is inverted.
    """

    category = "gradient"
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
                f"alpha={alpha}, cap={cap}, floor={floor}, clip={clip}: needs alpha >= 0, cap > 0, 0 < floor < 1, "
                "clip > 0"
            )
        self.alpha, self.ablation, self.cap, self.floor, self.clip = alpha, ablation, cap, floor, clip

    def setup(self) -> None:
        self.register_buffer("running", torch.zeros(len(self.modalities)))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        if self.cap is None:
            self.cap = 10.0 if len(self.modalities) == 2 else 7.0

    def passes(self, modalities: int) -> Passes:
        return Passes(3 * modalities if self.ablation == "input" else modalities, 1)

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        if not self.active(ctx):
            return super().losses(output, batch, ctx)
        phi = shared(self.worth(output, batch), self.modalities)
        kappa = self.multipliers(phi, batch, ctx)
        return super().losses(replace(output, logits=routed(output.logits, phi, kappa)), batch, ctx)

    def worth(self, output: Output, batch: Batch) -> Worth:
        """The logits of every subset of modalities, with a graph."""
        fusion, everyone = self.fusion, set(self.modalities)
        found = {frozenset(everyone): output.logits}
        some = [s for s in coalitions(self.modalities) if len(s) < len(everyone)]
        if self.ablation == "feature":
            if output.features.keys() != everyone:
                raise ValueError("AGM hides features: the output needs those of every modality")
            return found | {s: fusion(output.features, batch.present, drop=everyone - s) for s in some}
        if batch.inputs.keys() != everyone:
            raise ValueError("AGM hides inputs: pass the whole Batch to backward, or choose ablation='feature'")
        with evaluating(fusion, *self._encoders.values()):
            if getattr(fusion, "needs", "features") != "features":
                for s in some:
                    inputs = {m: x if m in s else torch.zeros_like(x) for m, x in batch.inputs.items()}
                    features = fusion.encode(self._encoders, inputs, batch.present)
                    found[s] = fusion(features, batch.present)
                return found
            seen = {m: encode(batch.inputs[m]) for m, encode in self._encoders.items()}
            blank = {m: encode(torch.zeros_like(batch.inputs[m][:1])) for m, encode in self._encoders.items()}
            for s in some:
                features = {m: z if m in s else blank[m].expand_as(z) for m, z in seen.items()}
                found[s] = fusion(features, batch.present)
        return found

    @torch.no_grad()
    def multipliers(self, phi: Mapping[str, Tensor], batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """kappa by modality; moves the running means on."""
        rows = batch.have(self.modalities)
        sums = [torch.where(rows, floored_ce(p, batch.label, self.floor), 0.0).sum() for p in phi.values()]
        *total, count = ctx.total(torch.stack([*sums, rows.sum()])).unbind()
        ce = torch.stack(total) / count.clamp_min(1)
        assert self.cap is not None
        kappa = torch.where(count > 0, multipliers(ce, self.running, self.alpha, self.cap), 1.0)
        counts = (count > 0) & torch.isfinite(ce).all()
        self.count += counts
        self.running.copy_(torch.where(counts, moved(self.running, ce, self.count.clamp_min(1)), self.running))
        found = usable(dict(zip(self.modalities, kappa.unbind(), strict=True)), ctx)
        ctx.log(coefficients_above_100=(kappa > 100).sum(), **{f"coefficient/{m}": k for m, k in found.items()})
        return found

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        super().on_gradients(output, batch, ctx)
        if not self.active(ctx) or self.clip is None:
            return
        parts = (*self._encoders.values(), self.fusion)
        found = [p for part in parts for p in part.parameters() if p.grad is not None]
        head = [p.grad.abs().amax() for p in self.fusion.head.parameters() if p.grad is not None and p.ndim > 1]
        if head:
            clip_where(torch.stack(head).amax() > 1, found, self.clip)


def floored_ce(logits: Tensor, label: Tensor, floor: float = 1e-8) -> Tensor:
    """(B,) -log max(softmax(logits)[label], floor), of (B, C) logits, in float64."""
    return -logits.double().softmax(1).gather(1, label[:, None])[:, 0].clamp_min(floor).log()


def leads(ce: Tensor) -> Tensor:
    """(M,) exp(mean of the others' cross-entropies - its own), of cross-entropies (M,): above 1 for one that leads."""
    return torch.exp((ce.sum() - ce) / (len(ce) - 1) - ce)


def multipliers(ce: Tensor, running: Tensor, alpha: float, cap: float) -> Tensor:
    """kappa (M,), from the cross-entropies of this batch and their means before it. NaN stays NaN."""
    return torch.exp(alpha * (leads(running) - leads(ce)).clamp_max(cap))


def moved(running: Tensor, ce: Tensor, t: Tensor | int) -> Tensor:
    """The mean over the first t batches, from that over t - 1 and the last."""
    return running * ((t - 1) / t) + ce / t


def shared(worth: Worth, players: tuple[str, ...]) -> dict[str, Tensor]:
    """modality -> (B, C) response. They add up to the logits of all; the worth of none cancels and is not asked for."""
    grand = worth[frozenset(players)]
    known = {frozenset[str](): torch.zeros_like(grand), **worth}
    return {m: shapley(known, m, players) for m in players}


def routed(logits: Tensor, phi: Mapping[str, Tensor], kappa: Mapping[str, Tensor]) -> Tensor:
    """The logits, to the bit, whose gradient reaches each response multiplied by its kappa."""
    return logits.detach() + torch.stack([kappa[m] * (p - p.detach()) for m, p in phi.items()]).sum(0)


def clip_where(condition: Tensor, parameters: list[nn.Parameter], norm: float) -> None:
    """Clip all gradients together to ``norm`` if ``condition`` (0-dim bool) holds, without asking the device for it."""
    total = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    nn.utils.clip_grads_with_norm_(parameters, norm, torch.where(condition, total, 0.0))


@contextlib.contextmanager
def evaluating(*modules: Any) -> Iterator[None]:
    """These modules in evaluation mode, each part of them as it was afterwards."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    for part, _ in modes:
        part.training = False
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
