"""OPM in the forward pass and OGM in the backward pass of the same step."""

from __future__ import annotations

from typing import Literal

import torch

from ogm.context import Context
from ogm.parts.gradients import add, finite_or_one, gradient_noise, gradients_of, modulation_coefficients
from ogm.strategies.opm import OPM
from ogm.types import Batch, Output, Scope, Target


class OPMOGM(OPM):
    """Drop features of the dominant modality as ``OPM`` does, and scale its encoder's gradient down as ``OGM`` does.

    Both act in the same step, from epoch ``start`` on:
    1. Compute the discrepancy ratios rho_m, from the unimodal logits before anything is dropped.
    2. Drop features and compute the loss as in ``OPM``, in a share p_exe of the steps, until epoch ``end``.
    3. After the backward pass of every step, until epoch ``ogm_end``: g <- k_m g for every parameter in scope of
       encoder m, with the coefficient k_m of ``OGM`` for the same rho_m.
    4. With ``noise``, add the noise of ``OGMGE`` to each of these gradients, also where k_m = 1.

    Args:
        q_base: Drop probability at balance, in [0, 1].
        lam: How much the probability grows with dominance, 0 or more.
        p_exe: Probability of dropping anything in a step, in [0, 1].
        alpha: Strength of the gradient modulation, 0 or more.
        variant: Formula of the coefficient. ``"cvpr"``: that of ``OGM``, which the code of both papers has.
            ``"tpami"``: that of the journal version (``"journal"`` of ``OGM``), far gentler at the same ratio.
        scope: Which parameters are modulated: ``"weights"`` (two or more dimensions), ``"conv4d"`` (exactly four) or
            ``"all"``.
        target: Scale the gradient (``"grad"``) or the optimizer's update (``"update"``).
        noise: Add the noise of ``OGMGE`` after scaling.
        rescale: Divide the features by 1 - theta, see ``OPM``.
        start: First epoch of both, counted from 0. Default 6, as released.
        end: Last epoch in which features are dropped (inclusive); None: until the end of the run.
        ogm_end: Last epoch in which gradients are modulated (inclusive), whatever the run's length; None: until the end
            of the run. Default 60, as released for Kinetics-Sounds: a run of 20 epochs is modulated to its end.

    Differences:
        - Paper: calls the two compatible. Released scripts: run them separately. The order within one step is ours.
        - Released code: its default for ``modulation`` is OGM-GE, so that its OGM adds noise. Ours: only with
          ``noise=True``.
        - Released code: 4-d tensors only. Ours: all tensors with two or more dimensions; on a ResNet these are the
          same.
        - The journal version's coefficient: read in two independent re-implementations, not in the paper's text.
        - The differences of ``OPM`` and ``OGM`` apply.

    References:
        - Paper: Wei et al., TPAMI 2024.
        - Code: GeWu-Lab/BML_TPAMI2024 at 4b3aa4f; GeWu-Lab/OGM-GE_CVPR2022 at 343dc1d.
    """

    category = "feature"
    title = "On-the-fly Prediction and Gradient Modulation"
    paper = "Wei et al., TPAMI 2024"
    needs_whole_batch = True

    def __init__(
        self,
        q_base: float = 0.5,
        lam: float = 0.5,
        p_exe: float = 0.7,
        alpha: float = 0.8,
        *,
        variant: Literal["cvpr", "tpami"] = "cvpr",
        scope: Scope = "weights",
        target: Target = "grad",
        noise: bool = False,
        rescale: bool = True,
        start: int = 6,
        end: int | None = None,
        ogm_end: int | None = 60,
    ) -> None:
        super().__init__(q_base, lam, p_exe, rescale=rescale, start=start, end=end)
        if not alpha >= 0:
            raise ValueError(f"alpha={alpha}: the strength of the modulation must be 0 or more")
        if ogm_end is not None and ogm_end < 0:
            raise ValueError(f"ogm_end={ogm_end}: the last epoch whose gradients are modulated must be 0 or more")
        self.alpha, self.variant, self.scope, self.target, self.ogm_end = alpha, variant, scope, target, ogm_end
        self.needs_optimizer = target == "update"
        self.noise = noise

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        """Scale the encoders' gradients by k_m, and add noise if asked to (steps 3 and 4)."""
        super().on_gradients(output, batch, ctx)
        if not self.in_window(ctx) or (self.ogm_end is not None and ctx.epoch > self.ogm_end):
            return
        coefficients = finite_or_one(
            modulation_coefficients(self._rho, self.alpha, "paper" if self.variant == "cvpr" else "journal"), ctx
        )
        k = dict(zip(self._rho, coefficients.unbind(), strict=True))
        ctx.log(**{f"coefficient/{m}": coefficient for m, coefficient in k.items()})
        inside = self.in_scope(self.scope)
        noise = gradient_noise(inside, batch, ctx) if self.noise else {}
        for m, parameters in inside.items():
            self.modulate(parameters, k[m], self.target)
            if self.noise:
                add(gradients_of(parameters), noise[m])
