"""Prepared data on disk: decoded once, piece by piece, then read from memory maps that a manifest vouches for.

A prepared set is a folder: one ``COLUMN.npy`` per column, ``index.json`` (which rows belong to which piece) and
``manifest.json`` (every parameter, the versions of the decoders, size and sha256 of every file and of its own content),
which is written last.
While it is made it is called ``WORD.part`` and has a journal, so that a killed preparation goes on where it stood.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datasets.core.errors import CacheError, DataError
from datasets.core.progress import Progress

FORMAT = 2  # of the folder; goes up when older folders can no longer be read


@dataclass(frozen=True)
class RawItem:
    """What is decoded at once, say one clip.

    Args:
        key: Its name in the prepared set.
        source: A digest of the content of the files it is made of.
    """

    key: str
    source: str


@dataclass(frozen=True)
class Decoded:
    """What an item was decoded to.

    Args:
        rows: For some of the columns, (n, *row shape).
        facts: What else is worth knowing about the item, as JSON.
    """

    rows: Mapping[str, np.ndarray]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """One array of a prepared set. ``expected`` rows are used only to ask for disk space before anything is decoded."""

    dtype: str
    shape: tuple[int, ...]  # of one row
    expected: int

    @property
    def bytes(self) -> int:
        """The size of one row."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical(value: Any) -> str:
    """JSON with sorted keys and no blanks: equal values give equal texts."""
    return _CANONICAL.encode(value)


def short_digest(recipe: Mapping[str, Any]) -> str:
    """Twelve hex digits of the sha256 of ``canonical(recipe)``: the name of the folder of what a recipe makes."""
    return digest_of(recipe)[:12]


def digest_of(value: Any) -> str:
    """The sha256 of ``canonical(value)``, as 64 hex digits."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def sha256(path: Path) -> str:
    """The digest of a file's content, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Cache:
    """A prepared set, opened for reading. Memory maps are opened when first asked for, and never pickled.

    Opening reads the manifest and the index and looks at the size and header of every file; ``verify`` reads it all.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        text = self._read("manifest.json")
        self.digest = hashlib.sha256(text).hexdigest()
        self.manifest = self._parse("manifest.json", text)
        if self.manifest.get("format") != FORMAT:
            raise CacheError(
                f"{folder} was prepared by another version of this project (format {self.manifest.get('format')!r}, "
                f"not {FORMAT}): run `python -m datasets prepare {folder.parent.name}` again, with the same arguments"
            )
        if self.manifest.pop("sha256", None) != digest_of(self.manifest):
            raise self._damaged("manifest.json", "is not as it was written")
        for name, facts in self.manifest["files"].items():
            path = self.folder / name
            if not path.is_file():
                raise self._damaged(name, "is missing")
            if path.stat().st_size != facts["size"]:
                raise self._damaged(name, f"has {path.stat().st_size} bytes, not {facts['size']}")
        text = self._read("index.json")
        if hashlib.sha256(text).hexdigest() != self.manifest["files"]["index.json"]["sha256"]:
            raise self._damaged("index.json", "is not the one the manifest describes")
        index = self._parse("index.json", text)
        self.keys: list[str] = index["keys"]
        self.sources: dict[str, str] = dict(zip(self.keys, index["sources"], strict=True))
        self.facts: dict[str, dict[str, Any]] = dict(zip(self.keys, index["about"], strict=True))
        self._offsets = {name: np.asarray(offsets) for name, offsets in index["offsets"].items()}
        self._place = {key: i for i, key in enumerate(self.keys)}
        self._maps: dict[str, np.ndarray] = {}
        for name, (dtype, shape) in self.manifest["columns"].items():
            array = self[name]
            if array.dtype.str != dtype or list(array.shape) != [self._offsets[name][-1], *shape]:
                raise self._damaged(f"{name}.npy", f"holds {array.dtype.str} {array.shape}")

    def __getitem__(self, column: str) -> np.ndarray:
        if column not in self._maps:
            try:
                self._maps[column] = np.load(self.folder / f"{column}.npy", mmap_mode="r", allow_pickle=False)
            except PermissionError:  # there is nothing wrong with the set, and to make it again would not help
                raise
            except Exception as error:  # damage may come out of numpy's header parser in any shape
                raise self._damaged(f"{column}.npy", f"cannot be mapped ({error})") from error
        return self._maps[column]

    def rows(self, column: str, key: str) -> range:
        """Which rows of a column belong to an item."""
        place = self._place[key]
        return range(int(self._offsets[column][place]), int(self._offsets[column][place + 1]))

    def verify(self, progress: Progress | None = None) -> None:
        """Reads every byte.

        Raises:
            CacheError: A file is not as it was written; the first one is named.
        """
        for number, (name, facts) in enumerate(self.manifest["files"].items()):
            if progress:
                progress(f"reading {name}", number, len(self.manifest["files"]))
            if sha256(self.folder / name) != facts["sha256"]:
                raise self._damaged(name, "has other bytes than were written")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if hashlib.sha256(self._read("manifest.json")).hexdigest() != self.digest:
            raise CacheError(f"{self.folder} was prepared again while it was in use; start this again")

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError as error:
            raise self._damaged(name, "is missing") from error
        except OSError as error:
            raise DataError(
                f"{self.folder / name}: cannot be read ({error.strerror}); see that it is a file this user may read"
            ) from error

    def _parse(self, name: str, text: bytes) -> dict[str, Any]:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._damaged(name, f"is not JSON ({error})") from error
        if not isinstance(value, dict):
            raise self._damaged(name, "is not a JSON object")
        return value

    def _damaged(self, name: str, what: str) -> CacheError:
        return CacheError(
            f"{self.folder / name} {what}: the prepared set is damaged; delete the folder {self.folder} "
            f"and run `python -m datasets prepare {self.folder.parent.name}` again"
        )


def source_digest(items: Sequence[RawItem]) -> str:
    """Twelve hex digits for the raw files a set is made of."""
    return short_digest({item.key: item.source for item in items})
