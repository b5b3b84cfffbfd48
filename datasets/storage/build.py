"""Making a prepared set: every item decoded on all cores, with a journal, so that a killed preparation goes on."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from datasets.core.errors import DataError
from datasets.core.files import convert_disk_errors, locked
from datasets.core.progress import Progress
from datasets.storage.cache import FORMAT, Cache, Column, Decoded, RawItem, canonical, digest_of, sha256, source_digest

DECODERS = ("av", "soundfile", "numpy", "torch", "torchaudio")
CHUNK, MOST = 64, 4096  # pieces between two lines of the journal: at first, and where they are quickly made
BRIEF = 0.5  # seconds


def build(
    folder: Path,
    recipe: Mapping[str, Any],
    items: Sequence[RawItem],
    columns: Mapping[str, Column],
    decode: Callable[[RawItem], Decoded],
    progress: Progress | None = None,
) -> Cache:
    """Decodes every item on all cores and writes the prepared set.

    Goes on with the journal of a killed preparation if the items it holds are still made of the same bytes. What
    ``decode`` raises ends it at once; what is decoded by then is kept.

    Args:
        folder: The prepared set; it is called FOLDER.part until it is complete.
        recipe: Everything that decides its bytes, as JSON.
        items: What is to be decoded.
        columns: The arrays to fill, by name.
        decode: Turns one item into rows; called from several threads.
        progress: Is told how far it is.

    Returns:
        The prepared set, opened.

    Raises:
        DataError: The disk is full or read-only (nothing is left behind that was not there before), a link stands
            where the set is to be made, or another process is making it.
    """
    part = folder.with_name(folder.name + ".part")
    if part.is_symlink():
        raise DataError(f"{part}: a link stands where the set is to be made; remove it")
    fresh = not part.exists()
    with convert_disk_errors(part):
        part.mkdir(parents=True, exist_ok=True)
    with locked(part, "another process is preparing this set"):
        try:
            with convert_disk_errors(part):
                journal = _Journal(part, recipe, items, columns)
                _ask_for_space(part, columns, journal)
            todo = [item for item in items if item.key not in journal.done]
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                for chunk in _chunks(todo):
                    if progress:
                        progress("decoding", len(journal.done), len(items))
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


def _chunks(items: Sequence[RawItem]) -> Iterator[Sequence[RawItem]]:
    """What is decoded between two lines of the journal: twice as much after a chunk that took less than ``BRIEF``.

    Each line costs some writes, which is most of the time where pieces are small.
    """
    start, size = 0, CHUNK
    while start < len(items):
        began = time.monotonic()
        yield items[start : start + size]
        start += size
        if time.monotonic() - began < BRIEF:
            size = min(2 * size, MOST)


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
        text = json.dumps({**manifest, "sha256": digest_of(manifest)}, indent=1, sort_keys=True)
        (self.part / "manifest.json").write_text(text)


def _line(entries: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps([entries, digest_of(entries)]) + "\n"


def _entries(journal: bytes) -> list[dict[str, Any]]:
    """What its lines say, up to the first one that was cut off or damaged."""
    entries: list[dict[str, Any]] = []
    for line in journal.split(b"\n"):
        try:
            held, digest = json.loads(line)
        except (ValueError, TypeError, RecursionError):
            break
        if digest != digest_of(held):
            break
        entries += held
    return entries


def _ask_for_space(part: Path, columns: Mapping[str, Column], journal: _Journal) -> None:
    need = sum(c.bytes * max(c.expected - journal.length[name], 0) for name, c in columns.items())
    free = shutil.disk_usage(part).free
    if need > free:
        raise OSError(errno.ENOSPC, f"needs {need / 1e6:.1f} MB more", str(part))
