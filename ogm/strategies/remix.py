"""Data remixing: each sample is shown with its weakest modality alone, in batches of one modality."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ogm.context import Context, TrainingContext
from ogm.losses import kl
from ogm.parts.stages import evaluation_mode
from ogm.strategies.equal_weight_multiloss import EqualWeightMultiloss
from ogm.types import Batch, EpochSampling, Output


class Remix(EqualWeightMultiloss):
    """After a warm-up, train each sample on its weakest modality, and never mix modalities within a batch.

    Each modality has a linear head g_m (B, C) on its feature; z (B, C) are the fused logits.
    1. Warm-up, the first epochs: L = CE(z, y) + w sum_m CE(g_m, y).
    2. Before each later epoch, on the training set, without augmentation, in evaluation mode: K_m = KL(softmax g_m ||
       uniform), in bits, for every sample. It keeps the modality with the smallest K_m; on a tie the last of them.
    3. The epoch shows every sample once, with the modality that it keeps. All batches of one modality come after all of
       another, the last modality first. The last batch of a modality may be smaller; a modality that no sample keeps
       has none.
    4. In a batch of modality m: L = CE(z, y) + gamma CE(g_m, y), with all other modalities absent. Their encoders are
       not run, and get no gradient at all, so neither momentum nor weight decay moves them.

    A modality that a sample lacks is never kept. On several processes, a last batch with fewer samples than processes
    is left out, as it cannot be shared. Where encoders exchange signals all of them are run. The curves
    ``kept/<modality>`` are the shares of the samples. Prediction: argmax z, with all modalities.

    Args:
        warmup: Share of the run's epochs that is the warm-up, in [0, 1]; at least one epoch unless it is 0. Released:
            10 of 60 epochs. With 0, the first epoch shows what untrained heads choose.
        w: Weight of the unimodal losses in the warm-up, 0 or more.
        gamma: Weight of the unimodal loss afterwards, 0 or more.

    Differences:
        - Paper: the subsets in order of the modalities. Released code and ours: video before audio, the last modality
          first.
        - Paper: no weights of losses after the warm-up. Released code and ours: ``gamma``.
        - Released code: runs all encoders and sets features to zero in place, so an encoder that is hidden has a
          gradient of zero, and Adam moves it on by momentum and weight decay. Ours: no gradient.
        - Released code: probabilities clipped at 1e-9. Ours: log-softmax.
        - Released code: keeps the epoch that is best on the test set. Ours: does not look at it.

    References:
        - Paper: Ma, Chen and Deng, ICML 2025 (arXiv 2506.11550).
        - Code: MatthewMaxy/Remix_ICML2025 at 80898aa.
    """

    category = "data"
    title = "Data Remixing"
    paper = "Ma et al., ICML 2025"
    stages = "before each epoch after the warm-up, the training set is encoded once; then one encoder per step"
    needs_engine = True
    needs_whole_batch = True  # a presence mask goes with every batch: means over micro-batches would differ

    def __init__(self, warmup: float = 0.167, w: float = 0.5, gamma: float = 1.0) -> None:
        super().__init__()
        if not (0 <= warmup <= 1 and w >= 0 and gamma >= 0):
            raise ValueError(f"warmup={warmup}, w={w}, gamma={gamma}: choose warmup in [0, 1], w >= 0 and gamma >= 0")
        self.warmup, self.w, self.gamma = warmup, w, gamma
        self._kept: Tensor | None = None  # (N,) number of the modality that each sample keeps; None in the warm-up
        self._shares: dict[str, float] = {}  # of the samples, for the curves

    # ---- between epochs
    def on_epoch_start(self, engine: TrainingContext) -> None:
        """Choose what each sample keeps. It follows from the weights alone, so it is not saved."""
        first = max(1, round(self.warmup * engine.epochs)) if self.warmup else 0
        self._kept = None if engine.epoch < first else engine.decide(self.choose(engine)).cpu()
        if self._kept is not None:
            counts = torch.bincount(self._kept, minlength=len(self.modalities)).tolist()
            self._shares = {f"kept/{m}": k / len(self._kept) for m, k in zip(self.modalities, counts, strict=True)}

    @torch.no_grad()
    def choose(self, engine: TrainingContext) -> Tensor:
        """Find the weakest modality of every training sample (step 2).

        Args:
            engine: The engine of the run.

        Returns:
            (N,) int64 numbers of modalities.
        """
        kept = torch.zeros(engine.loaders["train"].num_samples, dtype=torch.int64, device=engine.device)
        for output, batch in engine.predict("train"):
            certainty = torch.stack([bits_from_uniform(output.unimodal_logits[m]) for m in self.modalities])
            kept[batch.index] = weakest(certainty, batch.presence(self.modalities))
        return kept

    def epoch_sampling(self, num_samples: int, ctx: Context) -> EpochSampling | None:
        """Show every sample with the modality that it keeps, in batches of one modality (step 3)."""
        if self._kept is None:
            return None
        alone = torch.eye(len(self.modalities), dtype=torch.bool)
        return EpochSampling(torch.arange(num_samples), alone[self._kept], len(self.modalities) - 1 - self._kept)

    # ---- inside a step
    def shown(self, batch: Batch) -> str | None:
        """Return the modality that a batch shows; None: all of them."""
        return None if batch.group is None else self.modalities[len(self.modalities) - 1 - batch.group]

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the CE of the fused logits, and of the heads of the modalities that are shown (steps 1 and 4)."""
        shown, fused = self.shown(batch), self.loss(output.logits, batch, ctx)
        weights = dict.fromkeys(self.modalities, self.w) if shown is None else {shown: self.gamma}
        unimodal = {m: weight * self.loss(output.unimodal_logits[m], batch, ctx, m) for m, weight in weights.items()}
        return {"fused": fused, **{f"unimodal/{m}": loss for m, loss in unimodal.items()}}

    def step(self, batch: Batch, engine: TrainingContext) -> Output:
        """Train on a batch: as every method does in the warm-up, then on one modality alone."""
        shown = self.shown(batch)
        if shown is None:
            return super().step(batch, engine)
        for part in engine.split(batch):  # the batch itself
            with engine.autocast():
                features = self.encode(shown, part, engine.model)
                output = self.replace_unimodal_logits(engine.model.fuse(features, part.present))
                losses = self.losses(output, part, engine)
            self.differentiate(losses, engine)
            engine.record(losses)
        for p in [p for m in self.modalities if m != shown for p in self.parameters_of(m)]:
            p.grad = None
        engine.finish_gradients()
        engine.log(**self._shares)
        engine.update()
        return output.detach()

    def encode(self, shown: str, batch: Batch, model: Any) -> dict[str, Tensor]:
        """Encode the modality that is shown.

        Args:
            shown: Name of the modality.
            batch: The batch of this step, in which all others are absent.
            model: The model.

        Returns:
            Modality -> (B, D_m); zero for the others. A single sample is encoded in evaluation mode, since batch norm
            has no statistics of one.
        """
        with evaluation_mode(*(model.encoders.values() if len(batch) == 1 else ())):
            if getattr(self.fusion, "input_kind", "features") != "features":
                features: dict[str, Tensor] = model.encode(batch.inputs, batch.present)
                return features
            feature = model.encoders[shown](batch.inputs[shown])
        return {m: feature if m == shown else feature.new_zeros(len(batch), self.dims[m]) for m in self.modalities}


def bits_from_uniform(logits: Tensor) -> Tensor:
    """Divergence of predictions from the uniform distribution.

    Args:
        logits: (B, C).

    Returns:
        (B,) KL(softmax(logits) || uniform), in bits: between 0 and log2(C).
    """
    return kl(logits, torch.zeros_like(logits)) / math.log(2)


def weakest(certainty: Tensor, present: Tensor) -> Tensor:
    """The modality of each sample whose prediction says least.

    Args:
        certainty: (M, B) K_m.
        present: (M, B) bool, which samples have which modality.

    Returns:
        (B,) int64 number of the present modality with the smallest K_m; the last of them on a tie.
    """
    return len(certainty) - 1 - certainty.masked_fill(~present, torch.inf).flip(0).argmin(0)
