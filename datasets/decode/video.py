"""Video: which frames are taken from a file that may be damaged, and which of those a sample sees."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from datasets.core.checks import refuse_pointer
from datasets.core.errors import DataError, VideoDecodeError
from datasets.core.lazy import torch
from datasets.decode import image_files


@dataclass(frozen=True)
class Frames:
    """``pixels`` (n, height, width, 3) uint8 RGB, their numbers in the video from 0, and counts of what was odd."""

    pixels: np.ndarray
    numbers: tuple[int, ...]
    notes: Counter[str] = field(default_factory=Counter)


def fps_blocks(number: int, fps: float, k: int) -> bool:
    """Whether frame ``number`` is one of the k that OGM-GE's extraction takes from each block of int(fps) frames.

    int() is theirs: at 29.97 a block has 29 frames, so positions drift by 3 % and "one frame per second" gives up to
    one frame more than the clip has seconds.
    """
    place, step = number % int(fps), int(fps) // k
    return place % step == 0 and place < step * k


def read_frames(path: Path, k: int, height: int, width: int) -> Frames:
    """The ``fps_blocks`` frames of a video, brought to one size if they have another (note ``video_resized``).

    The video stream is chosen by its type, not its number. A damaged frame is replaced by the next that can be read; a
    video with damaged, lost or missing frames is noted as ``video_partial``.

    Args:
        path: The video.
        k: Frames per second.
        height: Of the frames, in pixels.
        width: Of the frames, in pixels.

    Raises:
        VideoDecodeError: There is no video stream, no frame, no frame rate, or fewer than k frames a second.
    """
    pixels, numbers, notes = [], [], Counter[str]()
    for number, frame in blocks(path, k, notes):
        if (frame.height, frame.width) != (height, width):
            notes["video_resized"] = 1
        pixels.append(frame.to_ndarray(format="rgb24", height=height, width=width))
        numbers.append(number)
    return Frames(np.stack(pixels), tuple(numbers), notes)


def blocks(
    path: Path, k: int, notes: Counter[str], start: float = 0.0, end: float = float("inf")
) -> Iterator[tuple[int, VideoFrame]]:
    """(number, frame) of the ``fps_blocks`` frames between two times in seconds, numbers and blocks from ``start``.

    See ``read_frames``, whose notes and errors these are. Frames before ``start`` are decoded and dropped:
    seeking would only find the frame that is meant where the file's index is sound.
    """
    owed, found = False, False
    for fps, place, frame in _numbered(path, k, notes):
        number = place - math.ceil(start * fps)
        if place >= end * fps:
            break
        if number < 0:
            continue
        owed = owed or fps_blocks(number, fps, k)
        if frame is not None and owed:
            yield number, frame
            owed, found = False, True
    if not found:
        part = f" from {start:g} s on" if start else ""
        raise VideoDecodeError(f"{path}: no frame can be read{part}; get the file again")


def read_jpegs(path: Path, rule: str, k: int) -> tuple[list[bytes], Counter[str]]:
    """Frames of a video at their own size, as JPEG, and notes as in ``read_frames``, whose errors it raises too.

    ``fps_blocks``: k of each second, see there. ``time_centres``: k frames, at 0.5 s, 1.5 s, ...; one behind the end is
    looked for in the last second, at its number modulo the frames of a second (as OGM-GE's first script wraps).
    ``every``: all of them.
    """
    notes: Counter[str] = Counter()
    jpegs: list[bytes] = []
    fps, count, owed = 0.0, 0, False
    waiting = list(range(k)) if rule == "time_centres" else []
    tail: deque[tuple[int, VideoFrame]] = deque()
    for fps, number, frame in _numbered(path, k if rule == "fps_blocks" else 1, notes):
        count = number + 1
        if rule == "fps_blocks":
            owed = owed or fps_blocks(number, fps, k)
        if frame is None:
            continue
        due = sum(number >= int((i + 0.5) * fps) for i in waiting)
        taken = due if rule == "time_centres" else int(owed or rule == "every")
        if taken:
            jpegs += [image_files.encode(frame.to_ndarray(format="rgb24"))] * taken
            owed, waiting = False, waiting[due:]
        if waiting:
            tail.append((number, frame))
            if len(tail) > int(fps):
                tail.popleft()
    for i in waiting if tail else []:
        second = min(int(fps), count)
        number = count - second + int((i + 0.5) * fps) % second
        near = next((f for n, f in tail if n >= number), tail[-1][1])
        jpegs.append(image_files.encode(near.to_ndarray(format="rgb24")))
    if not jpegs:
        raise VideoDecodeError(f"{path}: no frame can be read; get the file again")
    return jpegs, notes


def open_container(path: Path, kind: type[DataError]) -> av.container.InputContainer:
    """Raises ``kind`` for an empty file, a git-lfs pointer, and what ffmpeg cannot open."""
    refuse_pointer(path, kind)
    try:
        # "file:" and the whitelist: a name or a damaged file can never make ffmpeg open anything else
        return av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        raise kind(f"{path}: not a readable video ({error.strerror}); get the file again") from error


def stream_facts(path: Path) -> str:
    """One line on what is in a media file: codecs, size, rate, duration. Raises VideoDecodeError."""
    with open_container(path, VideoDecodeError) as container:
        parts = [f"{(container.duration or 0) / 1e6:.2f} s"]
        for one in container.streams.video:
            parts.append(f"{one.codec_context.name} {one.width}x{one.height} at {float(one.average_rate or 0):.2f}")
        parts += [f"{one.codec_context.name} {one.rate} Hz, {one.channels} channels" for one in container.streams.audio]
    return f"{path.name}: {'; '.join(parts)}"


def _numbered(path: Path, least: int, notes: Counter[str]) -> Iterator[tuple[float, int, VideoFrame | None]]:
    """(frames a second, number from 0, frame) in order, None for a frame that is damaged; notes ``video_partial``."""
    with open_container(path, VideoDecodeError) as container:
        if not container.streams.video:
            raise VideoDecodeError(f"{path}: no video stream in it; get the file again")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise VideoDecodeError(f"{path}: no known codec; get the file again")
        stream.codec_context.thread_count = 1  # many videos at once beat many threads on one
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        if not 0 < fps < float("inf") or int(fps) < least:
            raise VideoDecodeError(f"{path}: {fps:g} frames a second, at least {least} are needed; get the file again")
        last, partial = None, False
        for number, frame in enumerate(_frames(container, stream)):
            if frame is None or frame.is_corrupt:
                partial = True
                yield fps, number, None
                continue
            if last is not None and frame.time is not None and frame.time - last > 1.9 / fps:
                partial = True  # the demuxer skipped what it could not parse
            last = frame.time
            yield fps, number, frame
        if partial or (last is not None and container.duration and last < 0.9 * container.duration / 1e6 - 1 / fps):
            notes["video_partial"] = 1


def _frames(container: av.container.InputContainer, stream: VideoStream) -> Iterator[VideoFrame | None]:
    """Every frame in order; None for one that is there and cannot be decoded."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:  # nothing behind this can be read
            yield None
            return
        if packet is None:
            return
        try:
            yield from packet.decode()
        except av.error.FFmpegError:
            yield None


def segments(count: torch.Tensor, picks: int, draw: torch.Tensor | None = None) -> torch.Tensor:
    """(B,) numbers of stored frames -> (B, picks) which of them a sample sees, in order.

    The frames are cut into ``picks`` segments of equal length; one is taken from each: with ``draw`` (B, picks) in
    [0, 1) at random, without it the middle one. Where there are fewer frames than picks, frames repeat.
    """
    n, i = count[:, None], torch.arange(picks)
    length = n // picks
    inside = length // 2 if draw is None else (draw * length).long()
    return torch.where(length > 0, i * length + inside, i * n // picks)


def thirds_first(count: torch.Tensor, picks: int, draw: torch.Tensor | None = None) -> torch.Tensor:
    """As ``segments``, but always the first of each segment: frames 1, 4, 7 of 10 (OGM-GE's loader, in both modes)."""
    n, i = count[:, None], torch.arange(picks)
    return torch.where(n >= picks, i * (n // picks), i * n // picks)


def first(count: torch.Tensor, picks: int, draw: torch.Tensor | None = None) -> torch.Tensor:
    """The first frames of a clip, in both modes; where there are too few, frames repeat as in ``segments``."""
    n, i = count[:, None], torch.arange(picks)
    return torch.where(n >= picks, i, i * n // picks)


def bb_ks(count: torch.Tensor, picks: int, draw: torch.Tensor | None = None) -> torch.Tensor:
    """BalanceBenchmark's choice: one frame three times where there are at most six; no frame behind the ninth is drawn.

    Their numbers start at 1: the evaluation takes i s + max(s // 2, 1), training one of i s + 1 ... i s + s.
    """
    n, i = count[:, None], torch.arange(picks)
    s = n // picks
    number = i * s + (s // 2).clamp(min=1) if draw is None else (i * s + 1 + (draw * s).long()).clamp(max=9)
    return torch.where(n > 6, number - 1, 0)
