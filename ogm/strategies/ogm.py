"""On-the-fly gradient modulation (OGM): scale down the encoder gradient of the leading modality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from ogm.checks import check_complete
from ogm.context import Context
from ogm.parts.gradients import Variant, finite_or_one, modulation_coefficients
from ogm.strategy import Strategy
from ogm.types import Batch, Output, Scope, Target


class OGM(Strategy):
    """Slow the leading modality down by scaling the gradient of its encoder.

    After the backward pass, inside the epoch window:
    1. s_m = sum over the global batch of softmax(u_m)[y], from the unimodal logits u_m (B, C) of this step (eq. 8).
    2. rho_m = mean_{k != m} s_m / s_k, above 1 for a modality that leads (eq. 9 for two modalities).
    3. k_m = 1 - tanh(alpha rho_m) where rho_m > 1, else 1 (eq. 10).
    4. g <- k_m g for every parameter in scope of encoder m. Heads and fusion keep their gradients.

    k_m jumps at rho_m = 1, from 1 to 1 - tanh(alpha). Epochs of the window are counted whatever the run's length: with
    the default window a run of 20 epochs is modulated to its end.

    Args:
        alpha: Strength of the modulation, 0 or more. The released README recommends 0.8 for CREMA-D and 0.1 for
            VGGSound; the code of the journal version has 0.8 for Kinetics-Sounds.
        variant: Formula of the coefficient. ``"paper"``: step 3. ``"journal"`` (Wei et al., TPAMI 2024):
            1 - alpha tanh(rho_m - 1), at least 0, where rho_m > 1, else 1; continuous at rho_m = 1 and far gentler.
            ``"acc"`` (the PMR repository) speeds the weak modality up instead: 1 + tanh(alpha / rho_m) where
            rho_m < 1, else 1.
        multi: Discrepancy ratio for three or more modalities. ``"pairwise_mean"``: step 2, as the authors suggest in
            issue 16 of their repository. ``"min_ratio"``: rho_m = s_m / min_k s_k, as in BalanceBenchmark.
        scope: Which parameters are modulated: ``"weights"`` (two or more dimensions), ``"conv4d"`` (exactly four) or
            ``"all"``.
        target: Scale the gradient (``"grad"``) or the optimizer's update (``"update"``), for optimizers that undo a
            constant scale of the gradient.
        start: First epoch of the window, counted from 0.
        end: Last epoch of the window (inclusive); None: until the end of the run. Default 50, as released, of 100
            epochs.

    Differences:
        - Released code: on an exact tie the first modality is slowed. Ours, as in the paper: none.
        - Released code: 4-d tensors only. Ours: all tensors with two or more dimensions, since the authors say in issue
          22 that fully connected layers should be included; on the paper's ResNet-18 these are the same.
        - Released code: for FiLM and gated fusion, training stops with a shape error. Ours: for fusions that do not
          split into modalities, the scores come from Shapley values of the logits (``ogm.shapley.responses``).
        - Released code: trains on NaN if a score is not a number. Ours: such a coefficient counts as 1, and how many
          there were is logged; with ``debug`` it is an error.
        - Journal version's code for Kinetics-Sounds: epochs 6 to 60, with the noise of ``OGMGE``. Ours: available as
          ``ogm_ge`` with ``alpha=0.8, start=6, end=60``.
        - Journal version's coefficient: read in two independent re-implementations, not in the paper's text.

    References:
        - Paper: Peng, Wei, Deng, Wang and Hu, CVPR 2022 (arXiv 2203.15332).
        - Paper of the journal version: Wei et al., TPAMI 2024.
        - Code: GeWu-Lab/OGM-GE_CVPR2022 at 343dc1d; GeWu-Lab/BML_TPAMI2024 at 4b3aa4f (journal version);
          fanyunfeng-bit/Modal-Imbalance-PMR at 3615e48 (``"acc"``); GeWu-Lab/BalanceBenchmark at 4c1482f.
    """

    category = "gradient"
    title = "On-the-fly Gradient Modulation"
    paper = "Peng et al., CVPR 2022"
    touches = "weights"
    reads = ("unimodal_logits",)

    def __init__(
        self,
        alpha: float = 0.3,
        *,
        variant: Variant = "paper",
        multi: Literal["pairwise_mean", "min_ratio"] = "pairwise_mean",
        scope: Scope = "weights",
        target: Target = "grad",
        start: int = 0,
        end: int | None = 50,
    ) -> None:
        super().__init__(start=start, end=end)
        if not alpha >= 0:
            raise ValueError(f"alpha={alpha}: the strength of the modulation must be 0 or more")
        self.alpha, self.variant, self.multi, self.scope, self.target = alpha, variant, multi, scope, target
        self.needs_optimizer = target == "update"

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        """Multiply the gradients of each encoder by k_m, inside the epoch window (steps 1 to 4)."""
        check_complete(self, "unimodal_logits", output.unimodal_logits)
        rho = self.ratios(output, batch, ctx, self.multi)
        if not self.in_window(ctx):
            return
        coefficients = finite_or_one(modulation_coefficients(rho, self.alpha, self.variant), ctx)
        k = dict(zip(rho, coefficients.unbind(), strict=True))
        ctx.log(**{f"coefficient/{m}": coefficient for m, coefficient in k.items()})
        self.edit_gradients(k, batch, ctx)

    def edit_gradients(self, k: Mapping[str, Tensor], batch: Batch, ctx: Context) -> None:
        """Modulate the encoders (step 4); subclasses do more.

        Args:
            k: Modality -> 0-dim coefficient.
            batch: The batch of this step.
            ctx: Step number, seed and communication between ranks.
        """
        for m, parameters in self.in_scope(self.scope).items():
            self.modulate(parameters, k[m], self.target)
