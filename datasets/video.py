"""Video: which frames are taken from a file that may be damaged, and which of those a sample sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from torch import Tensor

from datasets.errors import VideoDecodeError
from datasets.files import refuse_pointer


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
    video with damaged, lost or missing frames is noted as ``video_partial``. Raises VideoDecodeError where there is no
    video stream, no frame, no frame rate, or fewer than k frames a second.
    """
    refuse_pointer(path, VideoDecodeError)
    try:
        # "file:" and the whitelist: a name or a damaged file can never make ffmpeg open anything else
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        raise VideoDecodeError(f"{path}: not a readable video ({error.strerror}); get the file again") from error
    with container:
        if not container.streams.video:
            raise VideoDecodeError(f"{path}: no video stream in it; get the file again")
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # many videos at once beat many threads on one
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        if not 0 < fps < float("inf") or int(fps) < k:
            raise VideoDecodeError(f"{path}: {fps:g} frames a second, at least {k} are needed; get the file again")
        pixels, numbers, notes = [], [], Counter[str]()
        owed, last, partial = False, None, False
        for number, frame in enumerate(_frames(container, stream)):
            owed = owed or fps_blocks(number, fps, k)
            if frame is None or frame.is_corrupt:
                partial = True
                continue
            if last is not None and frame.time is not None and frame.time - last > 1.9 / fps:
                partial = True  # the demuxer skipped what it could not parse
            last = frame.time
            if owed:
                if (frame.height, frame.width) != (height, width):
                    notes["video_resized"] = 1
                pixels.append(frame.to_ndarray(format="rgb24", height=height, width=width))
                numbers.append(number)
                owed = False
        if not pixels:
            raise VideoDecodeError(f"{path}: no frame can be read; get the file again")
        if partial or (last is not None and container.duration and last < 0.9 * container.duration / 1e6 - 1 / fps):
            notes["video_partial"] = 1
        return Frames(np.stack(pixels), tuple(numbers), notes)


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


def segments(count: Tensor, picks: int, draw: Tensor | None = None) -> Tensor:
    """(B,) numbers of stored frames -> (B, picks) which of them a sample sees, in order.

    The frames are cut into ``picks`` segments of equal length; one is taken from each: with ``draw`` (B, picks) in
    [0, 1) at random, without it the middle one. Where there are fewer frames than picks, frames repeat.
    """
    n, i = count[:, None], torch.arange(picks)
    length = n // picks
    inside = length // 2 if draw is None else (draw * length).long()
    return torch.where(length > 0, i * length + inside, i * n // picks)
