"""Arrays in .npy and .npz files of somebody else's making: read without pickle, and no larger than their file says."""

from __future__ import annotations

import io
import math
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from datasets.core.checks import open_member, printable, refuse_pointer
from datasets.core.errors import ManifestError

LIMIT = 1 << 30  # bytes of one sample's array; a header that promises more is damaged, or no sample
HEAD = 1 << 14  # bytes that a header may take
BAD_VALUES = 0.01  # the share of NaN or infinite numbers that makes an array unusable


def array_shape(path: Path, member: str = "") -> tuple[int, ...]:
    """The shape that the header of an array announces. Raises ManifestError, as ``read_array`` does."""
    with _opened(path, member) as (file, size):
        return _header(io.BytesIO(file.read(HEAD)), size)[0]


def read_array(path: Path, member: str = "") -> tuple[np.ndarray, Counter[str]]:
    """The array in a .npy file, or the one called ``member`` in a .npz, as float32, and notes.

    NaN and infinities become 0 and are noted as ``not_finite``. Raises ManifestError for files that are damaged, for
    arrays that are not of numbers (objects would need pickle, which is never used), for more than a gigabyte and for
    more than 1 % of values that are not finite.
    """
    with _opened(path, member) as (file, size):
        values = values_of(file, size)
    with np.errstate(over="ignore"):  # what is too large for float32 is counted as infinite
        return finite(values.astype(np.float32), str(path))


def values_of(file: IO[bytes], size: int) -> np.ndarray:
    """The array in an open .npy file, as it is.

    Args:
        file: Can be read and sought.
        size: How many bytes it has; an array that promises more is refused before anything is allocated.

    Raises:
        ValueError: It is damaged, of objects, or larger than a gigabyte. Damage may come in other shapes, too.
    """
    head = io.BytesIO(file.read(HEAD))
    shape, fortran, dtype = _header(head, size)
    promised = math.prod(shape) * dtype.itemsize
    file.seek(head.tell())
    data = file.read(promised + 1)
    if len(data) != promised:
        raise ValueError(f"its header promises {promised} bytes, {len(data)} are there")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def finite(values: np.ndarray, where: str) -> tuple[np.ndarray, Counter[str]]:
    """The same numbers with 0 for NaN and infinities, and how many those were. Raises ManifestError above 1 %."""
    good = np.isfinite(values)
    bad = values.size - int(good.sum())
    if bad > BAD_VALUES * values.size:
        raise ManifestError(f"{where}: {bad} of {values.size} numbers are not finite; make the file again")
    return (np.where(good, values, np.float32(0)) if bad else values), +Counter(not_finite=bad)


@contextmanager
def _opened(path: Path, member: str) -> Iterator[tuple[IO[bytes], int]]:
    """The bytes of an array file and how many there are. Turns whatever is wrong with it into one line."""
    refuse_pointer(path, ManifestError)
    name = f"{path}#{member}" if member else str(path)
    try:
        if not member:
            with path.open("rb") as file:
                yield file, path.stat().st_size
            return
        with zipfile.ZipFile(path) as archive:
            inside = f"{member}.npy"
            if inside not in archive.namelist():
                held = printable(", ".join(n.removesuffix(".npy") for n in archive.namelist()[:10]))
                raise ManifestError(f"{name}: no such array in it, only {held}; correct what stands behind the #")
            with open_member(archive, archive.getinfo(inside)) as file:
                yield file, archive.getinfo(inside).file_size
    except ManifestError:
        raise
    except Exception as error:  # damage may come out of numpy's header parser or zipfile in any shape
        raise ManifestError(
            f"{name}: not an array that can be read ({printable(error)}); save it again with numpy.save"
        ) from error


def _header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"format {version[0]}.{version[1]}, not 1.0 or 2.0")
    shape, fortran, dtype = read(file)
    if dtype.kind not in "biuf" or not shape or min(shape) < 1:
        raise ValueError(f"{dtype} {shape}: numbers with at least one axis and nothing empty are needed")
    if math.prod(shape) * dtype.itemsize > min(LIMIT, size):
        raise ValueError(f"{dtype} {shape} is more than the {size} bytes that are there, or than a gigabyte")
    return shape, fortran, dtype
