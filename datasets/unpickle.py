"""Arrays out of a pickle that somebody else made, without running anything that it asks for (spec datasets.md, 7.3).

A pickle is a program. Of all it may name, only what numpy writes for arrays is known here, and even that is answered by
stand-ins: no foreign bytes reach numpy's own ``__setstate__``, which trusts them.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datasets.errors import ManifestError, UnsafePickleError
from datasets.files import refuse_pointer

CODE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|[SU][0-9]{1,5}|O8?)")


class _DType:
    """numpy.dtype(code, align, copy), then its state, of which the byte order counts."""

    def __init__(self, code: object, *_: object) -> None:
        text = code.decode("ascii") if isinstance(code, bytes) else code
        if not isinstance(text, str) or not CODE.fullmatch(text):
            raise ValueError(f"a dtype {text!r}, not one of numbers or texts")
        self.code, self.order = text.lstrip("<>|="), text[0] if text[0] in "<>" else "<"

    def __setstate__(self, state: Sequence[object]) -> None:
        order = state[1].decode() if isinstance(state[1], bytes) else state[1]
        self.order = ">" if order == ">" else "<"

    def numpy(self) -> np.dtype:
        return np.dtype(self.order + self.code)


class Array:
    """An array while it is put together; ``value`` is the finished one."""

    value: np.ndarray

    def __setstate__(self, state: Sequence[Any]) -> None:
        _, shape, dtype, fortran, data = state
        self.fill(data, dtype, shape, "F" if fortran else "C")

    def fill(self, data: Any, dtype: Any, shape: Any, order: Any) -> None:
        if not isinstance(dtype, _DType) or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError("an array without a dtype or shape")
        if dtype.code.startswith("O"):
            if not isinstance(data, list) or not all(isinstance(x, str | bytes) for x in data):
                raise ValueError("an array of objects that are not all texts")
            self.value = np.array([x.decode("latin1") if isinstance(x, bytes) else x for x in data]).reshape(shape)
            return
        data = data.encode("latin1") if isinstance(data, str) else data
        if len(data) != math.prod(shape) * dtype.numpy().itemsize:
            raise ValueError(f"an array {tuple(shape)} with {len(data)} bytes")
        self.value = np.frombuffer(data, dtype.numpy()).reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(kind: object, *_: object) -> Array:
    return Array()


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> Array:
    made = Array()
    made.fill(data, dtype, shape, order)
    return made


def _scalar(dtype: Any, data: Any) -> Any:
    made = Array()
    made.fill(data, dtype, (1,), "C")
    return made.value[0].item()


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"an encoding {encoding!r}")
    return text.encode("latin1")


class _NDArray:
    """Only ever named, as the first argument of _reconstruct."""


KNOWN: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
    ("numpy", "ndarray"): _NDArray,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
}


class _Reader(pickle._Unpickler):  # the one in Python: the one in C takes a damaged number for a size and allocates it
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            raise UnsafePickleError(f"asks for {module}.{name}")
        return KNOWN[module, name]

    def get_extension(self, code: int) -> Any:
        raise UnsafePickleError(f"asks for the extension {code}")

    def persistent_load(self, pid: Any) -> Any:
        raise UnsafePickleError("asks for an object outside of it")


def read_pickle(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """The arrays in a pickle of a dict of dicts of arrays; lists count as arrays, what is None is left out.

    All of it is held in memory at once. Raises UnsafePickleError, before anything is run, for a pickle that names
    anything but arrays, and ManifestError for one that is damaged or holds something else.
    """
    refuse_pointer(path, ManifestError)
    try:
        with path.open("rb") as file:
            found = _Reader(file, encoding="latin1").load()
        return {
            str(part): {str(name): _array(value) for name, value in fields.items() if value is not None}
            for part, fields in found.items()
        }
    except UnsafePickleError as error:
        raise UnsafePickleError(
            f"{path}: {error}, which no file of features needs; it was not read: get the published file"
        ) from None
    except Exception as error:  # a damaged program may fail in any way
        said = " ".join(str(error).split())[:200]
        raise ManifestError(
            f"{path}: not a pickle of arrays ({type(error).__name__}: {said}); get the file again"
        ) from error


def _array(value: Any) -> np.ndarray:
    if isinstance(value, Array):
        return value.value
    if not isinstance(value, list | tuple):
        raise ValueError(f"a {type(value).__name__}, not an array")
    made = np.array([[x] if isinstance(x, str | bytes) else x for x in value])
    if made.dtype.kind not in "biufSU":
        raise ValueError(f"a {type(value).__name__}, not an array")
    return made
