"""VGGSound: 309 classes of sounds whose source can be seen, ten-second clips of YouTube videos.

Presets: ``paper`` (16 kHz, repeated to 10 s, of which five seconds are seen, at random in training and from the middle
in evaluation; STFT 256/128 -> (129, 626); three of about one frame a second; clips of three frames or fewer are not
used) and ``bb`` as BalanceBenchmark (filterbanks 1024 x 128 and its choice of frames). For ``paper`` the ten seconds
are stored as 16-bit samples, as in a wav made by the authors' script, and the spectrogram is made with the sample.

Where ``paper`` differs from the released OGM-GE code. That takes the first three frames that ``os.listdir`` names,
which depends on the file system (here one of each third; ``dataset_args.pick=first`` takes the first three in time),
draws the five seconds in evaluation too, and has ffmpeg resample to 16 kHz (here the filter of librosa's default does).

The authors' own test part is left alone. Validation is carved from train: of each class the first 5 % (at least 10) by
sha256 of ``ID_START``, with all other clips of their videos. The media have no official archive any more: how many
clips survive differs from copy to copy, so ``found`` of ``listed`` and the fingerprint belong to every number.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from datasets.cards import CARDS
from datasets.class_lists import VGGSOUND_CLASSES
from datasets.core.errors import ManifestError
from datasets.core.split_lists import Blob, collect, records, refuse_leaks
from datasets.decode import audio
from datasets.decode.video import bb_ks
from datasets.storage.clip_dataset import ListFile, Media, MediaOptions, Rows, carve
from datasets.storage.clip_files import FBANK, TEN_SECONDS, Preset, Shelf, Sound, ten_seconds
from ogm.context import fold_in

_LIST = "https://raw.githubusercontent.com/hche11/VGGSound/9bbc7491c054a203e53584c0065df336e1322bb7/data/vggsound.csv"
WINDOW, LATEST = 80_000, 80_000  # samples that are seen, and the last one they may start at
VIDEO_ID = re.compile(r"[\w-]{11}", re.ASCII)


def _samples(recording: audio.Recording) -> Tensor:
    return (ten_seconds(recording) * 32768).round().clamp(-32768, 32767).to(torch.int16)


WAVE = Sound(_samples, (160_000,), {"operator": "stft_log", **TEN_SECONDS, "stored": "16-bit samples", "window_samples":
             WINDOW, "start": "0 to 80000 in training, 40000 in evaluation", "n_fft": 256, "hop": 128,
             "window": "hann, periodic", "padding": "zeros, centred", "log": "ln(|S| + 1e-7)"}, "<i2")  # fmt: skip


class VGGSoundOptions(MediaOptions):
    preset: Literal["paper", "bb"] = "paper"


class VGGSound(Media):
    """See the module. Samples: audio (1, 129, 626) or (1, 1024, 128), visual (3, 3, image_size, image_size)."""

    name = "vggsound"
    modalities = ("audio", "visual")
    classes = VGGSOUND_CLASSES
    Options = VGGSoundOptions
    how_to_get: ClassVar[str] = CARDS["vggsound"].how_to_get
    presets: ClassVar = {"paper": Preset(WAVE, least=4), "bb": Preset(FBANK, pick=bb_ks, least=4)}
    list_files = (
        # the authors' file, and the copy in OGM-GE's repository; their sha256 was never seen
        ListFile("vggsound.csv", _LIST, Blob(
            ("53da0dc492b8a3fadf770f0f175cef1e652c0447", "dbcbf5b74781d564a456af5587cd85227a4517aa"), 20_000_000)),
    )  # fmt: skip
    published = (
        "the authors: 199176 clips, train 183730, test 15446 (of 14851 videos); a log elsewhere says 199467 rows",
        "found by others: train 180911, test 14843 (2023); 197957 pairs in a hosted copy",
    )

    @classmethod
    def read_splits(cls, options: VGGSoundOptions, folder: Path) -> tuple[dict[str, Rows], Counter[str]]:
        path = folder / "vggsound.csv"
        text, notes = cls.read_list(options, folder, path.name)
        found, odd = parse(text, path)
        train, val = carve(found["train"], 5, 10, plain_name, cls.group)
        parts = {"train": train, "val": val, "test": found["test"]}
        refuse_leaks(parts)
        return parts, notes + odd

    @classmethod
    def find(cls, raw: Path, clips: Sequence[str]) -> dict[str, dict[str, Path]]:
        shelf = Shelf(raw, ("train", "test", ""))
        return {clip: files for clip in clips if (files := shelf.find(clip, plain_name(clip)))}

    @classmethod
    def group(cls, sample: str) -> str:
        return sample[:11]

    def sound(self, index: Tensor, seeds: Sequence[int]) -> Tensor:
        if self.preset.sound is not WAVE:
            return super().sound(index, seeds)
        starts = [window_start(seed) for seed in seeds] or [LATEST // 2] * len(index)
        rows = self.audio_rows[index.numpy()]
        seen = [np.array(self.cache["audio"][r, s : s + WINDOW]) for r, s in zip(rows, starts, strict=True)]
        return torch.stack([spectrogram(torch.from_numpy(x)) for x in seen]).unsqueeze(1)


def window_start(seed: int) -> int:
    """Where the five seconds of a training sample begin: any of 0 ... 80,000, drawn from its seed."""
    draw = torch.rand((), generator=torch.Generator().manual_seed(fold_in(seed, "window")), dtype=torch.float64)
    return int(draw * (LATEST + 1))


def spectrogram(samples: Tensor) -> Tensor:
    """(80000,) int16 -> (129, 626)."""
    return audio.stft_log((samples.float() / 32768).clamp(-1, 1), 256, 128)


def plain_name(clip: str) -> str:
    """``ID_START`` with START as the list has it, without zeros in front."""
    return f"{clip[:11]}_{int(clip[12:])}"


def parse(text: str, path: Path) -> tuple[dict[str, Rows], Counter[str]]:
    """Rows ``youtube id,start,label,split`` -> split -> rows called ID_SSSSSS. Raises ManifestError, LabelError."""
    named: dict[str, list[tuple[int, str, str]]] = {"train": [], "test": []}
    notes: Counter[str] = Counter()
    for number, (line, (video, start, label, split, *more)) in enumerate(records(text, path, "id,start,label,split")):
        if not number and not start.isdecimal() and label not in VGGSOUND_CLASSES:
            continue  # a header
        if not VIDEO_ID.fullmatch(video) or not start.isdecimal():
            raise ManifestError(
                f"{path}, line {line}: {video!r} from {start!r} s is no YouTube id with a start in seconds"
            )
        if split not in named:
            raise ManifestError(f"{path}, line {line}: {split!r} is neither train nor test")
        named[split].append((line, f"{video}_{int(start):06d}", label))
        notes["list_extra_columns"] += bool(more)
    parts = {}
    for split, rows in named.items():
        parts[split], odd = collect(rows, path, VGGSOUND_CLASSES)
        notes += odd
    return parts, +notes
