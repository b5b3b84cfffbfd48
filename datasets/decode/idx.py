"""idx files, the form of MNIST's images and labels."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np

from datasets.core.checks import refuse_pointer
from datasets.core.errors import ManifestError, PinMismatchError

LIMIT = 100_000_000  # bytes in an idx file, twice MNIST's largest; a header that promises more is damaged


def read_idx(path: Path, magic: int, pin: str | None) -> np.ndarray:
    """An idx file, plain or gzipped: magic number and sizes as big-endian int32, then bytes.

    Raises:
        ManifestError: The file is damaged.
        PinMismatchError: The sha256 of its content is not ``pin``.
    """
    refuse_pointer(path, ManifestError)
    start = 4 + 4 * (magic % 256)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(start)
            header = np.frombuffer(head, ">i4") if len(head) == start else np.zeros(1, ">i4")
            shape = tuple(int(n) for n in header[1:])
            promised = math.prod(shape)
            # No more than the header promises: a small gzip file may hold gigabytes.
            data = head + file.read(min(promised, LIMIT) + 1) if header[0] == magic and min(shape) > 0 else head
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ManifestError(f"{path}: cannot be read ({error}); get the file again") from error
    if header[0] != magic:
        raise ManifestError(f"{path}: magic number {header[0]}, expected {magic}: not an idx file of this kind")
    if min(shape) < 1 or promised > LIMIT or len(data) != start + promised:
        more = " or more" if len(data) > start + promised else ""
        raise ManifestError(
            f"{path}: {len(data)} bytes{more}, but the header promises {' x '.join(map(str, shape))} behind {start}, "
            f"of at most {LIMIT}; get the file again"
        )
    if pin and (found := hashlib.sha256(data).hexdigest()) != pin:
        raise PinMismatchError(
            f"{path}: not the published file (sha256 of its content {found}, expected {pin}); "
            "get it again, or say allow_unpinned=true"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
