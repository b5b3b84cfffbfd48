"""One clip of GRID: the region of the mouth, the sound, and the pieces of both that become samples.

A clip is 3 s of MPEG-1: 75 frames of 360 x 288 at 25 a second, and 2.978 s of stereo sound at 44.1 kHz.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.core.errors import VideoDecodeError
from datasets.core.lazy import torch
from datasets.decode import audio
from datasets.decode.video import blocks, open_container

FPS, FRAMES = 25, 75
WIDTH, HEIGHT = 360, 288
RATE = 16_000
N_FFT, HOP = 400, 160
UNITS = 25_000  # of the alignments, per second
WORD_FRAMES = 10  # 0.4 s


@dataclass(frozen=True)
class Form:
    """What is kept of a clip.

    Args:
        box: Left, top, right and bottom of the region of the mouth, in pixels of a frame.
        size: Height and width it is brought to.
        step: Every which frame is kept.
        bins: Mel bands of the sound.
        stacked: Whether frames are the channels of one picture; else they stay frames of one channel.
    """

    box: tuple[int, int, int, int]
    size: tuple[int, int]
    step: int
    bins: int
    stacked: bool


@dataclass(frozen=True)
class Piece:
    """A part of a clip that becomes one sample.

    Args:
        name: Of the sample; its noise is drawn from it.
        first_frame: Number of its first frame, which may lie before the clip.
        frames: How many it has.
        first_sample: Number of its first sample of sound, at 16 kHz, which may lie before the clip.
        samples: How many it has.
    """

    name: str
    first_frame: int
    frames: int
    first_sample: int
    samples: int


def whole_clip(name: str) -> Piece:
    """The 3 s of a clip."""
    return Piece(name, 0, FRAMES, 0, FRAMES * RATE // FPS)


def word_piece(name: str, start: int, end: int) -> Piece:
    """The 0.4 s around the centre of a word.

    Args:
        name: Of the sample.
        start: Where the word begins, in units of the alignment.
        end: Where it ends.
    """
    centre = (start + end) / 2 / UNITS
    samples = WORD_FRAMES * RATE // FPS
    first_frame = round(centre * FPS - WORD_FRAMES / 2)
    return Piece(name, first_frame, WORD_FRAMES, round(centre * RATE) - samples // 2, samples)


def shapes(form: Form, piece: Piece) -> dict[str, tuple[int, ...]]:
    """The stored shape of each modality."""
    kept = len(range(0, piece.frames, form.step))
    return {"audio": (form.bins, 1 + piece.samples // HOP), "visual": (kept, *form.size)}


def decode_clip(
    path: Path, pieces: Sequence[Piece], form: Form, noise_db: float | None, notes: Counter[str]
) -> dict[str, np.ndarray]:
    """Decode the samples of one clip.

    Args:
        path: The .mpg.
        pieces: What becomes a sample.
        form: What is kept of it.
        noise_db: Power of the sound of each sample relative to the noise that is added to it; None: no noise.
        notes: Is told what was odd: ``sound_padded`` and ``frames_repeated`` count samples that reach beyond the ends
            of the recording, where sound is zero and the first or last frame is shown again.

    Returns:
        ``audio`` (n, bins, T) float32, log-mel with mean 0 and standard deviation 1 in each sample; ``visual``
        (n, frames, H, W) uint8; and ``grey`` (n, 2) float32, mean and standard deviation of each sample's visual.

    Raises:
        DataError: The file is damaged beyond use, or is no video with sound of 25 frames a second.
    """
    frames = mouth_frames(path, form, notes)
    recording = audio.read_track(path)
    notes.update(recording.notes)
    x = audio.mono_at(recording, RATE)
    sounds, pictures = [], []
    for piece in pieces:
        numbers = np.arange(piece.first_frame, piece.first_frame + piece.frames, form.step)
        notes["frames_repeated"] += bool((numbers < 0).any() or (numbers >= len(frames)).any())
        pictures.append(frames[numbers.clip(0, len(frames) - 1)])
        sound, padded = cut_sound(x, piece.first_sample, piece.samples)
        notes["sound_padded"] += padded > 0
        if noise_db is not None:
            sound = add_noise(sound, noise_db, piece.name, piece.samples - padded)
        sounds.append(audio.log_mel(sound, RATE, N_FFT, HOP, form.bins).numpy())
    sound_rows, picture_rows = np.stack(sounds), np.stack(pictures)
    mean, std = _mean_and_std(sound_rows)
    grey = np.concatenate(_mean_and_std(picture_rows), 1)
    return {
        "audio": (sound_rows - mean[..., None]) / std[..., None],
        "visual": picture_rows,
        "grey": grey,
    }


def _mean_and_std(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each row, (n, 1) each; 1e-3 is added to the latter, for rows that do not vary."""
    rows = x.reshape(len(x), -1).astype(np.float64)
    return rows.mean(1, keepdims=True), rows.std(1, keepdims=True) + 1e-3


def mouth_frames(path: Path, form: Form, notes: Counter[str]) -> np.ndarray:
    """The region of the mouth in every frame of the first 3 s, in grey.

    Args:
        path: The .mpg.
        form: Which region, and which size it is brought to, by the mean over areas.
        notes: ``video_partial`` where frames are damaged (the next one that can be read is shown instead),
            ``video_resized`` where they are not 360 x 288, ``video_short`` where there are fewer than 75.

    Returns:
        (N, H, W) uint8, N at most 75.

    Raises:
        VideoDecodeError: There is no frame, or there are not 25 a second.
    """
    with open_container(path, VideoDecodeError) as container:
        rates = [float(stream.average_rate or 0) for stream in container.streams.video]
    if rates and rates[0] != FPS:
        raise VideoDecodeError(f"{path}: {rates[0]:g} frames a second, not {FPS}; get the file again")
    left, top, right, bottom = form.box
    crops: list[np.ndarray] = []
    for number, frame in blocks(path, FPS, notes, end=FRAMES / FPS):
        if (frame.width, frame.height) != (WIDTH, HEIGHT):
            notes["video_resized"] = 1
        grey = frame.to_ndarray(format="gray", width=WIDTH, height=HEIGHT)[top:bottom, left:right]
        crops += [grey] * (number + 1 - len(crops))
    notes["video_short"] = int(len(crops) < FRAMES)
    small = torch.nn.functional.interpolate(torch.from_numpy(np.stack(crops))[:, None].float(), form.size, mode="area")
    return small[:, 0].round().to(torch.uint8).numpy()


def cut_sound(x: torch.Tensor, first: int, length: int) -> tuple[torch.Tensor, int]:
    """Cut a part out of a waveform.

    Args:
        x: (N,).
        first: Number of the first sample; may be negative.
        length: How many.

    Returns:
        (length,), and how many of them lie outside of ``x``; those are zero.
    """
    begin = min(max(first, 0), len(x))
    end = max(min(first + length, len(x)), begin)
    before = min(max(-first, 0), length)
    part = torch.nn.functional.pad(x[begin:end], (before, length - before - (end - begin)))
    return part, length - (end - begin)


def add_noise(x: torch.Tensor, noise_db: float, name: str, recorded: int) -> torch.Tensor:
    """Add white Gaussian noise, drawn from the sha256 of a name.

    Args:
        x: (N,) waveform.
        noise_db: Signal-to-noise ratio: the power of the recorded part of ``x`` relative to that of the noise, in dB.
        name: Of the sample: the same name gives the same noise, whatever was prepared before.
        recorded: How many of the N samples were recorded; the others are zero.

    Returns:
        (N,).
    """
    seed = int.from_bytes(hashlib.sha256(f"noise|{name}".encode()).digest()[:8], "big") >> 1
    noise = torch.randn(len(x), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    power = x.double().square().sum() / max(recorded, 1)
    return (x + noise * (power * 10 ** (-noise_db / 10)).sqrt()).to(x.dtype)
