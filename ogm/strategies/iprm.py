"""IPRM: features are mixed along the great circle, with weights that are probed in the same step."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ogm.checks import check_complete
from ogm.context import Context
from ogm.losses import full, kl
from ogm.parts.ensembles import counted_modalities
from ogm.parts.heads import width_adapters, xavier_linear
from ogm.parts.stages import require_feature_fusion
from ogm.strategies.equal_weight_multiloss import EqualWeightMultiloss
from ogm.types import Batch, Output

MixedPairs = Literal["all", "one"]


class IPRM(EqualWeightMultiloss):
    """Classify mixtures of two features, with weights that follow how near each modality is to the mixture.

    Each modality has a linear head g_m, each pair of modalities a linear head on the mixture of their features. In each
    step, for each pair (m, n), on the features h of one forward pass:
    1. Probe, without gradient: lam = alpha lam + (1 - alpha) lam_hat, where both are (0.5, 0.5) before the first step.
       x = geo(h_m, h_n; lam), the mixture on the great circle: with the angle theta between the two,
       geo = sin(lam_m theta) / sin(theta) h_m / |h_m| + sin(lam_n theta) / sin(theta) h_n / |h_n|.
    2. K_m = mean over the global batch of KL(softmax g_m || softmax mix(x)), and K_n likewise.
    3. lam_hat_m = K_n / (K_m + K_n), lam_hat_n = K_m / (K_m + K_n): the modality whose prediction is nearer to that of
       the mixture gets the larger weight. Both are 0.5 where K_m + K_n is below 1e-12.
    4. Learn: L = sum_m CE(g_m, y) + sum over pairs of CE(mix(geo(h_m, h_n; lam_hat)), y). lam_hat is a number.

    Prediction: sum_m g_m + mean over pairs of mix(geo(h_m, h_n; lam)), with lam of the last training step. The fusion
    module is not used, and not trained. Features of different widths are mapped to the largest width by linear layers
    before they are mixed. Only samples that have both modalities count in steps 2 and 4, and a sample is predicted by
    the heads and pairs of the modalities that it has; a pair that no sample of a batch has keeps its weights.

    Args:
        alpha: Share of the former weights in lam, in [0, 1].
        pairs: ``"all"``: every pair in each step, each with a head of its own (the released script's ``tri_cls``).
            ``"one"``: one random pair in each step, and one head for the mixtures of all pairs (``single_cls``). For
            two modalities both are the same, up to initial weights.

    Differences:
        - Paper: not read. Everything follows the released code.
        - Released code for three modalities: the third modality is classified by the head of the second, in training
          and test, and its own head is never used. Ours: each by its own.
        - Released code: adds 1e-8 to sin(theta), so the mixture of parallel features is near 0 and its gradient NaN.
          Ours: the cosine is kept in [-1 + 1e-7, 1 - 1e-7], and the mixture of parallel features is
          lam_m h_m / |h_m| + lam_n h_n / |h_n|.
        - Released code: a feature of zeros, and K_m = K_n = 0, give NaN. Ours: such a feature stays 0, at a right angle
          to any other, and the weights are 0.5.
        - Released code: saves lam with its best checkpoint, but not lam_hat. Ours: both are part of the state.
        - Released code, ``single_cls``: a pair that was never drawn cannot be predicted. Ours: its weights are 0.5.
        - Released code: features of one width. The linear layers for other widths are ours, and so is what happens
          where modalities are missing.
        - Released code: keeps the epoch that is best on the test set. Ours: the data do not depend on the method.

    References:
        - Paper: Yang, Wu and Jiang, IJCAI 2025.
        - Code: njustkmg/IJCAI25-IPRM at 0bb457f.
    """

    category = "feature"
    title = "Instantaneous Probe-and-Rebalance Multimodal Learning"
    paper = "Yang et al., IJCAI 2025"
    prediction = "sum of the branches and the mean of the mixtures"
    needs_whole_batch = True
    lam: Tensor
    lam_hat: Tensor

    def __init__(self, alpha: float = 0.8, *, pairs: MixedPairs = "all") -> None:
        super().__init__()
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha={alpha}: the share of the former weights must be in [0, 1]")
        self.alpha, self.pairs = alpha, pairs
        self.mix_heads = nn.ModuleDict()

    def setup(self) -> None:
        """Create heads, adapters and mixing weights."""
        if self._fusion[0] is not None:
            require_feature_fusion(self)
        super().setup()
        self.adapters, width = width_adapters(self.dims)
        self.modality_pairs = list(itertools.combinations(self.modalities, 2))
        names = ["-".join(pair) for pair in self.modality_pairs] if self.pairs == "all" else ["any"]
        self.mix_heads.update({name: xavier_linear(width, self.num_classes) for name in names})
        self.register_buffer("lam", torch.full((len(self.modality_pairs), 2), 0.5))
        self.register_buffer("lam_hat", torch.full((len(self.modality_pairs), 2), 0.5))

    # ---- training
    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the CE of every head, after the weights of the mixtures were probed (steps 1 to 4)."""
        losses = {f"unimodal/{m}": self.loss(z, batch, ctx, m) for m, z in output.unimodal_logits.items()}
        chosen = range(len(self.modality_pairs))
        if self.pairs == "one":
            chosen = range(first := int(ctx.chance("iprm/pair") * len(self.modality_pairs)), first + 1)
        wide = self.widened(output.features)
        self.probe(chosen, wide, output.unimodal_logits, batch, ctx)
        for i in chosen:
            m, n = self.modality_pairs[i]
            losses[f"mixture/{m}-{n}"] = self.loss(self.mix(i, wide, self.lam_hat[i]), batch, ctx, m, n)
        return losses

    @torch.no_grad()
    def probe(
        self,
        chosen: Sequence[int],
        features: Mapping[str, Tensor],
        unimodal_logits: Mapping[str, Tensor],
        batch: Batch,
        ctx: Context,
    ) -> Tensor:
        """Move the weights of some pairs: lam towards lam_hat, and lam_hat to what the divergences say (steps 1 to 3).

        Args:
            chosen: Numbers of the pairs.
            features: Modality -> (B, D), all of one width.
            unimodal_logits: Modality -> (B, C).
            batch: The batch of this step.
            ctx: Communication between ranks, and where to log.

        Returns:
            (number of chosen pairs, 2) divergences K over the global batch.
        """
        lam, sums = self.alpha * self.lam + (1 - self.alpha) * self.lam_hat, []
        for i in chosen:
            mixed, both = self.mix(i, features, lam[i]), batch.has_all(self.modality_pairs[i])
            divergences = [torch.where(both, kl(unimodal_logits[m], mixed), 0.0).sum() for m in self.modality_pairs[i]]
            sums.append(torch.stack([*divergences, both.sum()]))
        *total, count = ctx.total(torch.stack(sums)).unbind(1)
        divergence = torch.stack(total, 1) / count.clamp_min(1)[:, None]
        for i, new, seen in zip(chosen, turned_weights(divergence), count > 0, strict=True):
            self.lam[i] = torch.where(seen, lam[i], self.lam[i])
            self.lam_hat[i] = torch.where(seen, new.to(lam), self.lam_hat[i])
            ctx.log(**{f"mixing_weight/{m}": x.clone() for m, x in zip(self._names(i), self.lam_hat[i], strict=True)})
        return divergence

    def _names(self, i: int) -> tuple[str, str]:
        """Name the two weights of a pair for the curves."""
        m, n = self.modality_pairs[i]
        return f"{m}-{n}/{m}", f"{m}-{n}/{n}"

    # ---- mixtures
    def widened(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map features to one width.

        Args:
            features: Modality -> (B, D_m).

        Returns:
            Modality -> (B, D).
        """
        check_complete(self, "features", features)
        return {m: self.adapters[m](features[m]) for m in self.modalities}

    def mix(self, i: int, features: Mapping[str, Tensor], weights: Tensor) -> Tensor:
        """Compute the logits of the mixture of a pair.

        Args:
            i: Number of the pair.
            features: Modality -> (B, D), all of one width.
            weights: (2,) weights of the two modalities.

        Returns:
            (B, C) logits.
        """
        m, n = self.modality_pairs[i]
        mixture = great_circle(features[m], features[n], weights)
        logits: Tensor = self.mix_heads[f"{m}-{n}" if self.pairs == "all" else "any"](mixture.to(features[m].dtype))
        return logits

    # ---- prediction
    def replace_unimodal_logits(self, output: Output) -> Output:
        """Replace the unimodal logits by those of the heads, and the fused ones by the prediction."""
        output = super().replace_unimodal_logits(output)
        present = torch.ones(len(self.modalities), len(output.logits), dtype=torch.bool, device=output.logits.device)
        with torch.no_grad():
            return replace(output, logits=self.sum_up(output, present))

    def sum_up(self, output: Output, present: Tensor) -> Tensor:
        """Add up the predictions of heads and mixtures.

        Args:
            output: Features, and the heads' logits.
            present: (M, B) bool, which modalities count for each sample.

        Returns:
            (B, C) sum of the heads that count, and the mean over the pairs that count of their mixtures, if any does.
        """
        wide, row = self.widened(output.features), dict(zip(self.modalities, present, strict=True))
        heads = torch.stack([full(output.unimodal_logits[m]) for m in self.modalities])
        mixtures = torch.stack([full(self.mix(i, wide, self.lam[i])) for i in range(len(self.modality_pairs))])
        both = torch.stack([row[m] & row[n] for m, n in self.modality_pairs])[..., None]
        mean = torch.where(both, mixtures, 0.0).sum(0) / both.sum(0).clamp_min(1)
        return torch.where(present[..., None], heads, 0.0).sum(0) + mean

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        """Predict with the heads and mixtures of the modalities that each sample has."""
        output = super().forward(model, batch, drop)
        return replace(output, logits=self.sum_up(output, counted_modalities(self.modalities, batch, drop)))


def great_circle(x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Mix the directions of two features along the great circle between them.

    Args:
        x: (B, D) features.
        y: (B, D) features.
        weights: (2,) weights of the two.

    Returns:
        (B, D) mixtures, in float32 or better. Of unit length where the weights add up to 1 and neither feature is 0.
    """
    x, y = F.normalize(full(x)), F.normalize(full(y))
    theta = (x * y).sum(1, keepdim=True).clamp(-1 + 1e-7, 1 - 1e-7).arccos()
    return ((weights[0] * theta).sin() * x + (weights[1] * theta).sin() * y) / theta.sin()


def turned_weights(divergence: Tensor) -> Tensor:
    """Weights of two modalities from the divergences of their predictions: each gets the share of the other.

    Args:
        divergence: (..., 2) K_m and K_n.

    Returns:
        (..., 2) K_n / (K_m + K_n) and K_m / (K_m + K_n); 0.5 where the sum is below 1e-12.
    """
    total = divergence.sum(-1, keepdim=True)
    return torch.where(total < 1e-12, 0.5, divergence.flip(-1) / total.clamp_min(1e-12))
