"""Learning to rebalance by the modality gap (LFM): align the modalities early, fit the labels later."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ogm.checks import check_complete
from ogm.context import Context, TrainingContext, average
from ogm.losses import full, info_nce, jensen_shannon, kl
from ogm.seeds import fold_in
from ogm.strategy import Strategy
from ogm.types import Batch, EpochSampling, Output

Align = Literal["mixture_to_branches", "true_js", "infonce"]
LEAST, MOST = 0.05, 0.95  # limits of w_cls and of 1 - w_cls
WIDTH, TEMPERATURE = 128, 0.07  # of the contrastive alignment
FITTED = (0.204623704, 3.35472727e-3, 1.22989557e-4, -2.92947416e-6, 2.23835486e-8, -5.39717505e-11)


class LFM(Strategy):
    """Add a loss that aligns the modalities, with a weight that is large early in training and small later.

    L = 2 [w_cls CE(z, y) + (1 - w_cls) A]. A is the mean over unordered pairs of modalities of a distance between them,
    over the samples that have both. z (B, C) are the fused logits; the prediction is argmax z. The learned schedules
    and ``"infonce"`` need the whole batch at once.

    Args:
        schedule: How w_cls is set, always in [0.05, 0.95] except for ``"heuristic"``. ``"fitted"``: the polynomial of
            the released main script, made for 200 epochs and stretched to the run. ``"heuristic"``: exp(-1 / (epoch +
            1)). ``"learned"``: starts at 0.05; before each epoch the weight takes one gradient step that lowers the CE
            of held-out samples after one training step. ``"learned_surrogate"``: the same with the released code's
            gradient; for comparison only.
        align: The distance of two modalities, of P and Q, the softmaxes of their unimodal logits, and X = (P + Q) / 2.
            ``"mixture_to_branches"``: (KL(X || P) + KL(X || Q)) / 2. ``"true_js"``: (KL(P || X) + KL(Q || X)) / 2.
            ``"infonce"``: symmetric InfoNCE of the features, each through a linear layer to 128 dimensions, temperature
            0.07.
        lr_weight: step size of the learned weight, 0 or more; halved every 20 epochs. At the default, the released
            1e-4, the weight hardly moves from its start.
        held_out: Number of training samples set aside for the learned weight, 1 or more. They are never trained on.

    Differences:
        - Paper: contrastive alignment. Released code: ``"mixture_to_branches"``, a Jensen-Shannon divergence whose KL
          terms have their arguments swapped. Ours: as released; the other two are options.
        - Paper: which of the two terms its weight multiplies could not be verified. All sources let the alignment
          weight decrease.
        - Released code: z is the mean of one linear head per modality. Ours: the logits of the configured fusion.
        - Released code: the gradient of the learned weight is the mean, over the first parameter tensor only, of
          Hessian(L) times grad CE, which can have the wrong sign (``"learned_surrogate"``). Ours: the derivative with
          respect to the weight.
        - Held-out samples: 16 in the released code, of a validation loader (for most datasets the test set) in
          BalanceBenchmark. Ours: 64 of the training set.

    References:
        - Paper: Yang et al., NeurIPS 2024.
        - Code: njustkmg/NeurIPS24-LFM at ad44fa0; GeWu-Lab/BalanceBenchmark at 4c1482f.
    """

    category = "loss"
    title = "Dynamically learned modality gap"
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
            raise ValueError(f"lr_weight={lr_weight}, held_out={held_out}: choose lr_weight >= 0 and held_out >= 1")
        self.schedule, self.align, self.lr_weight, self.held_out = schedule, align, lr_weight, held_out
        self.reads = ("features",) if align == "infonce" else ("unimodal_logits",)
        self.learns = schedule in ("learned", "learned_surrogate")
        self.needs_engine = self.learns
        self.needs_whole_batch = self.learns or align == "infonce"
        self.projections = nn.ModuleDict()

    def setup(self) -> None:
        """Create the learned weight and the projections, if the options need them."""
        if self.learns:
            if self.num_samples <= self.held_out:
                raise ValueError(
                    f"held_out={self.held_out} leaves nothing to train on: the training set has {self.num_samples}"
                )
            self.register_buffer("w_cls", torch.tensor(LEAST))
        if self.align == "infonce":
            if self.dims.keys() != set(self.modalities):
                raise ValueError("LFM projects features for align=infonce: pass dims= to attach")
            self.projections.update({m: nn.Linear(self.dims[m], WIDTH) for m in self.modalities})

    # ---- the loss
    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the CE and the alignment A, weighted by w_cls."""
        w_cls = self.w_cls if self.learns else scheduled_weight(self.schedule, ctx.epoch, ctx.epochs)
        ctx.log(w_cls=w_cls)
        supervised = super().losses(output, batch, ctx)
        alignment = 2 * (1 - w_cls) * self.gap(output, batch, ctx)
        return {name: 2 * w_cls * loss for name, loss in supervised.items()} | {"align": alignment}

    def gap(self, output: Output, batch: Batch, ctx: Context) -> Tensor:
        """Compute A: the distance of two modalities, on average over pairs.

        Args:
            output: Output of the step.
            batch: The batch of this step.
            ctx: Communication between ranks.

        Returns:
            0-dim mean.
        """
        for what in self.reads:
            check_complete(self, what, getattr(output, what))
        pairs = itertools.combinations(self.modalities, 2)
        gaps = [ctx.mean(self.distance(m, n, output, batch), batch.weights((m, n))) for m, n in pairs]
        return torch.stack(gaps).mean()

    def distance(self, m: str, n: str, output: Output, batch: Batch) -> Tensor:
        """Compute the distance of two modalities in each sample.

        Args:
            m: One modality.
            n: The other modality.
            output: Output of the step.
            batch: The batch of this step.

        Returns:
            (B,).
        """
        if self.align == "infonce":
            a, b = (self.projections[k](output.features[k]) for k in (m, n))
            return info_nce(a, b, TEMPERATURE, batch.has_all((m, n)) if batch.present else None)
        return divergence(output.unimodal_logits[m], output.unimodal_logits[n], self.align)

    # ---- the learned weight
    def epoch_sampling(self, num_samples: int, ctx: Context) -> EpochSampling | None:
        """Leave the held-out samples out, if the weight is learned."""
        return (
            self.all_modalities(self.sample_order(num_samples, ctx)[self.held_out :].sort().values)
            if self.learns
            else None
        )

    def sample_order(self, num_samples: int, ctx: Context) -> Tensor:
        """Shuffle the training samples, once for the run; the first ``held_out`` are set aside.

        Args:
            num_samples: Size N of the training set.
            ctx: Seed of the run.

        Returns:
            (N,) sample numbers.
        """
        generator = torch.Generator().manual_seed(fold_in(ctx.seed, "lfm/held_out"))
        return torch.randperm(num_samples, generator=generator)

    def all_modalities(self, index: Tensor) -> EpochSampling:
        """Show these samples with all their modalities.

        Args:
            index: (N,) sample numbers.

        Returns:
            What the loader is given.
        """
        return EpochSampling(index, torch.ones(len(index), len(self.modalities), dtype=torch.bool))

    def on_epoch_start(self, engine: TrainingContext) -> None:
        """Take one gradient step on the weight, if it is learned."""
        if not self.learns:
            return
        loader = engine.loaders["train"]
        first = next(iter(loader.epoch(engine.epoch, self.epoch_sampling(loader.num_samples, engine))))
        size = first.global_size or len(first)
        held_index = self.sample_order(loader.num_samples, engine)[: self.held_out]
        # Repeated until they fill whole batches: each sample counts the same, and none is left out.
        held_batches = loader.epoch(
            engine.epoch, self.all_modalities(held_index.repeat(size // math.gcd(size, self.held_out)))
        )
        torch.manual_seed(fold_in(engine.seed, "lfm/probe", engine.epoch))
        engine.model.train()
        statistics = [b for module in engine.model.modules() for b in module.buffers(recurse=False)]
        saved = [b.clone() for b in statistics]
        slope = (self.slope if self.schedule == "learned" else self.surrogate)(first, held_batches, engine)
        for b, value in zip(statistics, saved, strict=True):
            b.copy_(value)
        rate = self.lr_weight * 0.5 ** (engine.epoch // 20)
        self.w_cls.copy_(step_weight(self.w_cls, slope, rate))

    def slope(self, first: Batch, held: Iterable[Batch], engine: TrainingContext) -> Tensor:
        """Compute the derivative of the held-out CE, after one training step, with respect to 1 - w_cls.

        Args:
            first: The batch of the training step.
            held: Batches of held-out samples.
            engine: The engine of the run; its parameters are restored.

        Returns:
            0-dim derivative.
        """
        assert engine.optimizer is not None
        trained = [(p, g["lr"]) for g in engine.optimizer.param_groups for p in g["params"] if p.requires_grad]
        theta, rates = [p for p, _ in trained], [rate for _, rate in trained]
        gradients = self.probe([first], theta, engine)
        saved = [p.detach().clone() for p in theta]
        copy_values(theta, lookahead(saved, gradients["cls"], gradients["align"], self.w_cls, rates))
        held_gradients = self.probe(held, theta, engine)
        copy_values(theta, saved)
        return hypergradient(held_gradients["cls"], gradients["cls"], gradients["align"], rates)

    def surrogate(self, first: Batch, held: Iterable[Batch], engine: TrainingContext) -> Tensor:
        """Compute what the released code has in place of ``slope``.

        Args:
            first: The batch of the training step.
            held: Batches of held-out samples.
            engine: The engine of the run.

        Returns:
            0-dim number.
        """
        theta = [p for p in engine.parameters if p.requires_grad]
        direction = self.probe(held, theta, engine)["cls"]
        (part,) = engine.split(first)
        losses = self.loss_terms(part, engine)
        total = self.w_cls * losses["cls"] + (1 - self.w_cls) * losses["align"]
        return average([hessian_vector_product(engine.scale(total), theta, direction)])[0].mean()

    def probe(
        self, batches: Iterable[Batch], theta: Sequence[nn.Parameter], engine: TrainingContext
    ) -> dict[str, list[Tensor]]:
        """Compute the gradients of CE and of A, averaged over batches and ranks.

        Args:
            batches: The batches.
            theta: The parameters.
            engine: The engine of the run.

        Returns:
            ``"cls"`` and ``"align"`` -> one gradient per parameter.
        """
        gradients = [
            engine.gradients(self.loss_terms(part, engine), theta) for batch in batches for part in engine.split(batch)
        ]
        return {
            name: [
                torch.stack(grads).mean(0) for grads in zip(*(gradient[name] for gradient in gradients), strict=True)
            ]
            for name in ("cls", "align")
        }

    def loss_terms(self, batch: Batch, engine: TrainingContext) -> dict[str, Tensor]:
        """Compute the two terms of the loss without their weights.

        Args:
            batch: The batch.
            engine: The engine of the run.

        Returns:
            ``"cls"`` (CE) and ``"align"`` (A) -> 0-dim.
        """
        with engine.autocast():
            output = self.forward(engine.model, batch)
            supervised = super().losses(output, batch, engine)
            return {"cls": torch.stack(list(supervised.values())).sum(), "align": self.gap(output, batch, engine)}


def scheduled_weight(schedule: str, epoch: int, epochs: int) -> float:
    """Weight of the classification loss.

    Args:
        schedule: ``"fitted"`` or ``"heuristic"``.
        epoch: Number of the epoch, from 0.
        epochs: Number of epochs of the run.

    Returns:
        w_cls.

    Raises:
        ValueError: If the fitted schedule is used and the number of epochs is not known (0).
    """
    if schedule == "heuristic":
        return math.exp(-1 / (epoch + 1))
    if epochs == 0:
        raise ValueError("LFM's fitted schedule depends on the length of the run: pass epochs=, its number of epochs")
    e = 199 * epoch / max(epochs - 1, 1)
    return min(max(sum(c * e**k for k, c in enumerate(FITTED)), LEAST), MOST)


def divergence(
    one: Tensor, other: Tensor, align: Literal["mixture_to_branches", "true_js"] = "mixture_to_branches"
) -> Tensor:
    """Divergence of two predictions; finite for logits up to a thousand.

    Args:
        one: (B, C) logits.
        other: (B, C) logits.
        align: ``"mixture_to_branches"`` or ``"true_js"``, see ``LFM``.

    Returns:
        (B,) divergences.
    """
    if align == "true_js":
        return jensen_shannon(one, other)
    p, q = full(one).log_softmax(1), full(other).log_softmax(1)
    mixture = torch.logaddexp(p, q) - math.log(2)
    return (kl(mixture, p) + kl(mixture, q)) / 2


def lookahead(
    theta: Sequence[Tensor], cls: Sequence[Tensor], align: Sequence[Tensor], w_cls: Tensor, rates: Sequence[float]
) -> list[Tensor]:
    """Parameters after one plain gradient step on w_cls CE + (1 - w_cls) A.

    Args:
        theta: The parameters.
        cls: Gradients of CE, one per parameter.
        align: Gradients of A, one per parameter.
        w_cls: 0-dim weight.
        rates: Learning rates, one per parameter.

    Returns:
        The new values, one per parameter.
    """
    return [p - rate * (w_cls * c + (1 - w_cls) * a) for p, c, a, rate in zip(theta, cls, align, rates, strict=True)]


def hypergradient(
    held: Sequence[Tensor], cls: Sequence[Tensor], align: Sequence[Tensor], rates: Sequence[float]
) -> Tensor:
    """Derivative of the held-out CE after one training step with respect to the alignment weight 1 - w_cls.

    Args:
        held: Gradients of the held-out CE after the step, one per parameter.
        cls: Gradients of CE before the step.
        align: Gradients of A before the step.
        rates: Learning rates, one per parameter.

    Returns:
        0-dim -sum rate <held, align - cls>.
    """
    terms = [-rate * (h * (a - c)).sum() for h, c, a, rate in zip(held, cls, align, rates, strict=True)]
    return torch.stack(terms).sum()


def step_weight(w_cls: Tensor, slope: Tensor, rate: float) -> Tensor:
    """One gradient step of the weight.

    Args:
        w_cls: 0-dim weight of the classification loss.
        slope: 0-dim derivative with respect to 1 - w_cls.
        rate: step size.

    Returns:
        0-dim w_cls + rate slope, in [0.05, 0.95].
    """
    return (w_cls + rate * slope).clamp(LEAST, MOST)


def hessian_vector_product(total: Tensor, theta: Sequence[Tensor], direction: Sequence[Tensor]) -> Tensor:
    """Hessian-vector product, for the first parameter only.

    Args:
        total: 0-dim loss with a graph.
        theta: The parameters.
        direction: The vector, one tensor per parameter.

    Returns:
        The part of Hessian(total) direction that belongs to theta[0], in its shape.
    """
    grads = torch.autograd.grad(total, theta, create_graph=True, allow_unused=True)
    along = [(g * v).sum() for g, v in zip(grads, direction, strict=True) if g is not None]
    return torch.autograd.grad(torch.stack(along).sum(), theta[0])[0]


@torch.no_grad()
def copy_values(theta: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy values into parameters, in place.

    Args:
        theta: The parameters.
        values: One tensor per parameter.
    """
    for p, value in zip(theta, values, strict=True):
        p.copy_(value)
