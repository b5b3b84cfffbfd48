"""Modality valuation with re-sampling: samples are repeated with only the modality that contributed too little."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from ogm.context import Context, TrainingContext
from ogm.seeds import fold_in
from ogm.shapley import coalitions, shapley
from ogm.strategy import Strategy
from ogm.types import EpochSampling

Form = Literal["linear", "tanh", "square"]


class ModalityValuation(Strategy):
    """Train more on modalities that contribute too little: repeat samples with only such a modality.

    The contribution of a modality to a sample is a Shapley value.

    Before each epoch from ``warmup`` on, on the training set, without augmentation, in evaluation mode:
    1. v(S) = |S| if the prediction from the modalities in S alone (other features zero) is correct, else 0.
    2. phi_m = Shapley value of modality m under v. For two modalities phi_1 = (v(1) + v(12) - v(2)) / 2.
    3. The epoch shows every sample once with all modalities, and in addition:
       - ``level="sample"``: each sample 2(1 - phi_m) times (halves rounded up; never if phi_m >= 1) with only modality
         m, for every m.
       - ``level="modality"``: floor(p N) samples, drawn with replacement, with only the modality of the lowest mean
         phi. p = alpha (2/3)(largest - smallest mean phi), or as ``form`` says.

    L = CE(z, y) on the fused logits. A sample is never repeated with a modality that it lacks; means are over samples
    with all modalities.

    Args:
        level: ``"sample"`` or ``"modality"``.
        warmup: First epoch with repeated samples, from 0; 0 or more. Default 5, as released for Kinetics-Sounds.
        alpha: Factor of p, 0 or more.
        form: With d = (2/3)(largest - smallest mean phi): ``"linear"``: p = alpha d; ``"tanh"``: tanh(alpha d);
            ``"square"``: alpha d^1.5.

    Differences:
        - Released code: at the modality level it values a random fifth of the training set. Ours: all of it.
        - Released code: two modalities. For more, the largest and smallest mean are ours.
        - Released code: its scripts need repair before they run. Ours follows its formulas.
        - BalanceBenchmark: v(S) = 1 for a correct prediction, but the numbers of copies that belong to v(S) = |S|; and
          it reuses the results of the first batch for all others. Ours does neither.

    References:
        - Paper: Wei et al., CVPR 2024.
        - Code: GeWu-Lab/Valuate-and-Enhance-Multimodal-Cooperation at 7ed12b0; GeWu-Lab/BalanceBenchmark at 4c1482f.
    """

    category = "data"
    title = "Sample-level modality valuation"
    paper = "Wei et al., CVPR 2024"
    stages = "before each epoch after the warm-up, the training set is valued: encoders once, each subset fused once"
    touches = "nothing"
    needs_engine = True
    needs_whole_batch = True  # a presence mask goes with every batch: means over micro-batches would differ

    def __init__(
        self,
        level: Literal["sample", "modality"] = "sample",
        *,
        warmup: int = 5,
        alpha: float = 1.0,
        form: Form = "linear",
    ) -> None:
        super().__init__()
        if warmup < 0 or not alpha >= 0:
            raise ValueError(f"warmup={warmup}, alpha={alpha}: both must be 0 or more")
        self.level, self.warmup, self.alpha, self.form = level, warmup, alpha, form
        self._values: Tensor | None = None  # (N, M) phi, NaN where a modality is absent; None during the warm-up

    def on_epoch_start(self, engine: TrainingContext) -> None:
        """Value the training set. The values follow from the weights alone, so they are not saved."""
        self._values = None if engine.epoch < self.warmup else engine.decide(self.value_samples(engine)).cpu()

    @torch.no_grad()
    def value_samples(self, engine: TrainingContext) -> Tensor:
        """Compute the contributions phi of the modalities to all training samples (steps 1 and 2).

        Args:
            engine: The engine of the run.

        Returns:
            (N, M) float64; NaN where a modality is absent.
        """
        values = torch.full(
            (engine.loaders["train"].num_samples, len(self.modalities)),
            torch.nan,
            device=engine.device,
            dtype=torch.float64,
        )
        for output, batch in engine.predict("train"):
            worth = {frozenset[str](): torch.zeros_like(batch.label, dtype=torch.float64)}
            for subset in coalitions(self.modalities):
                with engine.autocast():
                    logits = self.fusion(output.features, batch.present, drop=set(self.modalities) - subset)
                worth[subset] = len(subset) * (logits.argmax(1) == batch.label).double()
            phi = contributions(worth, self.modalities)
            present = torch.stack([batch.has_all([m]) for m in self.modalities], 1)
            values[batch.index] = torch.where(present, torch.stack(list(phi.values()), 1), torch.nan)
        return values

    def epoch_sampling(self, num_samples: int, ctx: Context) -> EpochSampling | None:
        """Show every sample whole, and some again with one modality alone (step 3)."""
        if self._values is None:
            return None
        all_samples, alone = torch.arange(num_samples), torch.eye(len(self.modalities), dtype=torch.bool)
        repeated = self.repeated_samples(self._values, ctx)
        keep = [torch.ones(num_samples, len(self.modalities), dtype=torch.bool)]
        keep += [alone[i].expand(len(index), -1) for i, index in enumerate(repeated)]
        return EpochSampling(torch.cat([all_samples, *repeated]), torch.cat(keep))

    def repeated_samples(self, values: Tensor, ctx: Context) -> list[Tensor]:
        """Choose the samples that are repeated with one modality alone.

        Args:
            values: (N, M) contributions, NaN where a modality is absent.
            ctx: Seed and epoch.

        Returns:
            For each modality the numbers of its samples; an empty list if no sample has all modalities.
        """
        if self.level == "sample":
            number = repetitions(values)
            return [torch.arange(len(values)).repeat_interleave(number[:, i]) for i in range(len(self.modalities))]
        complete = values[~values.isnan().any(1)]
        if not len(complete):
            return []
        mean = complete.mean(0)
        lowest, count = int(mean.argmin()), int(resampled_share(mean, self.alpha, self.form) * len(values))
        pool = (~values[:, lowest].isnan()).nonzero()[:, 0]
        generator = torch.Generator().manual_seed(fold_in(ctx.seed, "modality_valuation", ctx.epoch))
        picked = pool[torch.randint(len(pool), (count,), generator=generator)]
        return [picked if i == lowest else picked[:0] for i in range(len(self.modalities))]


def contributions(worth: Mapping[frozenset[str], Tensor], modalities: tuple[str, ...]) -> dict[str, Tensor]:
    """Shapley values of the modalities.

    Args:
        worth: Subset of modalities, also the empty one -> (B,) v(S).
        modalities: Names of all modalities.

    Returns:
        Modality -> (B,) phi_m.
    """
    return {m: shapley(worth, m, modalities) for m in modalities}


def repetitions(phi: Tensor) -> Tensor:
    """How often a sample is repeated with one modality alone.

    Args:
        phi: Contributions of the modality, any shape; NaN where it is absent.

    Returns:
        2(1 - phi), halves rounded up, of the same shape; 0 where phi >= 1 or NaN.
    """
    return torch.floor(2 * (1 - phi.nan_to_num(1.0)) + 0.5 + 1e-9).clamp_min(0).long()  # 1e-9: rounding of thirds


def resampled_share(mean_phi: Tensor, alpha: float = 1.0, form: Form = "linear") -> float:
    """Share of the training set that is repeated at the modality level.

    Args:
        mean_phi: (M,) mean contributions.
        alpha: Factor.
        form: ``"linear"``, ``"tanh"`` or ``"square"``, see ``ModalityValuation``.

    Returns:
        p.
    """
    gap = (2 / 3) * float(mean_phi.max() - mean_phi.min())
    if form == "square":
        return alpha * math.pow(gap, 1.5)
    return math.tanh(alpha * gap) if form == "tanh" else alpha * gap
