"""Strong-to-weak distillation: the best unimodal model teaches the other encoders, then the fusion is trained."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ogm.augmentations import InputKind, kind_of
from ogm.context import Context, TrainingContext
from ogm.losses import full, kl
from ogm.parts.ensembles import average_predictions
from ogm.parts.stages import last_stage_length, last_stage_start, require_feature_fusion, restore_initial_learning_rate
from ogm.parts.teachers import load_encoders, unimodal_prerequisites
from ogm.strategy import Strategy
from ogm.types import Batch, Output, Passes, Prerequisite


class KDStrongToWeak(Strategy):
    """Take the best unimodal model as the teacher of the other modalities' encoders, then train the fusion on all.

    1. Train one ``unimodal`` model per modality. The teacher is the one with the best validation accuracy (or that of
       ``strong``), as it was after its best validation epoch. Its encoder and head are copied, frozen, and run in
       evaluation mode.
    2. Students: for every other modality, train the encoder and a linear head on the samples that have both modalities,
       with w_hard CE(l_S, y) + (1 - w_hard) T^2 KL(softmax(l_T / T) || softmax(l_S / T)) + w_mta L_MTA. l_T and l_S
       (B, C) are the logits of teacher and student. The fusion is not trained.
    3. Fusion: freeze all encoders and heads, and train the fusion with CE.

    L_MTA = KL(softmax(a_T / 9) || softmax(a_S / 9)) aligns attention maps. a is the mean over channels of |f|^2 in the
    last feature maps f of an encoder, scaled to unit Euclidean length. Positions of sound and image do not correspond:
    if both modalities have a time axis, everything else is averaged and the times are brought to the smaller number of
    the two; otherwise both maps are brought to the smaller grid, at most 7 x 7. The maps are computed once more for it.

    The run's epochs are divided into stage 2 and stage 3; stage 1 has runs of its own. In stage 3 the learning rate is
    the initial one of the run. The prediction is that of the fusion in stage 3. Before, it is the mean of the heads'
    probabilities, and no epoch is selected; with ``fuse=0`` there is no stage 3, and this mean is the prediction.

    Args:
        temperature: T, above 0.
        w_hard: Weight of the labels against the teacher's outputs, in [0, 1].
        w_mta: Weight of the alignment, 0 or more. Released: 0.005. Every encoder must have ``fold`` and ``maps``.
        strong: Modality of the teacher. Default: the one with the best validation accuracy.
        fuse: Number of epochs of stage 3, at the end of the run. Default: a fifth of the run, at least 1.
        kinds: Modality -> kind of its input, where the shape of the input misleads, see ``ogm.augmentations.kind_of``.

    Differences:
        - The losses are those of the papers below; the three stages are ours.
        - Released code of MTA: passes probabilities to a divergence that expects their logarithms. Ours: the
          divergence.
        - Released code of MTA: sums over several layers, with a weight of 0.005. Ours: the last layer only; off by
          default. A comparison of all methods has a row with that weight.

    References:
        - Paper: Hinton et al., 2015 (soft targets).
        - Paper: Valverde et al., CVPR 2021 (MM-DistillNet; MTA).
        - Code of MTA: robot-learning-freiburg/MM-DistillNet at 9a0dcbb.
    """

    category = "stage"
    title = "Distillation from the strong to the weak modalities"
    paper = "Hinton et al., 2015"
    stages = "one unimodal run per modality first; within the run, students of the best one, then the fusion alone"
    needs_engine = True
    strongest: Tensor
    fusing: Tensor

    def __init__(
        self,
        temperature: float = 4.0,
        *,
        w_hard: float = 0.0,
        w_mta: float = 0.0,
        strong: str | None = None,
        fuse: int | None = None,
        kinds: Mapping[str, InputKind] | None = None,
    ) -> None:
        super().__init__()
        if not (temperature > 0 and 0 <= w_hard <= 1 and w_mta >= 0 and (fuse is None or fuse >= 0)):
            raise ValueError(
                f"temperature={temperature}, w_hard={w_hard}, w_mta={w_mta}, fuse={fuse}: needs temperature > 0, "
                "0 <= w_hard <= 1, w_mta >= 0, fuse >= 0 epochs"
            )
        self.temperature, self.w_hard, self.w_mta = temperature, w_hard, w_mta
        self.strong, self.fuse, self.kinds = strong, fuse, dict(kinds or {})
        self.heads = nn.ModuleDict()

    def prerequisites(self, modalities: Sequence[str]) -> dict[str, Prerequisite]:
        """Name one ``unimodal`` run per modality."""
        return unimodal_prerequisites(modalities)

    def passes(self, modalities: int) -> Passes:
        """Return (M, 1), or (2 M, 1) with attention alignment, which computes the maps again."""
        return Passes(2 * modalities if self.w_mta else modalities, 1)

    def setup(self) -> None:
        """Check options and encoders, and create heads and the number of the teacher."""
        require_feature_fusion(self)
        if self.strong is not None and self.strong not in self.modalities:
            raise ValueError(f"strong={self.strong!r}: there are {', '.join(self.modalities)}")
        if self.w_mta > 0 and not all(hasattr(e, "maps") for e in self._encoders.values()):
            raise ValueError("w_mta aligns feature maps: every encoder needs fold and maps, as models/encoder.py has")
        self.heads.update({m: self.head(m) for m in self.modalities})
        self.register_buffer("strongest", torch.tensor(-1))  # number of the teacher's modality; -1: not known yet
        self.register_buffer("fusing", torch.tensor(False))

    # ---- stages
    def first_final_epoch(self, epochs: int) -> int:
        """Return the first epoch of stage 3."""
        return last_stage_start(epochs, 0.2, self.fuse)

    def on_epoch_start(self, engine: TrainingContext) -> None:
        """Choose the teacher once, and freeze what the stage does not train."""
        if int(self.strongest) < 0:
            self._choose(engine)
        self._teacher = self.modalities[int(self.strongest)]
        self._fusing = engine.epoch >= engine.epochs - last_stage_length(engine.epochs, 0.2, self.fuse)
        self.fusing.fill_(self._fusing)
        if self._fusing:
            engine.freeze(*self._encoders.values(), self.heads)
            restore_initial_learning_rate(engine)
        else:
            engine.freeze(self._encoders[self._teacher], self.heads[self._teacher], self.fusion)

    def _choose(self, engine: TrainingContext) -> None:
        """Find the strongest modality, and give its encoder and head the weights of its unimodal run."""
        if self.strong is not None:
            best = torch.tensor(self.modalities.index(self.strong), device=self.strongest.device)
        else:
            accuracies = torch.stack([self._accuracy(m, engine) for m in self.modalities])
            best = accuracies.argmax()  # the first, at a tie
        self.strongest.copy_(engine.decide(best))
        m = self.modalities[int(self.strongest)]
        teacher = cast(Any, self._trained[m])
        load_encoders({m: self._encoders[m]}, {m: teacher.encoder})
        self.heads[m].load_state_dict(teacher.classifier.state_dict())

    @torch.no_grad()
    def _accuracy(self, m: str, engine: TrainingContext) -> Tensor:
        """0-dim accuracy of the unimodal model of modality m, on the validation samples that have m."""
        hits, count = torch.zeros(2, device=self.strongest.device, dtype=torch.float64)
        for batch in engine.loaders["val"].all():
            present = batch.has_all([m])
            hits = hits + ((self._trained[m](batch.inputs[m]).logits.argmax(1) == batch.label) & present).sum()
            count = count + present.sum()
        accuracy: Tensor = hits / count.clamp_min(1)
        return accuracy

    # ---- inside a step
    def replace_unimodal_logits(self, output: Output) -> Output:
        """Replace the unimodal logits by those of the modalities' own heads."""
        return replace(output, unimodal_logits={m: head(output.features[m]) for m, head in self.heads.items()})

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Compute the students' losses; in stage 3 the CE of the fusion."""
        if self._fusing:
            return super().losses(output, batch, ctx)
        logits = output.unimodal_logits
        losses = {}
        for m in self.modalities:
            if m == self._teacher:
                continue
            both = batch.weights([self._teacher, m])
            soft = ctx.mean(soft_targets(logits[self._teacher], logits[m], self.temperature), both)
            losses[f"soft/{m}"] = (1 - self.w_hard) * soft
            if self.w_hard:
                losses[f"hard/{m}"] = self.w_hard * self.loss(logits[m], batch, ctx, m)
            if self.w_mta:
                student, teacher = align_positions(self._energy(m, batch), self._energy(self._teacher, batch))
                losses[f"attention/{m}"] = self.w_mta * ctx.mean(attention_alignment(student, [teacher]), both)
        log_p = (full(logits[self._teacher]) / self.temperature).log_softmax(1)
        ctx.log(teacher_entropy=-(log_p.exp() * log_p).sum(1).mean())
        return losses

    def _energy(self, m: str, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Energy of the last feature maps of an encoder.

        Args:
            m: The modality.
            batch: The batch of this step.

        Returns:
            (B, h, w) energy, averaged over frames; and (B, T) energy over time, None without a time axis.
        """
        encoder, x = cast(Any, self._encoders[m]), batch.inputs[m]
        folded, frames = encoder.fold(x)
        energies = energy(full(encoder.maps(folded)))
        if energies.ndim == 2:  # a sequence
            return energies[:, None], energies
        kind, clip = self.kinds.get(m, kind_of(x)), torch.unflatten(energies, 0, (-1, frames))  # (B, T, h, w)
        over_time = {"frames": clip.mean((2, 3)), "spectrogram": clip.mean((1, 2))}.get(kind)
        return clip.mean(1), over_time

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        """Predict with the fusion in stage 3, before with the mean of the heads' probabilities."""
        output = super().forward(model, batch, drop)
        if bool(self.fusing):
            return output
        kept = {m: z for m, z in output.unimodal_logits.items() if m not in drop}
        return replace(output, logits=average_predictions(kept, {m: batch.has_all([m]) for m in kept}, "prob_mean"))


def soft_targets(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Distillation of softened outputs (Hinton et al., 2015).

    Args:
        teacher: (B, C) logits; they get no gradient.
        student: (B, C) logits.
        temperature: T.

    Returns:
        (B,) T^2 KL(softmax(teacher / T) || softmax(student / T)).
    """
    return temperature**2 * kl(full(teacher).detach() / temperature, full(student) / temperature)


def energy(maps: Tensor, p: float = 2.0) -> Tensor:
    """Energy of feature maps at each position.

    Args:
        maps: (B, channels, ...) feature maps f.
        p: Exponent.

    Returns:
        (B, ...) mean over channels of |f|^p.
    """
    return maps.abs().pow(p).mean(1)


def align_positions(a: tuple[Tensor, Tensor | None], b: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor]:
    """Bring the energies of two modalities to the same positions: those of time if both have a time axis, else a grid.

    Args:
        a: (B, h, w) energy of one modality, and its (B, T) energy over time or None.
        b: The same of the other modality; sizes may differ.

    Returns:
        Two (B, positions) attention vectors of unit Euclidean length.
    """
    if a[1] is not None and b[1] is not None:
        length = min(a[1].shape[1], b[1].shape[1])
        first, second = (x @ pooling_matrix(x.shape[1], length, x).T for x in (a[1], b[1]))
    else:
        height, width = (min(7, a[0].shape[k], b[0].shape[k]) for k in (1, 2))
        first, second = (
            pooling_matrix(x.shape[1], height, x) @ x @ pooling_matrix(x.shape[2], width, x).T
            for x in (a[0], b[0])  # (B, height, width)
        )
    return F.normalize(first.flatten(1)), F.normalize(second.flatten(1))


def pooling_matrix(length: int, number: int, like: Tensor) -> Tensor:
    """Matrix that averages positions as adaptive pooling does, whose own gradient is not deterministic on accelerators.

    Args:
        length: Number of positions.
        number: Number of positions after pooling.
        like: Tensor whose dtype and device the matrix gets.

    Returns:
        (number, length) matrix; each row sums to 1.
    """
    at, each = torch.arange(length, device=like.device), torch.arange(number, device=like.device)[:, None]
    inside = (at >= each * length // number) & (at < ((each + 1) * length + number - 1) // number)
    return inside.to(like.dtype) / inside.sum(1, keepdim=True)


def attention_alignment(student: Tensor, teachers: Sequence[Tensor], temperature: float = 9.0) -> Tensor:
    """Alignment of attention vectors (MTA; Valverde et al., CVPR 2021).

    Args:
        student: (B, positions) attention vector a_S of unit Euclidean length.
        teachers: Attention vectors of one or more teachers, each like ``student``; they get no gradient. That of
            several is their product, scaled to unit sum.
        temperature: T.

    Returns:
        (B,) KL(softmax(a_T / T) || softmax(a_S / T)).
    """
    target = teachers[0]
    for other in teachers[1:]:
        target = target * other
    if len(teachers) > 1:
        target = F.normalize(target, p=1.0)
    return kl(target.detach() / temperature, student / temperature)
