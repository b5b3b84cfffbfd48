"""The tests' own encoder: small recordings and videos in the layout the real datasets have."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile

NTSC = Fraction(30000, 1001)


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def write_wav(path: Path, samples: np.ndarray, rate: int = 16_000, subtype: str = "PCM_16") -> Path:
    """``samples`` (N,) or (N, channels), from -1 to 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype, format="WAV")
    return path


def frame(number: int, width: int = 480, height: int = 360) -> np.ndarray:
    """A picture that tells its number: grey 3 * number + 20, a bright block whose place moves."""
    picture = np.full((height, width, 3), 3 * number % 200 + 20, np.uint8)
    left = 7 * number % (width - 60)
    picture[height // 3 : height // 2, left : left + 60] = 250
    return picture


def write_flv(
    path: Path,
    frames: int = 56,
    *,
    size: tuple[int, int] = (480, 360),
    rate: Fraction = NTSC,
    sound: bool = True,
    video: bool = True,
) -> Path:
    """flv1 video and mp3 mono 44.1 kHz sound in one .flv; the video stream comes after the sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="flv") as container:
        voice = container.add_stream("libmp3lame", rate=44_100, layout="mono") if sound else None
        if video:
            picture = container.add_stream("flv1", rate=rate)
            picture.width, picture.height, picture.pix_fmt = *size, "yuv420p"
            for number in range(frames):
                container.mux(picture.encode(av.VideoFrame.from_ndarray(frame(number, *size), format="rgb24")))
            container.mux(picture.encode())
        if voice:
            samples = tone(float(frames / rate), 44_100).astype(np.float32)
            for start in range(0, len(samples), 1152):
                block = av.AudioFrame.from_ndarray(samples[None, start : start + 1152], format="fltp", layout="mono")
                block.sample_rate, block.pts = 44_100, start
                container.mux(voice.encode(block))
            container.mux(voice.encode())
    return path


def wav_from_flv(flv: Path, wav: Path) -> Path:
    """The sound track of a video as 16 kHz mono, as CREMA-D's AudioWAV has it."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=16_000)
    with av.open(str(flv)) as container:
        blocks = [out for block in container.decode(audio=0) for out in resampler.resample(block)]
    return write_wav(wav, np.concatenate([b.to_ndarray()[0] for b in blocks + resampler.resample(None)]) / 32768)


def write_idx(path: Path, values: np.ndarray) -> Path:
    """MNIST's file format: magic number, sizes, bytes; gzipped if the name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.array([2048 + values.ndim, *values.shape], ">i4").tobytes() + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_lists(folder: Path, lists: Mapping[str, list[str]], end: str = "\r\n") -> None:
    """CREMA-D split lists: list name -> clips, each with the label its name says."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, clips in lists.items():
        (folder / name).write_bytes("".join(f"{clip},{clip.split('_')[2]}{end}" for clip in clips).encode())


CODECS = {  # by suffix: video codec, pixel format, sound codec, rate, layout
    ".mp4": ("libx264", "yuv420p", "aac", 44_100, "stereo"),
    ".webm": ("libvpx-vp9", "yuv420p", "libopus", 48_000, "stereo"),
    ".avi": ("mpeg4", "yuv420p", "libmp3lame", 44_100, "mono"),
}


def write_clip(
    path: Path,
    seconds: float = 2.0,
    *,
    size: tuple[int, int] = (80, 60),
    rate: int = 10,
    hertz: float = 440.0,
    sound: bool = True,
    video: bool = True,
) -> Path:
    """A video with the codecs its kind of file usually has; its pictures tell their number, its sound its pitch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    vision, pixels, voice, hz, layout = CODECS[path.suffix]
    with av.open(f"file:{path}", "w") as container:
        picture = container.add_stream(vision, rate=rate) if video else None
        track = container.add_stream(voice, rate=hz, layout=layout) if sound else None
        if picture:
            picture.width, picture.height, picture.pix_fmt = *size, pixels
            picture.thread_count = 1
            if vision == "libvpx-vp9":
                picture.options = {"deadline": "realtime", "cpu-used": "8"}
            for number in range(round(seconds * rate)):
                container.mux(picture.encode(av.VideoFrame.from_ndarray(frame(number, *size), format="rgb24")))
            container.mux(picture.encode())
        if track:
            samples = np.tile(tone(seconds, hz, hertz).astype(np.float32), (track.layout.nb_channels, 1))
            step = track.codec_context.frame_size or 1152
            fit = av.AudioResampler(format=track.format, layout=layout, rate=hz, frame_size=step)
            for start in range(0, samples.shape[1], step):
                part = np.ascontiguousarray(samples[:, start : start + step])
                block = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
                block.sample_rate, block.pts = hz, start
                for out in fit.resample(block):
                    container.mux(track.encode(out))
            for out in fit.resample(None):
                container.mux(track.encode(out))
            container.mux(track.encode())
    return path
