"""Strong teaches weak: the best modality's model is the teacher, the others' are its students, then all are fused."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ogm.augmentations import Kind, kind_of
from ogm.context import Context
from ogm.engine import Engine
from ogm.losses import full, kl
from ogm.strategies.di_mml import apart, first_of_last, full_rate, last_epochs
from ogm.strategies.ume import ensemble
from ogm.strategies.umt import teachers
from ogm.strategies.unimodal_pretrain_finetune import start_from
from ogm.strategy import Passes, Strategy
from ogm.types import Batch, Need, Output


class KDStrongToWeak(Strategy):
    """Hinton et al., 2015, across modalities (spec methods_loss.md, section 16); MTA: Valverde et al., CVPR 2021.

    1. Teacher: of the ``unimodal`` runs, at their best validation epochs, the one with the best validation accuracy (or
       that of ``strong``). It is one of the encoders from here on, frozen, in evaluation mode.
    2. Students: the encoder and a head of every other modality, on the paired samples, with
       w_hard CE(l_S) + (1 - w_hard) T^2 KL(softmax(l_T / T) || softmax(l_S / T)) + w_mta L_MTA. The fusion rests.
    3. Fuse: all encoders and heads stand still, and the fusion trains with CE (``head_only``).

    The run's epochs are divided: the last fifth fuses (``fuse`` epochs, if given), the rest goes to the students; the
    teachers have had runs of their own. The spec's 20 epochs of fusing are a fifth of 100. As a new beginning, stage 3
    has the learning rate that the run began with, until its end. The prediction is the fusion's in stage 3 and, before
    there is one, the mean of the heads' probabilities; only epochs of stage 3 are selected. With ``fuse=0`` there is no
    stage 3, and that mean is what the method predicts.

    ``w_mta`` adds the alignment of attention maps: channel-mean |f|^p of the encoders' last maps (their ``maps`` are
    computed once more for it). A sound's and a picture's positions do not correspond: where both have a time axis, all
    else is averaged away and the times are brought to the shorter one's number; otherwise both maps are brought to the
    smaller grid, at most 7 x 7. ``kinds`` names inputs whose shape misleads (see ``views.kind_of``). The released MTA
    passes probabilities where its divergence expects their logarithms; ours is the divergence. It adds up several
    layers, with a weight of 0.005; here it is the last one, and a comparison of all methods has a row of that weight.
    """

    category = "stage"
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
        kinds: Mapping[str, Kind] | None = None,
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

    def needs(self, modalities: Sequence[str]) -> dict[str, Need]:
        return teachers(modalities)

    def passes(self, modalities: int) -> Passes:
        return Passes(2 * modalities if self.w_mta else modalities, 1)

    def setup(self) -> None:
        apart(self)
        if self.strong is not None and self.strong not in self.modalities:
            raise ValueError(f"strong={self.strong!r}: there are {', '.join(self.modalities)}")
        if self.w_mta > 0 and not all(hasattr(e, "maps") for e in self._encoders.values()):
            raise ValueError("w_mta aligns feature maps: every encoder needs fold and maps, as models/encoder.py has")
        self.heads.update({m: self.head(m) for m in self.modalities})
        self.register_buffer("strongest", torch.tensor(-1))  # number of the modality; -1: not known yet
        self.register_buffer("fusing", torch.tensor(False))

    # ---- stages
    def first_final_epoch(self, epochs: int) -> int:
        return first_of_last(epochs, 0.2, self.fuse)

    def on_epoch_start(self, engine: Engine) -> None:
        if int(self.strongest) < 0:
            self._choose(engine)
        self._teacher = self.modalities[int(self.strongest)]
        self._fusing = engine.epoch >= engine.epochs - last_epochs(engine.epochs, 0.2, self.fuse)
        self.fusing.fill_(self._fusing)
        if self._fusing:
            engine.freeze(*self._encoders.values(), self.heads)
            full_rate(engine)
        else:
            engine.freeze(self._encoders[self._teacher], self.heads[self._teacher], self.fusion)

    def _choose(self, engine: Engine) -> None:
        """Find the strongest, and give its encoder and head the weights of its own run."""
        if self.strong is not None:
            best = torch.tensor(self.modalities.index(self.strong), device=self.strongest.device)
        else:
            right = torch.stack([self._accuracy(m, engine) for m in self.modalities])
            best = right.argmax()  # the first, at a tie
        self.strongest.copy_(engine.decide(best))
        m = self.modalities[int(self.strongest)]
        branch = cast(Any, self._trained[m])
        start_from({m: self._encoders[m]}, {m: branch.encoder})
        self.heads[m].load_state_dict(branch.classifier.state_dict())

    @torch.no_grad()
    def _accuracy(self, m: str, engine: Engine) -> Tensor:
        """Of m's teacher on the validation samples that have m."""
        right, count = torch.zeros(2, device=self.strongest.device, dtype=torch.float64)
        for batch in engine.loaders["val"].all():
            there = batch.have([m])
            right = right + ((self._trained[m](batch.inputs[m]).logits.argmax(1) == batch.label) & there).sum()
            count = count + there.sum()
        share: Tensor = right / count.clamp_min(1)
        return share

    # ---- inside a step
    def read(self, output: Output) -> Output:
        return replace(output, unimodal_logits={m: head(output.features[m]) for m, head in self.heads.items()})

    def losses(self, output: Output, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        if self._fusing:
            return super().losses(output, batch, ctx)
        said = output.unimodal_logits
        found = {}
        for m in self.modalities:
            if m == self._teacher:
                continue
            both = batch.weights([self._teacher, m])
            soft = ctx.mean(soft_targets(said[self._teacher], said[m], self.temperature), both)
            found[f"soft/{m}"] = (1 - self.w_hard) * soft
            if self.w_hard:
                found[f"hard/{m}"] = self.w_hard * self.loss(said[m], batch, ctx, m)
            if self.w_mta:
                student, teacher = aligned(self._energy(m, batch), self._energy(self._teacher, batch))
                found[f"attention/{m}"] = self.w_mta * ctx.mean(mta(student, [teacher]), both)
        p = (full(said[self._teacher]) / self.temperature).log_softmax(1)
        ctx.log(teacher_entropy=-(p.exp() * p).sum(1).mean())
        return found

    def _energy(self, m: str, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Where m's encoder looks: energies (B, h, w) of its last maps, and over time (B, T) where there is a time."""
        encoder, x = cast(Any, self._encoders[m]), batch.inputs[m]
        folded, frames = encoder.fold(x)
        found = energy(full(encoder.maps(folded)))
        if found.ndim == 2:  # a sequence
            return found[:, None], found
        kind, clip = self.kinds.get(m, kind_of(x)), torch.unflatten(found, 0, (-1, frames))  # (B, T, h, w)
        time = {"frames": clip.mean((2, 3)), "spectrogram": clip.mean((1, 2))}.get(kind)
        return clip.mean(1), time

    def forward(self, model: Any, batch: Batch, drop: Collection[str] = ()) -> Output:
        output = super().forward(model, batch, drop)
        if bool(self.fusing):
            return output
        kept = {m: z for m, z in output.unimodal_logits.items() if m not in drop}
        return replace(output, logits=ensemble(kept, {m: batch.have([m]) for m in kept}, "prob_mean"))


def soft_targets(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """(B,) T^2 KL(softmax(teacher / T) || softmax(student / T)) of logits (B, C); the teacher gets no gradient."""
    return temperature**2 * kl(full(teacher).detach() / temperature, full(student) / temperature)


def energy(maps: Tensor, p: float = 2.0) -> Tensor:
    """Feature maps (B, channels, ...) -> (B, ...): the mean over channels of |f|^p."""
    return maps.abs().pow(p).mean(1)


def aligned(a: tuple[Tensor, Tensor | None], b: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor]:
    """Two pairs (energies (B, h, w), over time (B, T) or None) -> two attention vectors over the same positions."""
    if a[1] is not None and b[1] is not None:
        length = min(a[1].shape[1], b[1].shape[1])
        first, second = (x @ bins(x.shape[1], length, x).T for x in (a[1], b[1]))
    else:
        height, width = (min(7, a[0].shape[k], b[0].shape[k]) for k in (1, 2))
        first, second = (
            bins(x.shape[1], height, x) @ x @ bins(x.shape[2], width, x).T
            for x in (a[0], b[0])  # (B, height, width)
        )
    return F.normalize(first.flatten(1)), F.normalize(second.flatten(1))


def bins(length: int, number: int, like: Tensor) -> Tensor:
    """(number, length): the matrix that averages ``length`` positions into ``number``, as adaptive pooling does.

    A product, because the gradient of adaptive pooling is not deterministic on accelerators.
    """
    at, each = torch.arange(length, device=like.device), torch.arange(number, device=like.device)[:, None]
    inside = (at >= each * length // number) & (at < ((each + 1) * length + number - 1) // number)
    return inside.to(like.dtype) / inside.sum(1, keepdim=True)


def mta(student: Tensor, teachers: Sequence[Tensor], temperature: float = 9.0) -> Tensor:
    """(B,) KL(softmax(a_T / T) || softmax(a_S / T)) of attention vectors (B, positions) of unit Euclidean length.

    Several teachers: a_T is the product of theirs, brought to unit sum. They get no gradient.
    """
    together = teachers[0]
    for other in teachers[1:]:
        together = together * other
    if len(teachers) > 1:
        together = F.normalize(together, p=1.0)
    return kl(together.detach() / temperature, student / temperature)
