"""Prepared data on disk: decoded once, piece by piece, then read from memory maps that a manifest vouches for.

A prepared set is a folder: one ``COLUMN.npy`` per column, ``index.json`` (which rows belong to which piece) and
``manifest.json`` (every parameter, the versions of the decoders, size and sha256 of every file and of its own content),
which is written last.
While it is made it is called ``WORD.part`` and has a journal, so that a killed preparation goes on where it stood.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from datasets.core.errors import CacheError, DataError
from datasets.core.files import convert_disk_errors
from datasets.core.progress import Progress

FORMAT = 2  # of the folder; goes up when older folders can no longer be read
DECODERS = ("av", "soundfile", "numpy", "torch", "torchaudio")
CHUNK = 64  # pieces between two lines of the journal


@dataclass(frozen=True)
class RawItem:
    """What is decoded at once, say one clip. ``source`` says which bytes it is made of: a digest of their content."""

    key: str
    source: str


@dataclass(frozen=True)
class Decoded:
    """Rows for some of the columns, each (n, *row shape), and what else is worth knowing about the piece (JSON)."""

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


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def short_digest(recipe: Mapping[str, Any]) -> str:
    """The name of the folder that holds what this recipe makes."""
    return _digest(recipe)[:12]


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def sha256(path: Path) -> str:
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
        if self.manifest.pop("sha256", None) != _digest(self.manifest):
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
        """Which rows of a column belong to a piece."""
        place = self._place[key]
        return range(int(self._offsets[column][place]), int(self._offsets[column][place + 1]))

    def verify(self, progress: Progress | None = None) -> None:
        """Reads every byte. Raises CacheError with the name of the first file that is not as it was written."""
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
    """One word for the raw files a set is made of."""
    return short_digest({item.key: item.source for item in items})


def build(
    folder: Path,
    recipe: Mapping[str, Any],
    items: Sequence[RawItem],
    columns: Mapping[str, Column],
    decode: Callable[[RawItem], Decoded],
    progress: Progress | None = None,
) -> Cache:
    """Decodes every piece on all cores and writes the prepared set.

    Goes on with the journal of a killed preparation if the pieces it holds are still made of the same bytes. Raises
    what ``decode`` raises, at once; what is decoded by then is kept. A full or read-only disk raises DataError and
    leaves behind nothing that was not there before.
    """
    part = folder.with_name(folder.name + ".part")
    if part.is_symlink():
        raise DataError(f"{part}: a link stands where the set is to be made; remove it")
    fresh = not part.exists()
    with convert_disk_errors(part):
        part.mkdir(parents=True, exist_ok=True)
    with _locked(part):
        try:
            with convert_disk_errors(part):
                journal = _Journal(part, recipe, items, columns)
                _ask_for_space(part, columns, journal)
            todo = [item for item in items if item.key not in journal.done]
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                for start in range(0, len(todo), CHUNK):
                    if progress:
                        progress("decoding", len(journal.done), len(items))
                    chunk = todo[start : start + CHUNK]
                    decoded = list(pool.map(decode, chunk))
                    with convert_disk_errors(part):
                        journal.add(chunk, decoded)
            with convert_disk_errors(part):
                journal.finish(items, progress)
                shutil.rmtree(folder, ignore_errors=True)
                part.replace(folder)
                (folder / "journal.jsonl").unlink()
        except DataError as error:
            if fresh and isinstance(error.__cause__, OSError):
                shutil.rmtree(part, ignore_errors=True)
            raise
    return Cache(folder)


class _Journal:
    """Growing columns, and one line of JSON per chunk that says how far each of them is to be believed.

    A line is a pair: what it says, and the digest of that. What stands behind a line that is damaged is not used.
    """

    def __init__(
        self, part: Path, recipe: Mapping[str, Any], items: Sequence[RawItem], columns: Mapping[str, Column]
    ) -> None:
        self.part, self.recipe, self.columns = part, recipe, columns
        self.done: dict[str, dict[str, Any]] = {}
        self._resume({item.key: item.source for item in items})

    def _resume(self, sources: Mapping[str, str]) -> None:
        path = self.part / "journal.jsonl"
        path.touch()
        entries = _entries(path.read_bytes())
        self._count(entries)
        if any(sources.get(entry["key"]) != entry["source"] for entry in entries) or not self._all_there():
            entries = []  # made of other raw files, or not on disk after all: start again
            self._count(entries)
        self.done = {entry["key"]: entry for entry in entries}
        path.write_text("".join(_line([entry]) for entry in entries))
        for name in self.columns:
            self._set_length(name)

    def _count(self, entries: Sequence[Mapping[str, Any]]) -> None:
        self.length: dict[str, int] = {
            name: sum(entry["rows"].get(name, 0) for entry in entries) for name in self.columns
        }

    def _header(self, name: str) -> bytes:
        header, column = io.BytesIO(), self.columns[name]
        facts: dict[str, Any] = {
            "descr": column.dtype,
            "fortran_order": False,
            "shape": (self.length[name], *column.shape),
        }
        npy.write_array_header_1_0(header, facts)  # leaves room for the first axis to grow
        return header.getvalue()

    def _size(self, name: str) -> int:
        return len(self._header(name)) + self.length[name] * self.columns[name].bytes

    def _all_there(self) -> bool:
        paths = {name: self.part / f"{name}.npy" for name in self.columns}
        return all(path.exists() and path.stat().st_size >= self._size(name) for name, path in paths.items())

    def _set_length(self, name: str) -> None:
        """Writes the header, and cuts off what a killed run wrote after its last line."""
        path = self.part / f"{name}.npy"
        path.touch()
        with path.open("r+b") as file:
            file.write(self._header(name))
            file.truncate(self._size(name))

    def add(self, items: Sequence[RawItem], decoded: Sequence[Decoded]) -> None:
        for name, column in self.columns.items():
            with (self.part / f"{name}.npy").open("ab") as file:
                for one in decoded:
                    if name in one.rows:
                        rows = np.ascontiguousarray(one.rows[name], dtype=column.dtype)
                        assert rows.shape[1:] == column.shape, (name, rows.shape, column.shape)
                        file.write(rows.data)
                        self.length[name] += len(rows)
                file.flush()
                os.fsync(file.fileno())
        entries = [
            {
                "key": item.key,
                "source": item.source,
                "about": dict(one.facts),
                "rows": {name: len(rows) for name, rows in one.rows.items()},
            }
            for item, one in zip(items, decoded, strict=True)
        ]
        with (self.part / "journal.jsonl").open("a") as file:
            file.write(_line(entries))
            file.flush()
            os.fsync(file.fileno())
        self.done.update((item.key, entry) for item, entry in zip(items, entries, strict=True))

    def finish(self, items: Sequence[RawItem], progress: Progress | None) -> None:
        entries = list(self.done.values())
        offsets = {
            name: np.cumsum([0, *(entry["rows"].get(name, 0) for entry in entries)]).tolist() for name in self.columns
        }
        (self.part / "index.json").write_text(
            canonical(
                {
                    "keys": [entry["key"] for entry in entries],
                    "sources": [entry["source"] for entry in entries],
                    "about": [entry["about"] for entry in entries],
                    "offsets": offsets,
                }
            )
        )
        files = {}
        for number, name in enumerate(["index.json", *(f"{name}.npy" for name in self.columns)]):
            if progress:
                progress(f"hashing {name}", number, len(self.columns) + 1)
            if name.endswith(".npy"):
                self._set_length(name[:-4])
            path = self.part / name
            files[name] = {"size": path.stat().st_size, "sha256": sha256(path)}
        manifest = {
            "format": FORMAT,
            "recipe": self.recipe,
            "source": source_digest(items),
            "columns": {name: [column.dtype, column.shape] for name, column in self.columns.items()},
            "versions": {name: version(name) for name in DECODERS},
            "files": files,
        }
        text = json.dumps({**manifest, "sha256": _digest(manifest)}, indent=1, sort_keys=True)
        (self.part / "manifest.json").write_text(text)


def _line(entries: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps([entries, _digest(entries)]) + "\n"


def _entries(journal: bytes) -> list[dict[str, Any]]:
    """What its lines say, up to the first one that was cut off or damaged."""
    entries: list[dict[str, Any]] = []
    for line in journal.split(b"\n"):
        try:
            held, digest = json.loads(line)
        except (ValueError, TypeError, RecursionError):
            break
        if digest != _digest(held):
            break
        entries += held
    return entries


@contextmanager
def _locked(part: Path) -> Iterator[None]:
    """Two preparations of the same set would write into each other. The lock dies with its process."""
    handle = os.open(part, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise DataError(f"{part}: another process is preparing this set; wait for it to finish") from error
    try:
        yield
    finally:
        os.close(handle)


def _ask_for_space(part: Path, columns: Mapping[str, Column], journal: _Journal) -> None:
    need = sum(c.bytes * max(c.expected - journal.length[name], 0) for name, c in columns.items())
    free = shutil.disk_usage(part).free
    if need > free:
        raise OSError(errno.ENOSPC, f"needs {need / 1e6:.1f} MB more", str(part))
