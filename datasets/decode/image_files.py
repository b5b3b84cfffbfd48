"""Pictures as files hold them: kept compressed on disk, decoded, cropped and scaled when a sample is made."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.core.checks import refuse_pointer
from datasets.core.errors import MissingMediaError, VideoDecodeError

SUFFIXES = (".jpg", ".jpeg", ".png")
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")  # others may start a program: EPS starts Ghostscript
PIXELS = 100_000_000  # of one picture; a header that promises more is damaged
DAMAGE = (OSError, ValueError, SyntaxError, EOFError, Warning, Image.DecompressionBombError)  # what PIL raises for it
QUALITY = 95  # of the frames that OGM-GE's extraction saves
Box = tuple[float, float, float, float]  # left, top, right, bottom


def encode(pixels: np.ndarray) -> bytes:
    """(H, W, 3) uint8 -> JPEG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    """A picture whose header alone is read. Raises what is in DAMAGE, also for more than a hundred million pixels."""
    picture = Image.open(io.BytesIO(data), formats=FORMATS)
    if picture.width * picture.height > PIXELS:
        raise ValueError(f"{picture.width} x {picture.height} pixels")
    return picture


def size(data: bytes) -> tuple[int, int]:
    """(height, width) of a picture, from its header."""
    with opened(data) as picture:
        return picture.height, picture.width


def scaled(data: bytes, side: int, box: Box | None = None, mode: str = "RGB") -> np.ndarray:
    """(side, side, 3) uint8, or (side, side) in ``mode`` L: what is in ``box`` (None: all), aspect ratio not kept.

    PIL's bilinear resize, which averages before it shrinks. A rotation noted in the file is ignored, as everywhere.
    """
    with opened(data) as picture:
        return np.asarray(_plain(picture, mode).resize((side, side), Image.Resampling.BILINEAR, box))


def _plain(picture: Image.Image, mode: str) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits: PIL would cut them off at 255
        picture = Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8))
    return picture if picture.mode == mode else picture.convert(mode)


def any_in(folder: Path) -> bool:
    """Whether there is a folder of that name with a picture in it."""
    return folder.is_dir() and any(path.suffix.lower() in SUFFIXES for path in folder.iterdir())


def listing(folder: Path) -> list[Path]:
    """The pictures in a folder by name; other files do not count. Raises MissingMediaError if there is none."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not found:
        raise MissingMediaError(f"{folder}: no {' or '.join(SUFFIXES)} in it; extract its frames again")
    return found


def read_folder(folder: Path, mode: str = "RGB") -> tuple[list[bytes], Counter[str]]:
    """The pictures of a folder in order, as their files hold them; one that is damaged is replaced by the next.

    Notes ``frames_damaged``. Raises MissingMediaError, or VideoDecodeError where not one can be read.
    """
    found: list[bytes | None] = []
    for path in listing(folder):
        data = path.read_bytes()
        try:
            refuse_pointer(path, VideoDecodeError)
            with opened(data) as picture:
                _plain(picture, mode).load()
            found.append(data)
        except DAMAGE:  # VideoDecodeError is a ValueError
            found.append(None)
    good = [data for data in found if data is not None]
    if not good:
        raise VideoDecodeError(f"{folder}: not one of its {len(found)} pictures can be read; extract them again")
    following = good[-1]
    for i in reversed(range(len(found))):
        following = found[i] = found[i] or following
    return [data for data in found if data], +Counter(frames_damaged=len(found) - len(good))
