"""Performance-dominant modality prioritization (PDMP): speed up the modality that is best alone, slow the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ogm.context import Context, TrainingContext
from ogm.parts.teachers import best_modality, unimodal_prerequisites, validation_scores
from ogm.strategy import Strategy
from ogm.types import Batch, Output, Prerequisite


class PDMP(Strategy):
    """Let the modality that is best alone dominate joint training, by constant learning-rate factors.

    1. Train one ``unimodal`` model per modality, as it was after its best validation epoch. The dominant modality d is
       the one with the highest accuracy on the validation set; of several, the one with the lowest mean entropy of its
       predictions, then the first.
    2. Joint training. Each optimizer update of encoder d is multiplied by kappa, that of every other encoder by
       1 / kappa, in all epochs and for all parameters, as in ``StaticLR``. The fusion is not scaled.

    The prediction is argmax z. Only the choice of the factors differs from ``StaticLR``; two runs with equal factors
    are equal.

    Args:
        kappa: Factor of the dominant modality, 1 or more; with 1 it is joint training.

    Differences:
        - Not reproduced: there is no released code, and the paper's formula for its asymmetric coefficients was not
          available to us. From its abstract: modalities are ranked by what they reach alone, and the gradients are
          modulated so that the best one dominates; a summary by others names two factors, gamma_p and gamma_r, that
          are tuned for each data set. Ours: the rule of step 2, and one ``kappa``.
        - Ours: the order is that on the validation set, not on training or test data.
        - Ours: updates are scaled, not gradients, so that the factors mean the same for every optimizer.

    References:
        - Paper: Wei, Luo, Zhu and Luo, 2026 (arXiv 2604.05773; its abstract).
        - Code: none was released.
    """

    category = "control"
    title = "Performance-Dominant Modality Prioritization"
    paper = "Wei et al., 2026 (arXiv 2604.05773); the coefficients are this suite's"
    stages = "one unimodal run per modality first, which are ranked on the validation set"
    touches = "nothing"
    needs_optimizer = True
    needs_engine = True
    factor: Tensor

    def __init__(self, kappa: float = 2.0) -> None:
        super().__init__()
        if not 1 <= kappa < float("inf"):
            raise ValueError(f"kappa={kappa}: the factor of the dominant modality must be 1 or more")
        self.kappa = kappa

    def prerequisites(self, modalities: Sequence[str]) -> dict[str, Prerequisite]:
        """Name one ``unimodal`` run per modality."""
        return unimodal_prerequisites(modalities)

    def setup(self) -> None:
        """Create the factors; 0: not known yet."""
        self.register_buffer("factor", torch.zeros(len(self.modalities)))

    def on_epoch_start(self, engine: TrainingContext) -> None:
        """Rank the modalities and set the factors, once."""
        if float(self.factor[0]) == 0:
            dominant = best_modality(*validation_scores(self._trained, self.modalities, engine))
            self.factor.copy_(torch.tensor(list(prioritise(self.modalities, dominant, self.kappa).values())))

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        """Scale the updates of the encoders."""
        super().on_gradients(output, batch, ctx)
        factors = dict(zip(self.modalities, self.factor.unbind(), strict=True))
        ctx.log(**{f"factor/{m}": factor for m, factor in factors.items()})
        if self.kappa == 1:
            return
        for m, parameters in self.in_scope("all").items():
            self.modulate(parameters, factors[m], "update")


def prioritise(modalities: Sequence[str], dominant: str, kappa: float) -> dict[str, float]:
    """Factors of the modalities.

    Args:
        modalities: Names of all modalities.
        dominant: The one that is best alone.
        kappa: Its factor.

    Returns:
        Modality -> kappa for the dominant one, 1 / kappa for all others.
    """
    return {m: kappa if m == dominant else 1 / kappa for m in modalities}
