"""MIMO: the joint loss, subject to the worst unimodal loss being small, by a smooth maximum."""

from __future__ import annotations

import torch
from torch import Tensor

from ogm.context import Context, world_size
from ogm.strategies.equal_weight_multiloss import EqualWeightMultiloss
from ogm.types import Batch, Output


class MIMO(EqualWeightMultiloss):
    """Add the largest of the unimodal losses to the joint loss, as a penalty with a smooth maximum.

    With a linear head g_m per modality and F_m = CE(g_m, y):
    1. L = CE(z, y) + lam mu log sum_m exp(F_m / mu) (eq. 13, with the unknown optima of the F_m at 0).
    2. So the unimodal loss of modality m has the weight lam sigma_m, sigma = softmax(F / mu): nearly lam for the worst
       modality and 0 for the others if mu is small.

    Prediction: argmax z. F_m are means over the global batch, formed before sigma. A modality that no sample of the
    batch has is left out of the sum. Equal losses share alike. The encoders' gradients grow with ``lam``, so that the
    learning rate of joint training does not carry over. It costs one pass through the encoders and one backward pass. A
    checkpoint holds the heads.

    Args:
        lam: Weight of the penalty, 0 or more. Published: 100 for CREMA-D, AVE and CMU-MOSEI, 10 elsewhere.
        mu: How smooth the maximum is, above 0. Published: 0.01; 0.1 for AV-MNIST, 0.001 for CMU-MOSEI, 1 for UR-Funny.

    Differences:
        - Paper: doubles mu where an exponential overflows. Ours: log-sum-exp, which does not overflow.
        - Paper: settings for each dataset. Ours: the most frequent by default.
        - Released code: could not be read.

    References:
        - Paper: Fernando et al., "Mitigating Modality Imbalance in Multi-modal Learning via Multi-objective
          Optimization", 2025, arXiv 2511.06686.
        - Code: none could be read (heshandevaka/MIMO).
    """

    title = "Multi-modal Learning via Multi-objective Optimization"
    paper = "Fernando et al., 2025 (arXiv 2511.06686)"
    needs_whole_batch = True

    def __init__(self, lam: float = 10.0, mu: float = 0.01) -> None:
        super().__init__()
        if not (lam >= 0 and mu > 0):
            raise ValueError(f"lam={lam}, mu={mu}: choose lam >= 0 and mu > 0")
        self.lam, self.mu = lam, mu

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the CE of the fused logits, and the penalty with the gradient of step 2."""
        losses = super().losses(output, batch, ctx)
        unimodal = torch.stack([losses.pop(f"unimodal/{m}") for m in self.modalities])
        means = ctx.total(unimodal * (ctx.share / world_size()))
        present = ctx.total(batch.presence(self.modalities).sum(1)) > 0
        value, sigma = penalty(means, self.lam, self.mu, present)
        ctx.log(**{f"sigma/{m}": s for m, s in zip(self.modalities, sigma, strict=True)})
        weighted = (self.lam * sigma.to(unimodal.dtype) * unimodal).sum()
        # The value is not linear in the losses of ranks: it is added as a constant.
        return losses | {"penalty": weighted + (value - self.lam * (sigma * means).sum()).to(unimodal.dtype)}


def penalty(losses: Tensor, lam: float, mu: float, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Smooth maximum of the unimodal losses, and its derivative.

    Args:
        losses: (M,) unimodal losses.
        lam: Weight of the penalty.
        mu: How smooth the maximum is.
        present: (M,) bool, which modalities any sample has; None: all.

    Returns:
        0-dim lam mu log sum_m exp(F_m / mu), and (M,) sigma; both 0 if no modality is there.
    """
    counted = torch.ones_like(losses, dtype=torch.bool) if present is None else present
    scaled = (losses / mu).masked_fill(~counted, -torch.inf)
    value = lam * mu * scaled.logsumexp(0)
    return torch.where(counted.any(), value, 0.0), torch.where(counted.any(), scaled.softmax(0), 0.0)
