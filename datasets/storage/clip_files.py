"""The files of one clip, and what is kept of them: which lie where, sound as a network sees it, pictures as JPEG."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.core.errors import EmptyMediaError
from datasets.core.lazy import torch
from datasets.decode import audio, image_files, image_transforms
from datasets.decode.video import read_jpegs, segments
from datasets.storage.cache import Cache, Column

VIDEO = (".mp4", ".webm", ".mkv", ".avi", ".flv")
SOUND = (".wav", ".flac", ".ogg", ".mp3", ".m4a", ".opus")
JPEG_BYTES = 40_000  # of a frame, roughly: only used to ask for disk space


@dataclass(frozen=True)
class Sound:
    """How a recording becomes the row that is stored, the row's type and shape, and every parameter of it."""

    make: Callable[[audio.Recording], torch.Tensor]
    shape: tuple[int, ...]
    parameters: Mapping[str, Any]
    dtype: str = "<f4"


@dataclass(frozen=True)
class Preset:
    """Sound; which frames are stored (``rule``, ``k``), and which ``picks`` of them a sample sees (``pick``)."""

    sound: Sound | None
    rule: str = "fps_blocks"  # see video.read_jpegs
    k: int = 1
    picks: int = 3
    pick: Callable[[torch.Tensor, int, torch.Tensor | None], torch.Tensor] = segments
    least: int = 1  # a clip with fewer frames cannot be used
    expected: int = 11  # frames of a clip, roughly

    def parameters(self) -> dict[str, Any]:
        """Everything about it that decides the stored bytes, as JSON."""
        return {
            "audio": dict(self.sound.parameters) if self.sound else None,
            "frames": {"rule": self.rule, "k": self.k, "jpeg": image_files.QUALITY},
        }


def ten_seconds(recording: audio.Recording) -> torch.Tensor:
    """(160000,): ten seconds at 16 kHz, repeated where there is less."""
    return audio.tile(audio.mono_at(recording, 16_000), 160_000)


def _psd(recording: audio.Recording) -> torch.Tensor:
    return audio.psd_log(ten_seconds(recording).clamp(-1, 1), 16_000)


# fmt: off
TEN_SECONDS = {"rate": 16_000, "channels": "mean", "resampler": audio.RESAMPLER, "repeated_to": 160_000}
PSD = Sound(_psd, (257, 1004), {
    "operator": "psd_log", **TEN_SECONDS, "n_fft": 512, "hop": 159, "window": "tukey 0.25, periodic", "padding": "none",
    "log": "ln(P + 1e-7), standardised per clip"})
FBANK = Sound(lambda recording: audio.kaldi_fbank(recording.samples, recording.rate), (1024, 128), {
    "operator": "kaldi_fbank", "rate": "as recorded", "channels": "first", "bins": 128, "frames": 1024,
    "window": "hanning 25 ms, shift 10 ms", "padding": "zeros after the logarithm", "mean": -4.503877,
    "std": 2 * 5.141276})
# fmt: on


class Jpegs:
    """Clips' pictures in two columns: ``NAME``, all bytes in a row, and ``NAME_size``, one number per picture."""

    def __init__(self, cache: Cache, name: str, keys: Sequence[str]) -> None:
        self.cache, self.name = cache, name
        sizes = [cache.rows(f"{name}_size", key) for key in keys]
        self.start = np.array([cache.rows(name, key).start for key in keys], dtype=np.int64)
        self.first = np.array([r.start for r in sizes], dtype=np.int64)
        self.count = np.array([len(r) for r in sizes], dtype=np.int64)

    def read(self, i: int, chosen: Sequence[int]) -> list[bytes]:
        """Pictures ``chosen`` of clip i."""
        sizes = self.cache[f"{self.name}_size"][self.first[i] : self.first[i] + int(self.count[i])]
        ends = self.start[i] + np.cumsum(sizes, dtype=np.int64)
        return [self.cache[self.name][ends[c] - sizes[c] : ends[c]].tobytes() for c in chosen]

    @staticmethod
    def columns(name: str, expected: int, each: int = JPEG_BYTES) -> dict[str, Column]:
        """The two columns of about ``expected`` pictures of about ``each`` bytes."""
        return {name: Column("|u1", (), expected * each), f"{name}_size": Column("<u4", (), expected)}

    @staticmethod
    def rows(name: str, jpegs: Sequence[bytes]) -> dict[str, np.ndarray]:
        """The rows of one clip's pictures in the two columns."""
        return {
            name: np.frombuffer(b"".join(jpegs), np.uint8),
            f"{name}_size": np.array([len(jpeg) for jpeg in jpegs], np.uint32),
        }


def boxes_of(draws: torch.Tensor, jpeg: bytes) -> list[image_files.Box]:
    """(T, 23) numbers in [0, 1) -> T parts of a picture as large as this one."""
    top, left, h, w, _ = image_transforms.crop_boxes(draws, *image_files.size(jpeg)).unbind(-1)
    return [tuple(box) for box in torch.stack([left, top, left + w, top + h], -1).tolist()]


class RawFiles:
    """What lies in a raw folder, by stem: videos in ``parts``, recordings in audio/, folders of frames in frames/.

    ``parts`` are folders below the raw one ("" is itself). What somebody has extracted already is preferred to the
    video: audio/[PART/]STEM.wav, frames/[PART/][Image-01-FPS/]STEM/ (also STEM.mp4/).
    """

    def __init__(self, raw: Path, parts: Sequence[str]) -> None:
        self.videos = self._files([raw / part for part in parts], VIDEO)
        self.sounds = self._files([raw / "audio" / part for part in ("", *parts)], SOUND)
        self.frames: dict[str, Path] = {}
        for part in dict.fromkeys(("", *parts)):
            for folder in (raw / "frames" / part / "Image-01-FPS", raw / "frames" / part):
                for path in _entries(folder):
                    if path.is_dir():
                        self.frames.setdefault(path.name.removesuffix(".mp4"), path)

    @staticmethod
    def _files(folders: Sequence[Path], suffixes: tuple[str, ...]) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for folder in dict.fromkeys(folders):
            for path in _entries(folder):
                if path.suffix.lower() in suffixes:
                    found.setdefault(path.stem, path)
        return found

    def find(self, *stems: str) -> dict[str, Path] | None:
        """The sound and the pictures of one clip, whose files may be called any of ``stems``."""
        found: dict[str, Path] = {}
        for stem in stems:
            for modality, extracted in (("audio", self.sounds), ("visual", self.frames)):
                if path := extracted.get(stem) or self.videos.get(stem):
                    found.setdefault(modality, path)
        return found if len(found) == 2 else None


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def read_sound(path: Path, sound: Sound, notes: Counter[str]) -> np.ndarray:
    """(1, *shape): what ``sound`` makes of a recording, or of a video's sound. Raises DataError with the path in it."""
    recording = (audio.read_audio if path.suffix.lower() in (".wav", ".flac", ".ogg") else audio.read_track)(path)
    notes.update(recording.notes)
    try:
        return sound.make(recording)[None].numpy()
    except EmptyMediaError as error:
        raise EmptyMediaError(f"{path}: {error}; get the file again") from error


def read_pictures(path: Path, preset: Preset, notes: Counter[str]) -> list[bytes]:
    """The frames of a video by the preset's rule, or all pictures of a folder that somebody made of it."""
    if path.is_dir():
        jpegs, odd = image_files.read_folder(path)
        notes["frames_as_found"] += 1
    else:
        jpegs, odd = read_jpegs(path, preset.rule, preset.k)
    notes.update(odd)
    return jpegs
