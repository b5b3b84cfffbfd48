"""Disentangled gradient learning (DGL): encoders learn from unimodal losses alone, the fusion from the joint loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from ogm.checks import check_complete
from ogm.context import Context
from ogm.parts.heads import final_layer
from ogm.strategy import Strategy
from ogm.types import Batch, Output


class DGL(Strategy):
    """Cut the joint loss off from the encoders, and the unimodal losses off from the fusion that they go through.

    Under a joint loss an encoder's gradient shrinks by what the other modalities explain already. In each step, with
    the features h_m (B, D_m):
    1. o_m (B, C) are the fused logits with the features of all other modalities at zero and all biases kept (eq. 12 and
       14), for concat W_m h_m + b. Fusions with a classifier per modality (sum, late, late_prob, mmtm): o_m is the
       classifier's output.
    2. L_uni = alpha sum_m CE(o_m, y). Its gradient reaches the encoders alone; the fusion's parameters are constants.
    3. L_f = CE(h(sg h_1, .., sg h_M), y), where sg cuts the gradient: it reaches the fusion alone.
    4. One backward pass over L_uni + L_f, one optimizer step.

    Prediction: argmax z, the fused logits. It costs one pass through the encoders, one backward pass and M + 1 more
    evaluations of the fusion. What a fusion does while encoders run (mmtm's gates, tokens that are exchanged) counts as
    part of the encoders. Losses of an architecture's further predictions train the fusion alone, as L_f. With alpha 0
    encoders only decay. A checkpoint holds nothing beyond the model.

    Args:
        alpha: Weight of the unimodal losses, 0 or more. Published: 4 for CREMA-D, 2 and 3 for Kinetics-Sounds, 2 for
            VGGSound; the released default is 4.

    Differences:
        - Released code: two backward passes, between which the fusion's gradients of the unimodal losses are thrown
          away. Ours: one, with the same gradients (compared on concat and sum).
        - Paper: the other features are zero. Released FiLM and gated fusions: they pair a modality with itself instead.
          Ours: zeros, for every fusion.
        - Released gated fusion: detaches features after its two input projections, which so are never trained. Ours:
          before them.
        - Released code: clips the gradients' norm at 40. Ours: the run's own limit.
        - Released code: takes a step of the learning-rate schedule before the first epoch, chooses the best epoch on
          test, and drops the last incomplete test batch. Ours: the suite's schedule and selection.

    References:
        - Paper: Wei, Luo and Luo, "Boosting Multimodal Learning via Disentangled Gradient Learning", ICCV 2025, arXiv
          2507.10213.
        - Code: shicaiwei123/ICCV2025-GDL at b72a55f.
    """

    category = "gradient"
    title = "Disentangled Gradient Learning"
    paper = "Wei, Luo and Luo, ICCV 2025"
    reads = ("features", "fusion")

    def __init__(self, alpha: float = 4.0) -> None:
        super().__init__()
        if not alpha >= 0:
            raise ValueError(f"alpha={alpha}: the weight of the unimodal losses must be 0 or more")
        self.alpha = alpha

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute L_f, which trains the fusion, and L_uni, which trains the encoders (steps 1 to 3)."""
        check_complete(self, "features", output.features)
        cut = {m: f.detach() for m, f in output.features.items()}
        aux_logits = self.fusion.aux_logits(cut) if output.aux_logits else {}
        alone = logits_through_constants(self.fusion, output.features, batch.present)
        return super().losses(Output(self.fusion(cut, batch.present), aux_logits=aux_logits), batch, ctx) | {
            f"unimodal/{m}": self.alpha * self.loss(z, batch, ctx, m) for m, z in alone.items()
        }


class Alone(nn.Module):
    """Computes the logits of each modality by itself, through a fusion.

    Args:
        fusion: The fusion.
    """

    def __init__(self, fusion: Any) -> None:
        super().__init__()
        self.fusion = fusion

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute o_m (B, C) from features (B, D_m), see ``DGL``.

        Args:
            features: Modality -> (B, D_m).
            present: Modality -> (B,) bool, which samples have it. A modality without an entry is always present.

        Returns:
            Modality -> (B, C): those of its own classifier, or else the fused logits with the other features at zero.
        """
        if isinstance(final_layer(self.fusion), nn.ModuleDict):
            return dict(self.fusion.unimodal_logits(features))
        return {m: self.fusion(features, present, drop=set(features) - {m}) for m in features}


def logits_through_constants(
    fusion: Any, features: Mapping[str, Tensor], present: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Compute the logits of each modality by itself, with a gradient to the features and none to the fusion.

    Args:
        fusion: The fusion.
        features: Modality -> (B, D_m).
        present: Modality -> (B,) bool, which samples have it. A modality without an entry is always present.

    Returns:
        Modality -> (B, C).
    """
    alone = Alone(fusion)
    constants = {name: p.detach() for name, p in alone.named_parameters()}
    logits: dict[str, Tensor] = functional_call(alone, constants, (features, present))
    return logits
