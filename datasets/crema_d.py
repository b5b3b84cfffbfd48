"""CREMA-D: 91 actors say 12 sentences with six emotions; sound from AudioWAV, pictures from VideoFlash.

Presets: ``paper`` as the released OGM-GE code makes it (22,050 Hz, repeated to 3 s, STFT 512 with *hop* 353, one frame
of about one per second), ``paper299`` as its papers describe it (16 kHz, window 512 with *overlap* 353, 257 x 299), and
``bb`` as BalanceBenchmark (filterbanks 1024 x 128, two frames). Frames are stored whole, as uint8 at 480 x 360.

Splits: ``ogm`` is the OGM-GE authors' clip-level draw, which has no validation set: for each class as many clips as
test has are carved from their train list, by ascending sha256 of the clip's name. ``ogm_val`` takes the carving of
Diagnosing and Re-learning instead, from its lists ``my_train.csv`` and ``val.csv``, where you have put them into
``splits/``. ``actor5`` keeps actors apart and needs no list: of the 91 actors in order, every fifth is test.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from datasets import audio, images
from datasets.base import DataModule, ScanReport
from datasets.cache import Cache, Column, Decoded, Piece, canonical, sha256
from datasets.cards import CARDS
from datasets.crema_d_lists import (
    CLASSES,
    FOLDS,
    LISTS,
    Rows,
    actors,
    copy_lists,
    download_lists,
    label_of,
    read_splits,
)
from datasets.errors import AudioDecodeError, EmptyMediaError, MissingMediaError, VideoDecodeError
from datasets.files import refuse_missing, refuse_pointer
from datasets.paths import cache_folder, raw_folder
from datasets.prepared import Options, Plan, Prepared
from datasets.progress import Progress
from datasets.video import read_frames, segments
from ogm.types import Batch

HEIGHT, WIDTH = 360, 480


@dataclass(frozen=True)
class Preset:
    """A spectrogram, its ``shape`` and parameters, frames stored per second, and how many of them a sample sees."""

    spectrogram: Callable[[audio.Recording], Tensor]
    shape: tuple[int, int]
    frames_per_second: int
    picks: int
    parameters: Mapping[str, Any]


def _paper(recording: audio.Recording) -> Tensor:
    x = audio.resample(audio.mono(recording.samples), recording.rate, 22_050)
    return audio.stft_log(audio.tile(x, 66_150).clamp(-1, 1), 512, 353)


def _paper299(recording: audio.Recording) -> Tensor:
    x = audio.resample(audio.mono(recording.samples), recording.rate, 16_000)
    return audio.psd_log(audio.tile(x, 48_000).clamp(-1, 1), 16_000)


def _bb(recording: audio.Recording) -> Tensor:
    return audio.kaldi_fbank(recording.samples, recording.rate)


# fmt: off
PRESETS = {
    "paper": Preset(_paper, (257, 188), 1, 1, {
        "operator": "stft_log", "rate": 22_050, "channels": "mean", "resampler": "torchaudio sinc_interp_hann, width 6",
        "repeated_to": 66_150, "n_fft": 512, "hop": 353, "window": "hann, periodic", "padding": "zeros, centred",
        "log": "ln(|S| + 1e-7)"}),
    "paper299": Preset(_paper299, (257, 299), 1, 1, {
        "operator": "psd_log", "rate": 16_000, "channels": "mean", "resampler": "torchaudio sinc_interp_hann, width 6",
        "repeated_to": 48_000, "n_fft": 512, "hop": 159, "window": "tukey 0.25, periodic", "padding": "none",
        "log": "ln(P + 1e-7), standardised per clip"}),
    "bb": Preset(_bb, (1024, 128), 2, 2, {
        "operator": "kaldi_fbank", "rate": "as recorded", "channels": "first", "bins": 128, "frames": 1024,
        "window": "hanning 25 ms, shift 10 ms", "padding": "zeros after the logarithm", "mean": -4.503877,
        "std": 2 * 5.141276}),
}
# fmt: on


class CremaDOptions(Options):
    preset: Literal["paper", "paper299", "bb"] = "paper"
    split: Literal["ogm", "ogm_val", "actor5"] = "ogm"
    fold: int = Field(0, ge=0, lt=FOLDS)  # of actor5
    image_size: int = Field(224, ge=8)
    max_missing: int = Field(0, ge=0)  # clips that may be absent; their number is reported
    allow_unpinned: bool = False  # split lists of your own

    @model_validator(mode="after")
    def _read_all(self) -> Self:
        if self.fold and self.split != "actor5":
            raise ValueError("fold belongs to split=actor5")
        return self


class CremaD(Prepared):
    """See the module. Samples: audio (1, F, T), visual (3, frames, image_size, image_size)."""

    name = "crema_d"
    modalities = ("audio", "visual")
    classes = CLASSES
    Options = CremaDOptions
    how_to_get: ClassVar[str] = CARDS["crema_d"].how_to_get

    def __init__(self, options: CremaDOptions, cache: Cache, rows: Rows, listed: int, notes: Counter[str]) -> None:
        self.cache, self.size, self.picks = cache, options.image_size, PRESETS[options.preset].picks
        self.ids = [name for name, _ in rows]
        self.labels = [label for _, label in rows]
        self.label_rows = np.array(self.labels, dtype=np.int64)
        self.audio_rows = np.array([cache.rows("audio", name).start for name in self.ids])
        frames = [cache.rows("frames", name) for name in self.ids]
        self.first_frame, self.frames = (torch.tensor(x) for x in ([r.start for r in frames], [len(r) for r in frames]))
        notes = notes + sum((Counter(cache.about[name]) for name in self.ids), Counter())  # + drops zeros
        self.report = ScanReport(
            listed, len(rows), {c: self.labels.count(i) for i, c in enumerate(CLASSES)}, dict(notes)
        )
        self.recipe = {
            **cache.manifest["recipe"],
            "source": cache.manifest["source"],
            "split": options.split,
            "fold": options.fold,
            "image_size": self.size,
            "picks": self.picks,
            "missing": listed - len(rows),
        }

    def load(self, i: int, rng: torch.Generator | None) -> dict[str, Tensor]:
        """audio (1, F, T), visual (3, frames, size, size), as the loader's batches hold them."""
        seeds = [] if rng is None else [rng.initial_seed()]
        batch = self.batch([(i, seed) for seed in seeds] or [i])
        batch = self.augment(batch, seeds) if seeds else batch
        return {m: x[0] for m, x in batch.inputs.items()}

    def batch(self, keys: Sequence[int | tuple[int, int]]) -> Batch:
        """For evaluation all is done. For training ``visual`` is (B, T, 360, 480, 3) uint8 until ``augment``."""
        index = torch.tensor([key if isinstance(key, int) else key[0] for key in keys])
        seeds = [key[1] for key in keys if not isinstance(key, int)]
        chosen = segments(self.frames[index], self.picks, self._draws(seeds)[..., 0] if seeds else None)
        rows = (self.first_frame[index, None] + chosen).numpy()
        visual = torch.from_numpy(np.asarray(self.cache["frames"][rows]))
        sound = torch.from_numpy(np.asarray(self.cache["audio"][self.audio_rows[index.numpy()]]))
        return Batch(
            {"audio": sound.unsqueeze(1), "visual": visual if seeds else images.plain_resize(visual, self.size)},
            torch.from_numpy(self.label_rows[index.numpy()]),
            index,
        )

    def augment(self, batch: Batch, seeds: Sequence[int]) -> Batch:
        """A random resized crop and flip, drawn for each frame on its own, as the reference code does."""
        boxes = images.crop_boxes(self._draws(seeds)[..., 1:], HEIGHT, WIDTH)
        batch.inputs["visual"] = images.crop_and_flip(batch.inputs["visual"], boxes, self.size)
        return batch

    def _draws(self, seeds: Sequence[int]) -> Tensor:
        """(B, T, 24) in [0, 1): one stream per sample, so neither its batch nor its worker matters."""
        return torch.stack(
            [torch.rand(self.picks, 1 + images.DRAWS, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        )

    # ---- preparing
    @classmethod
    def download(cls, base: str | None = None, progress: Progress | None = None) -> str:
        """The two split lists. The media come by git lfs, 3 GB: that is left to people."""
        download_lists(raw_folder("crema_d") / "splits", base, progress)
        return "" if cls.raw_available() else cls.how_to_get

    @classmethod
    def storage(cls, options: CremaDOptions) -> dict[str, Any]:
        preset = PRESETS[options.preset]
        return {
            "dataset": "crema_d",
            "version": 1,
            "preset": options.preset,
            "audio": dict(preset.parameters),
            "height": HEIGHT,
            "width": WIDTH,
            "frames_per_second": preset.frames_per_second,
            "frame_rule": "fps_blocks",
        }

    @classmethod
    def scan(cls, options: CremaDOptions) -> Plan:
        raw, preset = raw_folder("crema_d"), PRESETS[options.preset]
        wavs, flvs = find_clips(raw / "AudioWAV", ".wav"), find_clips(raw / "VideoFlash", ".flv")
        splits, _ = read_splits(options.split, options.fold, raw / "splits", not options.allow_unpinned)
        wanted = {name for rows in splits.values() for name, _ in rows}
        missing = [
            raw / "VideoFlash" / f"{name}.flv" if name in wavs else raw / "AudioWAV" / f"{name}.wav"
            for name in sorted(wanted)
            if name not in wavs or name not in flvs
        ]
        refuse_missing(
            missing,
            len(wanted),
            options.max_missing,
            f"put them there, or go on without them by max_missing={len(missing)}",
        )
        clips = sorted(wavs.keys() & flvs.keys())
        for name in clips:
            refuse_pointer(raw / "AudioWAV" / f"{name}.wav", AudioDecodeError)
            refuse_pointer(raw / "VideoFlash" / f"{name}.flv", VideoDecodeError)
        seconds = [wavs[name] / 32_000 for name in clips]
        columns = {
            "audio": Column("<f4", preset.shape, len(clips)),
            "frames": Column(
                "|u1", (HEIGHT, WIDTH, 3), sum(math.ceil(1.04 * preset.frames_per_second * s) for s in seconds)
            ),
        }

        def decode(piece: Piece) -> Decoded:
            path = raw / "AudioWAV" / f"{piece.key}.wav"
            recording = audio.read_audio(path)
            try:
                spectrogram = preset.spectrogram(recording)
            except EmptyMediaError as error:
                raise EmptyMediaError(f"{path}: {error}") from error
            frames = read_frames(raw / "VideoFlash" / f"{piece.key}.flv", preset.frames_per_second, HEIGHT, WIDTH)
            return Decoded(
                {"audio": spectrogram[None].numpy(), "frames": frames.pixels}, recording.notes + frames.notes
            )

        return Plan([Piece(name, f"{wavs[name]} {flvs[name]}") for name in clips], columns, decode)

    @classmethod
    def prepare(cls, progress: bool = True, **args: Any) -> Path:
        """As every dataset's; the split lists are kept beside the prepared set, so that it is enough by itself."""
        options = cls.options(args)
        folder = super().prepare(progress, **args)
        if cls.raw_available():
            copy_lists(options.split, raw_folder("crema_d") / "splits", cache_folder("crema_d") / "splits")
        return folder

    @classmethod
    def ready(cls, **args: Any) -> bool:
        names = LISTS[cls.options(args).split]
        return super().ready(**args) and all((cache_folder("crema_d") / "splits" / name).is_file() for name in names)

    @classmethod
    def lists_digest(cls, options: CremaDOptions) -> str:
        paths = [cache_folder("crema_d") / "splits" / name for name in LISTS[options.split]]
        return canonical([sha256(path) if path.is_file() else "" for path in paths])

    @classmethod
    def split(cls, options: CremaDOptions, cache: Cache) -> DataModule:
        listed, notes = read_splits(
            options.split, options.fold, cache_folder("crema_d") / "splits", not options.allow_unpinned
        )
        have = set(cache.keys)
        missing = sorted(name for rows in listed.values() for name, _ in rows if name not in have)
        refuse_missing(
            missing,
            sum(map(len, listed.values())),
            options.max_missing,
            f"prepare again when their files are there, or go on without them by max_missing={len(missing)}",
        )
        found = {part: [row for row in rows if row[0] in have] for part, rows in listed.items()}
        parts = {}
        for part, rows in found.items():
            if not rows:
                raise MissingMediaError(
                    f"crema_d: not one of the {len(listed[part])} clips of {part} "
                    f"(split={options.split}) is prepared; prepare again when some are there"
                )
            odd = notes + Counter(
                missing=len(listed[part]) - len(rows), classes_absent=len(CLASSES) - len({label for _, label in rows})
            )
            if part != "train":
                odd["actors_also_in_train"] = len(actors(rows) & actors(found["train"]))
            parts[part] = cls(options, cache, rows, len(listed[part]), odd)
        return DataModule(**parts)


def find_clips(folder: Path, suffix: str) -> dict[str, int]:
    """Clip -> size in bytes. Raises ManifestError for a file whose name does not parse."""
    found = {path.stem: path.stat().st_size for path in folder.glob(f"*{suffix}")}
    for name in sorted(found):
        label_of(name, folder)
    return found
