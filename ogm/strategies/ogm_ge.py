"""OGM-GE: on-the-fly gradient modulation with generalisation enhancement (Gaussian noise on the gradients)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from ogm.context import Context
from ogm.parts.gradients import add, gradient_noise, gradients_of, multiply
from ogm.strategies.ogm import OGM
from ogm.types import Batch, Scope, Target


class OGMGE(OGM):
    """Slow the leading modality down as ``ogm`` does, then add noise to its gradient and to all others.

    The noise replaces the gradient noise that scaling removes.

    After the backward pass, inside the epoch window:
    1. Compute the coefficients k_m as in ``OGM`` (eq. 8-10).
    2. For every gradient tensor g in scope of every encoder, also where k_m = 1 (eq. 11-12): g <- k_m g + eps, with eps
       ~ N(0, sigma^2) elementwise and sigma = std(g) + 1e-8, the unbiased standard deviation before scaling.

    The noise is a function of seed and step, drawn at once and split over the parameters with a gradient: it is equal
    on all ranks and reproduced after a resume. With ``target="update"`` it passes through the optimizer and is scaled
    with the update.

    Args:
        alpha: Strength of the modulation, 0 or more. The released README recommends 0.8 for CREMA-D and 0.1 for
            VGGSound.
        variant: Formula of the coefficient, see ``OGM``.
        noise: ``"raw_std"``: sigma of the unscaled gradient. ``"scaled_std"``: sigma multiplied by k_m.
        multi: Discrepancy ratio for three or more modalities, see ``OGM``.
        scope: Which parameters are modulated: ``"weights"`` (two or more dimensions), ``"conv4d"`` (exactly four) or
            ``"all"``.
        target: Scale the gradient (``"grad"``) or the optimizer's update (``"update"``).
        start: First epoch of the window, counted from 0.
        end: Last epoch of the window (inclusive), whatever the run's length; None: until the end of the run. Default
            50, as released: a run of 20 epochs is modulated to its end.

    Differences:
        - Paper: noise with the covariance of the SGD gradient. Released code and ours: one scalar variance per tensor.
        - Released code before 2022-05-29: the standard deviation is taken after scaling (``"scaled_std"``). Ours, as in
          the released code since then: before scaling.
        - The differences of ``OGM`` apply.

    References:
        - Paper: Peng, Wei, Deng, Wang and Hu, CVPR 2022 (arXiv 2203.15332).
        - Code: GeWu-Lab/OGM-GE_CVPR2022 at 343dc1d.
    """

    category = "gradient"
    title = "On-the-fly Gradient Modulation with Generalization Enhancement"
    paper = "Peng et al., CVPR 2022"
    touches = "weights"

    def __init__(
        self,
        alpha: float = 0.3,
        *,
        variant: Literal["paper", "journal"] = "paper",
        noise: Literal["raw_std", "scaled_std"] = "raw_std",
        multi: Literal["pairwise_mean", "min_ratio"] = "pairwise_mean",
        scope: Scope = "weights",
        target: Target = "grad",
        start: int = 0,
        end: int | None = 50,
    ) -> None:
        super().__init__(alpha, variant=variant, multi=multi, scope=scope, target=target, start=start, end=end)
        self.noise = noise

    def edit_gradients(self, k: Mapping[str, Tensor], batch: Batch, ctx: Context) -> None:
        """Modulate the encoders, and add noise to their gradients (step 2)."""
        inside = self.in_scope(self.scope)
        noise = gradient_noise(inside, batch, ctx)
        super().edit_gradients(k, batch, ctx)
        for m, parameters in inside.items():
            if self.noise == "scaled_std":
                multiply(noise[m], k[m])
            add(gradients_of(parameters), noise[m])
