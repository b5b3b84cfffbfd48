"""The files that a user's CSV names: how they may be prepared, and how one cell becomes the rows that are stored."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from datasets.core.errors import EmptyMediaError, ManifestError, VideoDecodeError
from datasets.core.grouped_splits import FoldOptions
from datasets.core.manifest_file import Listing, Sample
from datasets.decode import audio, image_files, image_transforms, text
from datasets.decode.arrays import array_shape, read_array
from datasets.decode.video import blocks
from datasets.storage.cache import Column
from datasets.storage.prepared import Options

PICTURE_KINDS, ARRAY_KINDS = ("video", "frames", "image"), ("npy", "npz")
# What encodes a column by default; arrays are features, or sequences of them.
ENCODERS = dict.fromkeys(("audio", *PICTURE_KINDS), "cnn") | dict.fromkeys(ARRAY_KINDS, "mlp") | {"text": "text_cnn"}


class ManifestOptions(Options, FoldOptions):
    """The arguments of ``manifest``: where the CSV is, how its files are prepared, and which split it is."""

    path: str = ""
    root: str = ""
    classes: int | None = Field(None, ge=2)  # labels are the numbers below it
    allow_missing: bool = False
    sound: Literal["stft_log", "psd_log", "kaldi_fbank"] = "stft_log"
    seconds: float = Field(3.0, ge=0.1, le=600, strict=False)
    frames_per_second: int = Field(1, ge=1)
    picks: int = Field(1, ge=1)  # frames of a video that a sample sees
    image_size: int = Field(112, ge=8)
    length: int = Field(0, ge=0)  # of arrays along their first axis; 0: they have one shape
    text_bytes: int = Field(256, ge=1, le=65_536)  # of a text, of which the rest is cut off
    augment: Literal["batched", "parity", "none"] = "batched"


# fmt: off
SOUNDS: dict[str, dict[str, Any]] = {
    "stft_log": {"operator": "stft_log", "rate": 22_050, "channels": "mean", "n_fft": 512, "hop": 353,
                 "resampler": audio.RESAMPLER, "window": "hann, periodic",
                 "padding": "zeros, centred", "log": "ln(|S| + 1e-7)"},
    "psd_log": {"operator": "psd_log", "rate": 16_000, "channels": "mean", "n_fft": 512, "hop": 159,
                "resampler": audio.RESAMPLER, "window": "tukey 0.25, periodic",
                "padding": "none", "log": "ln(P + 1e-7), standardised per clip"},
    "kaldi_fbank": {"operator": "kaldi_fbank", "rate": "as recorded", "channels": "first", "bins": 128, "frames": 1024,
                    "window": "hanning 25 ms, shift 10 ms", "padding": "zeros after the logarithm", "mean": -4.503877,
                    "std": 2 * 5.141276},
}
# fmt: on


def sound_shape(sound: str, seconds: float) -> tuple[int, int]:
    """(frequencies, frames) of a spectrogram of this kind; (frames, bins) of ``kaldi_fbank``."""
    if sound == "kaldi_fbank":
        return 1024, 128
    samples = round(seconds * SOUNDS[sound]["rate"])
    return (257, 1 + samples // 353) if sound == "stft_log" else (257, (samples - 512) // 159 + 1)


def stored_size(options: ManifestOptions) -> int:
    """Pictures are kept an eighth larger than samples see them, so that a crop need not enlarge."""
    return math.ceil(options.image_size * 8 / 7)


def decode_cell(
    root: Path, cell: str, kind: str, row: Sample, options: ManifestOptions, shape: Sequence[int], notes: Counter[str]
) -> np.ndarray:
    """(n, *shape): the rows of one cell."""
    if kind == "audio":
        return _spectrogram(root / cell, row, options, notes)[None]
    if kind in ARRAY_KINDS:
        return _array(root, cell, kind, shape, options.length, notes)[None]
    if kind == "text":
        return text.read_text(root / cell, shape[0], notes)[None]
    side = shape[0]
    if kind == "image":
        return image_transforms.read_image(root / cell, side)[None]
    if kind == "frames":
        files, file_notes = image_files.read_folder(root / cell)
        notes.update(file_notes)
        return np.stack([image_files.scaled(file, side) for file in files])
    found = []
    for _, frame in blocks(root / cell, options.frames_per_second, notes, row.start, row.end):
        if frame.width * frame.height > image_files.PIXELS:
            raise VideoDecodeError(f"{root / cell}: frames of {frame.width} x {frame.height}; get the file again")
        whole = Image.fromarray(frame.to_ndarray(format="rgb24"))
        found.append(np.asarray(whole.resize((side, side), Image.Resampling.BILINEAR)))
    return np.stack(found)


def _spectrogram(path: Path, row: Sample, options: ManifestOptions, notes: Counter[str]) -> np.ndarray:
    read = audio.read_audio if path.suffix.lower() in (".wav", ".flac", ".ogg") else audio.read_track
    recording = read(path)
    notes.update(recording.notes)
    part = slice(round(row.start * recording.rate), None if row.end == math.inf else round(row.end * recording.rate))
    recording, kind = replace(recording, samples=recording.samples[:, part]), SOUNDS[options.sound]
    if not recording.samples.shape[1]:
        raise EmptyMediaError(f"{path}: it ends before {row.start:g} s; correct start")
    if options.sound == "kaldi_fbank":
        return audio.kaldi_fbank(recording.samples, recording.rate).numpy()
    x = audio.tile(audio.mono_at(recording, kind["rate"]), round(options.seconds * kind["rate"])).clamp(-1, 1)
    spectrogram = (
        audio.stft_log(x, kind["n_fft"], kind["hop"]) if options.sound == "stft_log" else audio.psd_log(x, kind["rate"])
    )
    return spectrogram.numpy()


def _array(root: Path, cell: str, kind: str, shape: Sequence[int], length: int, notes: Counter[str]) -> np.ndarray:
    path, _, member = cell.partition("#") if kind == "npz" else (cell, "", "")
    values, file_notes = read_array(root / path, member)
    notes.update(file_notes)
    values = values[None] if values.ndim == 1 else values
    if length:
        notes["arrays_cut"] += len(values) > length
        values = np.concatenate([values[:length], np.zeros((max(length - len(values), 0), *values.shape[1:]), "f4")])
    if values.shape != tuple(shape):
        raise ManifestError(f"{root / cell}: {values.shape}, not {tuple(shape)}; was the file changed? prepare again")
    return values


def column(path: Path, root: Path, listing: Listing, options: ManifestOptions, modality: str) -> Column:
    """The array of a modality in the prepared set. That of array files asks every one of them for its shape."""
    kind, rows = listing.kinds[modality], [row for row in listing.samples if row.files[modality]]
    if kind == "audio":
        return Column("<f4", sound_shape(options.sound, options.seconds), len(rows))
    if kind in PICTURE_KINDS:
        return Column("|u1", (stored_size(options), stored_size(options), 3), len(rows))
    if kind == "text":
        return Column("|u1", (options.text_bytes,), len(rows))
    return Column("<f4", common_shape(path, root, rows, modality, kind, options.length), len(rows))


def common_shape(
    csv: Path, root: Path, rows: Sequence[Sample], modality: str, kind: str, length: int
) -> tuple[int, ...]:
    """The shape that all arrays of a modality have, from their headers alone."""
    shapes: dict[tuple[int, ...], Sample] = {}
    for row in rows:
        path, _, member = row.files[modality].partition("#") if kind == "npz" else (row.files[modality], "", "")
        try:
            shape = array_shape(root / path, member)
        except ManifestError as error:
            raise ManifestError(f"{csv}, line {row.line}, column {modality}:{kind}: {error}") from error
        shape = shape if len(shape) > 1 else (1, *shape)
        shapes.setdefault((length, *shape[1:]) if length else shape, row)
    if len(shapes) > 1:
        (a, one), (b, two) = list(shapes.items())[:2]
        advice = "" if length or a[1:] != b[1:] else ", or say length=N to cut and pad the first axis"
        raise ManifestError(f"{csv}, column {modality}:{kind}: line {one.line} is {a}, line {two.line} is {b}{advice}")
    return next(iter(shapes))
