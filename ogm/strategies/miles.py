"""MILES: the modality that carries the fused model alone is slowed down for one epoch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ogm.context import Context, TrainingContext
from ogm.strategies.equal_weight_multiloss import EqualWeightMultiloss
from ogm.types import Batch, Output


class MILES(EqualWeightMultiloss):
    """Compare, after each epoch, how much the fused model owes to each modality, and slow down the one it depends on.

    In each step L = CE(z, y) + sum_m CE(g_m, y), where z (B, C) are the fused logits and g_m (B, C) those of a linear
    head per modality.

    After each epoch, on the validation set (Algorithm 1):
    1. A = accuracy of z; A_m = accuracy of g_m, over the samples that have modality m.
    2. u_m = (A - mean_{k != m} A_k) / A, the conditional utilization of modality m (eq. 3 and 4 for two modalities).
    3. delta = largest u_m - smallest u_m (eq. 5).
    4. In the next epoch, the encoder and the head of the modality with the largest u_m learn with mu times the
       scheduled learning rate, if delta > tau and some u_m is 0 or more. All others keep the rate of the schedule. The
       decision holds for that epoch alone.

    The fusion always keeps the rate of the schedule. The first epoch is trained at the rate of the schedule, and so is
    one after an epoch in which nothing was classified correctly (A = 0). A modality that no validation sample has takes
    no part. The curve ``coefficient/<modality>`` is below 1 in the epochs in which the rule acted. The prediction is
    argmax z.

    Args:
        tau: Difference of utilizations that is tolerated, 0 or more.
        mu: Factor of the learning rate, in [0, 1]; with 1 the rule never acts.

    Differences:
        - Paper: F1 in place of accuracy for data with several labels per sample. Ours: always accuracy.
        - Paper: two modalities. The mean over the others, and the largest minus the smallest for three or more, are
          ours; for two modalities they are the paper's formulas.
        - Paper: its cases do not name a utilization of exactly 0. Ours: it counts with the positive ones.
        - Paper: divides by A. Ours: no action where A is 0.
        - Released code (nyuad-cai/MILES): could not be read. Everything here follows the paper.

    References:
        - Paper: Guerra-Manzanares and Shamout, IJCNN 2025 (arXiv 2510.17394).
        - Code: none could be read (nyuad-cai/MILES).
    """

    category = "schedule"
    title = "Modality-Informed Learning Rate Scheduler"
    paper = "Guerra-Manzanares and Shamout, IJCNN 2025"
    stages = "validation after every epoch"
    needs_engine = True
    factor: Tensor

    def __init__(self, tau: float = 0.2, mu: float = 0.5) -> None:
        super().__init__()
        if not (tau >= 0 and 0 <= mu <= 1):
            raise ValueError(f"tau={tau}, mu={mu}: choose tau >= 0 and mu in [0, 1]")
        self.tau, self.mu = tau, mu
        self._factors: dict[str, float] = {}

    def setup(self) -> None:
        """Create a head per modality, and the factors of the learning rates."""
        super().setup()
        self.register_buffer("factor", torch.ones(len(self.modalities)))

    def on_epoch_start(self, engine: TrainingContext) -> None:
        """Read the learning-rate factors of this epoch."""
        self._factors = dict(zip(self.modalities, self.factor.tolist(), strict=True))

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        """Scale the updates of the encoder and the head of the modality that is slowed down."""
        super().on_gradients(output, batch, ctx)
        ctx.log(**{f"coefficient/{m}": k for m, k in self._factors.items()})
        for m, k in self._factors.items():
            if k != 1.0:
                self.modulate([*self.parameters_of(m), *self.heads[m].parameters()], k, "update")

    def on_epoch_end(self, engine: TrainingContext) -> None:
        """Compute the factors of the next epoch from the validation accuracies."""
        self.factor.copy_(self.rates_after(validation_accuracies(engine)).factor)

    def rates_after(self, accuracy: Tensor) -> Decision:
        """Decide which modality is slowed down (steps 2 to 4).

        Args:
            accuracy: (1 + M,) accuracies of the fused model and of the modalities.
        """
        return slow_down(accuracy[0], accuracy[1:], self.tau, self.mu)


class Decision(NamedTuple):
    """What follows from the metrics of one epoch.

    Attributes:
        utilization: (M,) u_m; 0 for all if the fused metric is 0, NaN for a modality that takes no part.
        delta: 0-dim difference of the largest and the smallest utilization.
        factor: (M,) factors of the learning rates in the next epoch.
    """

    utilization: Tensor
    delta: Tensor
    factor: Tensor


def slow_down(fused: Tensor, branches: Tensor, tau: float, mu: float) -> Decision:
    """Decide which modality is slowed down.

    Args:
        fused: 0-dim metric of the fused model.
        branches: (M,) metrics of the modalities; NaN for one that takes no part.
        tau: Difference of utilizations that is tolerated.
        mu: Factor of the learning rate.

    Returns:
        Utilizations, their difference, and the factors.
    """
    known = ~branches.isnan()
    # The others' sum itself, not the whole sum minus a term: a utilization of 0 has to be exactly 0.
    other = known & ~torch.eye(len(branches), dtype=torch.bool, device=branches.device)
    others = torch.where(other, branches, 0.0).sum(1) / other.sum(1)
    utilization = torch.where(fused > 0, (fused - others) / fused, 0.0)
    utilization = torch.where(known & other.any(1), utilization, torch.nan)
    largest, smallest = utilization.nan_to_num(-torch.inf).amax(), utilization.nan_to_num(torch.inf).amin()
    delta = (largest - smallest).clamp_min(0)
    first = torch.arange(len(branches), device=branches.device) == utilization.nan_to_num(-torch.inf).argmax()
    return Decision(utilization, delta, torch.where(first & (delta > tau) & (largest >= 0), mu, 1.0))


@torch.no_grad()
def validation_accuracies(engine: TrainingContext) -> Tensor:
    """Compute the accuracies of the fused model and of each modality's head on the validation set.

    Args:
        engine: The engine of the run.

    Returns:
        (1 + M,) float64 accuracies, equal on all ranks: that of the prediction over all samples, then those of the
        modalities over the samples that have them; NaN where there is no sample.
    """
    strategy = engine.strategy
    correct, count = torch.zeros(2, 1 + len(strategy.modalities), dtype=torch.float64, device=engine.device)
    for output, batch in engine.predict("val"):
        logits = torch.stack([strategy.predict(output), *(output.unimodal_logits[m] for m in strategy.modalities)])
        counted = torch.cat([torch.ones_like(batch.label, dtype=torch.bool)[None], batch.presence(strategy.modalities)])
        correct += ((logits.argmax(2) == batch.label) & counted).sum(1)
        count += counted.sum(1)
    return engine.decide(correct / count)
