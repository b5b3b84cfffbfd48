"""Multi-loss balanced (MLB): unimodal losses, and gradient coefficients that slow the strong and speed the weak."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ogm.context import Context
from ogm.imbalance import lag_ratios, true_class_scores
from ogm.parts.gradients import finite_or_one
from ogm.parts.heads import unimodal_head_parts
from ogm.strategies.equal_weight_multiloss import EqualWeightMultiloss
from ogm.types import Batch, Output


class MLB(EqualWeightMultiloss):
    """Add unimodal losses, and scale each modality's gradients up where it is behind and down where it is ahead.

    1. L = CE(z, y) + sum_m CE(g_m, y), with g_m (B, C) the logits of a linear head on the feature of modality m.
    2. After the backward pass: s_m = mean over the batch of softmax(g_m)[y]; rho_m = mean_{k != m} s_k / s_m, above 1
       for a modality that is behind.
    3. k_m = 1 + (beta - 1) tanh(alpha (rho_m - 1)) where rho_m > 1, else 1 + tanh(alpha (rho_m - 1)). k_m is
       continuous, lies in (0, beta), and is 1 at balance.
    4. Multiply by k_m all gradients of encoder m, of head m and of its part of the fusion's last layer: its columns of
       a concat head (not the bias), or its own layer of a sum. Fusions that do not split into modalities keep their
       gradients.

    The prediction is argmax z.

    Args:
        alpha: Steepness, 0 or more. Published: 0.8 for CREMA-D and AVE, 1.0 for UCF101.
        beta: Largest coefficient, 1 or more.

    Differences:
        - Released code: the snapshot that was read cannot build the method, because a base class is named that no
          longer exists. Ours follows its formulas.
        - Released code: trains with Adam, which undoes a constant factor, so that only changes of k_m have an effect.
          Ours: the optimizer of the run; with SGD every k_m has its full effect.

    References:
        - Paper: Kontras et al., BMVC 2024 (arXiv 2405.07930).
        - Code: kkontras/MLB at 357b5ce.
    """

    category = "gradient"
    title = "Multi-Loss Balanced training"
    paper = "Kontras et al., BMVC 2024"

    def __init__(self, alpha: float = 0.8, beta: float = 2.0) -> None:
        super().__init__()
        if not (alpha >= 0 and 1 <= beta < math.inf):
            raise ValueError(f"alpha={alpha}, beta={beta}: choose alpha >= 0 and beta >= 1 (finite)")
        self.alpha, self.beta = alpha, beta

    @torch.no_grad()
    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        """Multiply the gradients of each modality's encoder, head and part of the fusion by k_m."""
        super().on_gradients(output, batch, ctx)
        rho = lag_ratios(true_class_scores(output.unimodal_logits, batch, ctx), math.inf)
        factors = finite_or_one(pace_factors(rho, self.alpha, self.beta), ctx)
        k = dict(zip(rho, factors.unbind(), strict=True))
        ctx.log(**{f"coefficient/{m}": coefficient for m, coefficient in k.items()})
        for m, parameters in self.in_scope("all").items():
            self.modulate([*parameters, *self.heads[m].parameters()], k[m], "grad")
        for m, p, columns in unimodal_head_parts(self._fusion[0], self.dims):
            if p.grad is not None:
                p.grad[..., columns].mul_(k[m])


def pace_factors(rho: Mapping[str, Tensor], alpha: float, beta: float) -> Tensor:
    """Coefficients of the gradients.

    Args:
        rho: Modality -> 0-dim ratio; above 1 for a modality that is behind.
        alpha: Steepness.
        beta: Largest coefficient.

    Returns:
        (M,) k_m = 1 + (beta - 1) tanh(alpha (rho_m - 1)) where rho_m > 1, else 1 + tanh(alpha (rho_m - 1)), in the
        order of the modalities. NaN stays NaN.
    """
    r = torch.stack(list(rho.values()))
    return 1 + torch.where(r <= 1, 1.0, beta - 1) * torch.tanh(alpha * (r - 1))
