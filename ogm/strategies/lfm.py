"""Learning to rebalance by the modality gap: align what modalities say first, fit the labels later."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ogm.checks import check_complete
from ogm.context import Context, average, fold_in
from ogm.engine import Engine
from ogm.losses import info_nce, kl
from ogm.strategy import Strategy
from ogm.types import Batch, Draws, Output

Align = Literal["mixture_to_branches", "true_js", "infonce"]
LEAST, MOST = 0.05, 0.95  # bounds of both weights
WIDTH, TEMPERATURE = 128, 0.07  # of the contrast
FITTED = (0.204623704, 3.35472727e-3, 1.22989557e-4, -2.92947416e-6, 2.23835486e-8, -5.39717505e-11)


class LFM(Strategy):
    """Yang et al., NeurIPS 2024 (spec methods_loss.md, section 8): L = 2 [w_cls CE(z) + (1 - w_cls) A].

    A is the mean over pairs of modalities, and the samples that have both, of a divergence of their unimodal
    predictions. The paper aligns by contrast; the released code by this divergence, a Jensen-Shannon one with the
    arguments of its KL terms swapped (``mixture_to_branches``); ``true_js`` has them right, and ``infonce`` is a
    contrast: of features, each through a linear layer to 128 that only training uses. z is the configured fusion's
    (official: the mean of one linear head per modality).

    ``schedule`` gives w_cls: ``fitted``, the released main script's polynomial, made for 200 epochs and stretched to
    the run's; ``heuristic``, exp(-1 / (epoch + 1)); ``learned``, once per epoch a step down the gradient, with respect
    to the weight, that the CE of held-out samples has after one step of training. These ``held_out`` samples are set
    aside from the training set and never trained on (official: 16; BalanceBenchmark takes them from the split it
    reports). This, and a contrast, take the whole batch at once.
    ``learned_surrogate`` descends what the released code computes instead: the mean over the first parameter tensor of
    Hessian(L) grad CE, which is not that derivative and can have the wrong sign; for comparison only. At the official
    ``lr_weight``, halved every 20 epochs, either hardly moves the weight from its start, 0.05.
    """

    category = "loss"
    paper = "Yang et al., NeurIPS 2024"
    w_cls: Tensor

    def __init__(
        self,
        schedule: Literal["fitted", "heuristic", "learned", "learned_surrogate"] = "fitted",
        align: Align = "mixture_to_branches",
        *,
        lr_weight: float = 1e-4,
        held_out: int = 64,
    ) -> None:
        super().__init__()
        if not (lr_weight >= 0 and held_out >= 1):
            raise ValueError(f"lr_weight={lr_weight}, held_out={held_out}: needs lr_weight >= 0, held_out >= 1")
        self.schedule, self.align, self.lr_weight, self.held_out = schedule, align, lr_weight, held_out
        self.reads = ("features",) if align == "infonce" else ("unimodal_logits",)
        self.learns = schedule in ("learned", "learned_surrogate")
        self.needs_engine = self.learns
        self.needs_whole_batch = self.learns or align == "infonce"
        self.projections = nn.ModuleDict()

    def setup(self) -> None:
        if self.learns:
            if self.num_samples <= self.held_out:
                raise ValueError(f"held_out={self.held_out}: the training set given to attach has {self.num_samples}")
            self.register_buffer("w_cls", torch.tensor(LEAST))
        if self.align == "infonce":
            if self.dims.keys() != set(self.modalities):
                raise ValueError("LFM contrasts features: pass dims= to attach")
            self.projections.update({m: nn.Linear(self.dims[m], WIDTH) for m in self.modalities})

    # ---- the loss
    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        w_cls = self.w_cls if self.learns else scheduled(self.schedule, ctx.epoch, ctx.epochs)
        ctx.log(w_cls=w_cls)
        said = super().losses(output, batch, ctx)
        aligned = 2 * (1 - w_cls) * self.gap(output, batch, ctx)
        return {name: 2 * w_cls * loss for name, loss in said.items()} | {"align": aligned}

    def gap(self, output: Output, batch: Batch, ctx: Context) -> Tensor:
        """A: how far apart the modalities are, on average over pairs."""
        for what in self.reads:
            check_complete(self, what, getattr(output, what))
        pairs = itertools.combinations(self.modalities, 2)
        gaps = [ctx.mean(self.apart(m, n, output, batch), batch.weights((m, n))) for m, n in pairs]
        return torch.stack(gaps).mean()

    def apart(self, m: str, n: str, output: Output, batch: Batch) -> Tensor:
        """(B,) how far apart two modalities are in each sample."""
        if self.align == "infonce":
            a, b = (self.projections[k](output.features[k]) for k in (m, n))
            return info_nce(a, b, TEMPERATURE, batch.have((m, n)) if batch.present else None)
        return divergence(output.unimodal_logits[m], output.unimodal_logits[n], self.align)

    # ---- the learned weight
    def draws(self, num_samples: int, ctx: Context) -> Draws | None:
        return self.whole(self.order(num_samples, ctx)[self.held_out :].sort().values) if self.learns else None

    def order(self, num_samples: int, ctx: Context) -> Tensor:
        """Training samples in an order drawn once for the run; the first ``held_out`` are set aside."""
        generator = torch.Generator().manual_seed(fold_in(ctx.seed, "lfm/held_out"))
        return torch.randperm(num_samples, generator=generator)

    def whole(self, index: Tensor) -> Draws:
        return Draws(index, torch.ones(len(index), len(self.modalities), dtype=torch.bool))

    def on_epoch_start(self, engine: Engine) -> None:
        if not self.learns:
            return
        loader = engine.loaders["train"]
        first = next(iter(loader.epoch(engine.epoch, self.draws(loader.num_samples, engine))))
        size = first.global_size or len(first)
        aside = self.order(loader.num_samples, engine)[: self.held_out]
        # Repeated so often that they fill whole batches: each counts the same, and none is left over.
        held = loader.epoch(engine.epoch, self.whole(aside.repeat(size // math.gcd(size, self.held_out))))
        torch.manual_seed(fold_in(engine.seed, "lfm/probe", engine.epoch))
        engine.model.train()
        statistics = [b for module in engine.model.modules() for b in module.buffers(recurse=False)]
        before = [b.clone() for b in statistics]
        slope = (self.slope if self.schedule == "learned" else self.surrogate)(first, held, engine)
        for b, old in zip(statistics, before, strict=True):
            b.copy_(old)
        rate = self.lr_weight * 0.5 ** (engine.epoch // 20)
        self.w_cls.copy_(stepped(self.w_cls, slope, rate))

    def slope(self, first: Batch, held: Iterable[Batch], engine: Engine) -> Tensor:
        """d CE(held-out samples, after one step on the batch ``first``) / d (1 - w_cls)."""
        assert engine.optimizer is not None
        trained = [(p, g["lr"]) for g in engine.optimizer.param_groups for p in g["params"] if p.requires_grad]
        theta, rates = [p for p, _ in trained], [rate for _, rate in trained]
        here = self.probe([first], theta, engine)
        before = [p.detach().clone() for p in theta]
        assign(theta, lookahead(before, here["cls"], here["align"], self.w_cls, rates))
        there = self.probe(held, theta, engine)
        assign(theta, before)
        return hypergradient(there["cls"], here["cls"], here["align"], rates)

    def surrogate(self, first: Batch, held: Iterable[Batch], engine: Engine) -> Tensor:
        """What the released code has in its place."""
        theta = [p for p in engine.parameters if p.requires_grad]
        direction = self.probe(held, theta, engine)["cls"]
        (part,) = engine.split(first)
        both = self.parts(part, engine)
        total = self.w_cls * both["cls"] + (1 - self.w_cls) * both["align"]
        return average([curvature(engine.scale(total), theta, direction)])[0].mean()

    def probe(self, batches: Iterable[Batch], theta: Sequence[nn.Parameter], engine: Engine) -> dict[str, list[Tensor]]:
        """Gradients of CE ("cls") and of A ("align"), one per parameter: means over all batches and ranks."""
        found = [engine.gradients(self.parts(part, engine), theta) for batch in batches for part in engine.split(batch)]
        return {
            name: [torch.stack(grads).mean(0) for grads in zip(*(f[name] for f in found), strict=True)]
            for name in ("cls", "align")
        }

    def parts(self, batch: Batch, engine: Engine) -> dict[str, Tensor]:
        with engine.autocast():
            output = self.forward(engine.model, batch)
            said = super().losses(output, batch, engine)
            return {"cls": torch.stack(list(said.values())).sum(), "align": self.gap(output, batch, engine)}


def scheduled(schedule: str, epoch: int, epochs: int) -> float:
    """w_cls of ``fitted`` or ``heuristic`` at an epoch, from 0, of a run of so many."""
    if schedule == "heuristic":
        return math.exp(-1 / (epoch + 1))
    if epochs == 0:
        raise ValueError("LFM's fitted schedule follows the progress of the run: pass epochs=, how many there will be")
    e = 199 * epoch / max(epochs - 1, 1)
    return min(max(sum(c * e**k for k, c in enumerate(FITTED)), LEAST), MOST)


def divergence(
    one: Tensor, other: Tensor, align: Literal["mixture_to_branches", "true_js"] = "mixture_to_branches"
) -> Tensor:
    """(B,) how far apart the predictions of two (B, C) logits tensors are; finite for logits up to a thousand."""
    p, q = (z.float().log_softmax(1) if z.itemsize < 4 else z.log_softmax(1) for z in (one, other))
    mixture = torch.logaddexp(p, q) - math.log(2)
    if align == "true_js":
        return (kl(p, mixture) + kl(q, mixture)) / 2
    return (kl(mixture, p) + kl(mixture, q)) / 2


def lookahead(
    theta: Sequence[Tensor], cls: Sequence[Tensor], align: Sequence[Tensor], w_cls: Tensor, rates: Sequence[float]
) -> list[Tensor]:
    """Parameters after one plain gradient step on w_cls CE + (1 - w_cls) A."""
    return [p - rate * (w_cls * c + (1 - w_cls) * a) for p, c, a, rate in zip(theta, cls, align, rates, strict=True)]


def hypergradient(
    held: Sequence[Tensor], cls: Sequence[Tensor], align: Sequence[Tensor], rates: Sequence[float]
) -> Tensor:
    """0-dim: derivative, with respect to 1 - w_cls, of the CE whose gradient at the lookahead is ``held``."""
    terms = [-rate * (h * (a - c)).sum() for h, c, a, rate in zip(held, cls, align, rates, strict=True)]
    return torch.stack(terms).sum()


def stepped(w_cls: Tensor, slope: Tensor, rate: float) -> Tensor:
    """w_cls after 1 - w_cls went down its ``slope``, within bounds."""
    return (w_cls + rate * slope).clamp(LEAST, MOST)


def curvature(total: Tensor, theta: Sequence[Tensor], direction: Sequence[Tensor]) -> Tensor:
    """The first parameter tensor's part of Hessian(total) direction."""
    grads = torch.autograd.grad(total, theta, create_graph=True, allow_unused=True)
    along = [(g * v).sum() for g, v in zip(grads, direction, strict=True) if g is not None]
    return torch.autograd.grad(torch.stack(along).sum(), theta[0])[0]


@torch.no_grad()
def assign(theta: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for p, value in zip(theta, values, strict=True):
        p.copy_(value)
