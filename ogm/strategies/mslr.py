"""Modality-specific learning rates (MSLR), adapted to each modality's validation accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from ogm.context import Context, TrainingContext
from ogm.parts.heads import unimodal_head_parts
from ogm.parts.stages import validation_means
from ogm.strategy import Strategy
from ogm.types import Batch, Output, Target

Measure = Callable[[Tensor, Tensor], Tensor]


class MSLR(Strategy):
    """Train each modality with a learning rate of its own.

    The learning rate of encoder m, and of its own layer of the head where it has one (sum, late), is that of the run
    times init_m q_m. The fusion, shared layers and a shared bias keep the rate of the run.

    After each epoch (``rule="dynamic"``):
    1. acc_m = validation accuracy of the unimodal logits u_m.
    2. q_m for the next epoch = acc_m / mean of the accuracies of the ``memory`` epochs before, in [0.1, 10]; 1 until
       that many epochs have passed.

    Args:
        init: Modality -> factor above 0; 1 for a modality that is not named. Re-implementations use 0.9 for audio and
            1.1 for video on CREMA-D and AVE.
        rule: ``"dynamic"`` as above, ``"keep"``: q_m = 1 throughout.
        memory: Number of epochs in the mean, 1 or more.
        target: ``"update"`` scales the optimizer's update, which is a learning rate for any optimizer and scales weight
            decay too; ``"grad"`` scales the gradient.

    Differences:
        - Paper: three rules, "keep", "smooth" and "dynamic". Ours: no "smooth", for which neither code nor formula was
          available.
        - Code of others: accuracies of the test set. Ours: of the validation set.
        - Code of others: scales gradients. Ours: scales learning rates, as in the paper (``target="update"``).
        - The limits of q_m are ours.

    References:
        - Paper: Yao and Mihalcea, Findings of ACL 2022.
        - Code of others: lihong2303/AGM_ICCV2023 at 5a65542; kkontras/MLB at 357b5ce.
    """

    category = "gradient"
    title = "Modality-Specific Learning Rates"
    paper = "Yao and Mihalcea, Findings of ACL 2022"
    stages = "validation after every epoch"
    touches = "nothing"
    needs_engine = True
    past: Tensor
    quotient: Tensor

    def __init__(
        self,
        init: Mapping[str, float] | None = None,
        *,
        rule: Literal["dynamic", "keep"] = "dynamic",
        memory: int = 5,
        target: Target = "update",
    ) -> None:
        super().__init__()
        if any(not f > 0 for f in (init or {}).values()) or memory < 1:
            raise ValueError(f"init={init}, memory={memory}: the factors must be above 0, the memory 1 epoch or more")
        self.init, self.rule, self.memory, self.target = dict(init or {}), rule, memory, target
        self._factors: dict[str, float] = {}

    def setup(self) -> None:
        """Check ``init``, and create past accuracies and quotients."""
        unknown = self.init.keys() - set(self.modalities)
        if unknown:
            raise ValueError(f"init: there is no modality {sorted(unknown)}; there are {list(self.modalities)}")
        self.register_buffer("past", torch.full((len(self.modalities), self.memory), torch.nan))
        self.register_buffer("quotient", torch.ones(len(self.modalities)))

    def on_epoch_start(self, engine: TrainingContext) -> None:
        """Read the learning-rate factors of this epoch."""
        pairs = zip(self.modalities, self.quotient.tolist(), strict=True)
        self._factors = {m: self.init.get(m, 1.0) * q for m, q in pairs}

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        """Scale the updates of each modality's encoder and own layer of the head."""
        super().on_gradients(output, batch, ctx)
        ctx.log(**{f"coefficient/{m}": k for m, k in self._factors.items()})
        scaled = self.in_scope("all")
        for m, p, columns in unimodal_head_parts(self._fusion[0], self.dims):
            if columns == slice(None):
                scaled[m].append(p)
        for m, parameters in scaled.items():
            if self._factors[m] != 1.0:
                self.modulate(parameters, self._factors[m], self.target)

    def on_epoch_end(self, engine: TrainingContext) -> None:
        """Compute q_m for the next epoch from the validation accuracies."""
        if self.rule == "dynamic":
            accuracy = validation_means(engine, lambda logits, label: (logits.argmax(1) == label).double())
            self.quotient.copy_(accuracy_quotients(self.past, accuracy))
            self.past.copy_(torch.cat([self.past[:, 1:], accuracy[:, None]], 1))


def accuracy_quotients(past: Tensor, now: Tensor) -> Tensor:
    """Current accuracy relative to that of the recent epochs.

    Args:
        past: (M, W) accuracies of the last W epochs; NaN where there was none.
        now: (M,) accuracies of this epoch.

    Returns:
        (M,) now / mean of past, in [0.1, 10]; 1 where an epoch is missing or the mean is 0.
    """
    mean = past.mean(1)
    quotient = torch.where(mean < 1e-8, 1.0, (now / mean).clamp(0.1, 10))
    return torch.where(torch.isfinite(quotient), quotient, 1.0)
