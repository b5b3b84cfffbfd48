"""Balance-aware sequence sampling (BSS): easy samples first, where the modalities agree and the loss is low."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ogm.context import Context, TrainingContext
from ogm.imbalance import TINY, true_class_scores
from ogm.losses import full
from ogm.parts.ensembles import counted_modalities, summed_logits
from ogm.strategy import Strategy
from ogm.types import Batch, EpochSampling, Output


class BSS(Strategy):
    """Train on a growing share of the training set, those samples first on which the modalities agree and do well.

    1. L = w CE(z, y) + (1 - w) sum_m CE(g_m, y), with the fused logits z (B, C) and a linear head g_m per modality.
    2. Once, before epoch ``measure_at``, on the training set without augmentation, in evaluation mode: the difficulty
       of sample i is 1 - minmax(s_i) + minmax(L_i). s_i is the cosine of the modalities' probabilities softmax(g_m),
       the mean over pairs of modalities; minmax maps the smallest value of the training set to 0, the largest to 1.
       Samples are ordered by difficulty, easiest first, equal ones by their number.
    3. The t-th epoch from there on, t = 0, 1, ..., shows the first floor(N lambda_t) samples, shuffled, with lambda_t =
       min(1, sqrt((1 - lam0^2)(t + 1) / T + lam0^2)), but at least one batch. All samples are shown before
       ``measure_at``, and from t = T - 1 on.

    Prediction: the sum of g_m over the modalities that a sample has. An epoch has as many steps as it has batches, so a
    run takes fewer steps than joint training.

    Args:
        fused_weight: w, in [0, 1].
        lam0: Share of the training set at which lambda starts, in [0, 1].
        grow: T, as a share of the run, above 0; rounded to epochs, at least 1. Released: 40 of 120 epochs.
        measure_at: Epoch before which the order is found, from 0. Released: 0, when nothing has been trained yet.

    Differences:
        - Released code (``train-CL.py``) measures the difficulty once, before the first step, so its order is that of
          the untrained network. Ours: the same by default; ``measure_at`` finds it later.
        - Released code measures in training mode: the order depends on batch statistics, and running statistics change.
          Ours: in evaluation mode.
        - Released code also has ``train-SPL.py``, which draws samples by probabilities that are measured anew in every
          epoch (the learning-based scheduler of the paper's abstract). Ours: not offered.
        - Released code: 0 / 0 if all similarities, or all losses, are equal. Ours: minmax is 0 then.
        - Released code: two modalities. Ours for more: the mean cosine over pairs.
        - Ours: a sample with one modality alone counts as the least similar; its losses are those of what it has.
        - Released code drops the last, smaller batch, and has an epoch without a step if the share is smaller than a
          batch. Ours: at least one batch.
        - Beyond its abstract the paper was not available to us; this is its released code.

    References:
        - Paper: Guan, Jiang and Yang, IJCAI 2025.
        - Code: njustkmg/IJCAI25-BSS at 495b94e.
    """

    category = "data"
    title = "Balance-aware Sequence Sampling"
    paper = "Guan, Jiang and Yang, IJCAI 2025"
    prediction = "sum of the branches"
    stages = "once, the training set is valued and ordered; epochs show a growing share of it"
    needs_engine = True
    needs_whole_batch = True  # a presence mask goes with every batch: means over micro-batches would differ
    order: Tensor

    def __init__(
        self, fused_weight: float = 0.1, *, lam0: float = 0.1, grow: float = 1 / 3, measure_at: int = 0
    ) -> None:
        super().__init__()
        if not (0 <= fused_weight <= 1 and 0 <= lam0 <= 1 and 0 < grow < math.inf and measure_at >= 0):
            raise ValueError(
                f"fused_weight={fused_weight}, lam0={lam0}, grow={grow}, measure_at={measure_at}: needs weights and "
                "shares in [0, 1], grow > 0 and an epoch of 0 or more"
            )
        self.fused_weight, self.lam0, self.grow, self.measure_at = fused_weight, lam0, grow, measure_at
        self.heads = nn.ModuleDict()
        self._shown: EpochSampling | None = None

    def setup(self) -> None:
        """Create the heads, and room for the order of the training set."""
        if not self.num_samples:
            raise ValueError("BSS orders the training set: pass num_samples= to attach")
        self.heads.update({m: self.head(m) for m in self.modalities})
        self.register_buffer("order", torch.full((self.num_samples,), -1))  # -1: not known yet

    # ---- the training set
    def on_epoch_start(self, engine: TrainingContext) -> None:
        """Order the training set once, and choose the samples of this epoch."""
        self._shown = None
        time = engine.epoch - self.measure_at
        if time < 0:
            return
        if int(self.order[0]) < 0:
            self.order.copy_(engine.decide(difficulty_order(self.difficulties(engine))))
        if not engine.epochs:
            raise ValueError("BSS plans by the length of the run: pass epochs= to the engine")
        share = share_of_epoch(time, self.lam0, max(1, round(self.grow * engine.epochs)))
        count = max(1, share_count(len(self.order), share))
        loader = engine.loaders["train"]
        while count < len(self.order):
            self._shown = self.first_samples(count)
            if len(loader.epoch(engine.epoch, self._shown)):
                return
            count += 1  # a loader that drops a smaller last batch has none of so few samples
        self._shown = None

    def first_samples(self, count: int) -> EpochSampling:
        """Show the easiest samples, with all their modalities.

        Args:
            count: How many.

        Returns:
            What the loader is given.
        """
        index = self.order[:count].sort().values.cpu()
        return EpochSampling(index, torch.ones(count, len(self.modalities), dtype=torch.bool))

    def epoch_sampling(self, num_samples: int, ctx: Context) -> EpochSampling | None:
        """Show the samples that ``on_epoch_start`` has chosen."""
        return self._shown

    @torch.no_grad()
    def difficulties(self, engine: TrainingContext) -> Tensor:
        """Compute the difficulty of each training sample (step 2).

        Args:
            engine: The engine of the run.

        Returns:
            (N,) float64.
        """
        similarity, loss = torch.zeros(2, len(self.order), dtype=torch.float64, device=engine.device)
        for output, batch in engine.predict("train"):
            present = batch.presence(self.modalities)
            similarity[batch.index] = mean_cosine(output.unimodal_logits, present)
            loss[batch.index] = self.sample_losses(output, batch).double()
        return sequence_difficulty(similarity, loss)

    def sample_losses(self, output: Output, batch: Batch) -> Tensor:
        """Compute L of each sample, over the modalities it has.

        Args:
            output: Output of the model, with the fused logits in ``extra``.
            batch: The batch.

        Returns:
            (B,) losses.
        """
        total = self.fused_weight * self.criterion(full(output.extra["fused"]), batch.label)
        for m, z in output.unimodal_logits.items():
            own = self.criterion(full(z), batch.label)
            total = total + (1 - self.fused_weight) * torch.where(batch.has_all([m]), own, 0.0)
        return total

    # ---- inside a step
    def replace_unimodal_logits(self, output: Output) -> Output:
        """Replace the unimodal logits by those of the heads."""
        return replace(output, unimodal_logits={m: head(output.features[m]) for m, head in self.heads.items()})

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        """Predict with the sum of the heads' logits; the fused ones are in ``extra``."""
        output = super().forward(model, batch, drop)
        counted = counted_modalities(self.modalities, batch, drop)
        logits = summed_logits(output.unimodal_logits, counted)
        return replace(output, logits=logits, extra=output.extra | {"fused": output.logits})

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the weighted CE of the fused logits and of each modality's head."""
        unimodal = {f"unimodal/{m}": self.loss(z, batch, ctx, m) for m, z in output.unimodal_logits.items()}
        losses = {name: self.fused_weight * loss for name, loss in super().losses(output, batch, ctx).items()}
        ctx.log(share=1.0 if self._shown is None else len(self._shown.index) / len(self.order))
        return losses | {name: (1 - self.fused_weight) * loss for name, loss in unimodal.items()}

    def scores(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the scores of the heads, not of the fusion."""
        return true_class_scores(output.unimodal_logits, batch, ctx)


def mean_cosine(logits: Mapping[str, Tensor], present: Tensor) -> Tensor:
    """Similarity of the modalities' predictions.

    Args:
        logits: Modality -> (B, C).
        present: (M, B) bool, which samples have which modality.

    Returns:
        (B,) float64: the cosine of the probabilities, the mean over the pairs of modalities that a sample has; NaN for
        a sample without a pair.
    """
    p = [z.double().softmax(1) for z in logits.values()]
    pairs = list(itertools.combinations(range(len(p)), 2))
    cosines = torch.stack([F.cosine_similarity(p[i], p[j], dim=1) for i, j in pairs])
    both = torch.stack([present[i] & present[j] for i, j in pairs])
    return torch.where(both, cosines, 0.0).sum(0) / both.sum(0)


def min_max_scale(values: Tensor) -> Tensor:
    """Map the smallest value to 0 and the largest to 1.

    Args:
        values: (N,); NaN where one is not known.

    Returns:
        (N,); 0 where the value is NaN, and everywhere if all known values are equal but for rounding.
    """
    known = values[~values.isnan()]
    if not len(known) or known.max() - known.min() <= TINY:
        return torch.zeros_like(values)
    return ((values - known.min()) / (known.max() - known.min())).nan_to_num(0.0)


def sequence_difficulty(similarity: Tensor, loss: Tensor) -> Tensor:
    """Difficulty of the samples.

    Args:
        similarity: (N,) similarity of the modalities' predictions; NaN for a sample with one modality alone.
        loss: (N,).

    Returns:
        (N,) numbers in [0, 2].
    """
    return 1 - min_max_scale(similarity) + min_max_scale(loss)


def difficulty_order(difficulty: Tensor) -> Tensor:
    """Sample numbers, easiest first.

    Args:
        difficulty: (N,).

    Returns:
        (N,) int64; equally difficult samples in the order of their numbers.
    """
    return difficulty.argsort(stable=True)


def share_of_epoch(time: int, lam0: float, grow: int) -> float:
    """Share of the training set that is shown.

    Args:
        time: Epochs since the order is known, from 0.
        lam0: Share at which it starts.
        grow: Epochs T after which everything is shown.

    Returns:
        lambda, in [0, 1].
    """
    return 1.0 if time + 1 >= grow else math.sqrt((1 - lam0**2) * (time + 1) / grow + lam0**2)


def share_count(num_samples: int, share: float) -> int:
    """Number of samples that are shown.

    Args:
        num_samples: Size N of the training set.
        share: lambda.

    Returns:
        floor(N lambda).
    """
    return int(num_samples * share)
