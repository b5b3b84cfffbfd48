"""What raw files hold, by sha256. Digests are remembered, so that a second look reads no file that was left alone.

The memory is one SQLite file in the cache folder: path, stamp (size, times of change, inode) and digest of every file
or folder of image_files. It only saves time. Each entry has a checksum, so a damaged one is not used; where the memory
cannot be read or written every file is read again. A file that changed less than two seconds before it was read is not
remembered, for it could change again within the same tick of the file system's clock.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import struct
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from datasets.core.checks import advice
from datasets.core.errors import DataError, MissingMediaError
from datasets.core.paths import cache_folder
from datasets.core.progress import bar
from datasets.decode import image_files
from datasets.storage.cache import canonical, sha256

P = TypeVar("P", bound=str | Path)

TICK = 2_000_000_000  # ns: the coarsest clock of a file system in use (FAT)
CHUNK = 256  # files between two entries in the memory
ASKED = 500  # entries that are looked up at once: some versions of SQLite take no more than 999
LONG = 256 << 20  # bytes whose reading is worth a progress bar
BROKEN = (sqlite3.Error, UnicodeDecodeError)  # the latter for what a damaged file has in SQLite's messages
DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}  # SQLite's codes for a broken file


class _State(NamedTuple):
    """What the file system tells of a file, or of a folder of pictures, without reading it."""

    stamp: bytes
    changed: int  # when it last was, in ns
    size: int


def digests(paths: Iterable[P]) -> dict[P, str]:
    """sha256 of every file, as 64 hex digits; of a folder: of its pictures' digests in the order of their names.

    Paths may be plain strings: of several hundred thousand, path objects take seconds and hundreds of megabytes.

    What is not there (a folder without pictures is not) has none. Raises DataError for a file that cannot be read, or
    that changes while it is.
    """
    now = time.time_ns()
    states = {path: state for path in dict.fromkeys(paths) if (state := _state(path))}
    store = _DigestStore(cache_folder("content.sqlite"))
    try:
        known = store.look_up(states)
        unread = [path for path in states if path not in known]
        size, done = sum(states[path].size for path in unread), 0
        with bar(size > LONG) as progress, ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(unread), CHUNK):
                if progress:
                    progress("reading raw files", done, size)
                chunk = unread[start : start + CHUNK]
                read = dict(zip(chunk, pool.map(_read, chunk), strict=True))
                for path in chunk:
                    if _state(path) != states[path]:
                        raise DataError(f"{path}: it changed while it was read; run this again when nothing writes it")
                store.add({p: (states[p].stamp, d) for p, d in read.items() if now - states[p].changed > TICK})
                known |= read
                done += sum(states[path].size for path in chunk)
    finally:
        store.close()
    return known


def source(files: Mapping[str, P], digests: Mapping[P, str]) -> str:
    """One digest for all files of a piece. ``files``: what each is for -> where it is."""
    held = {what: [_suffix(path).lower(), digests[path]] for what, path in files.items()}
    return hashlib.sha256(canonical(held).encode()).hexdigest()


def sources(files: Mapping[str, Mapping[str, P]]) -> dict[str, str]:
    """The ``source`` of every piece whose files are all there, by its key."""
    known = digests(path for of in files.values() for path in of.values())
    return {key: source(of, known) for key, of in files.items() if known.keys() >= {*of.values()}}


def _suffix(path: str | Path) -> str:
    """As ``Path.suffix``: what follows the last dot of the name, with it, if something stands before and behind it."""
    name = os.fspath(path).rstrip("/").rpartition("/")[2]
    dot = name.rfind(".")
    return name[dot:] if 0 < dot < len(name) - 1 else ""


def _state(path: str | Path) -> _State | None:
    try:
        status = os.stat(path)  # noqa: PTH116 (also of text)
        if not stat.S_ISDIR(status.st_mode):
            return _State(_stamp(status), max(status.st_mtime_ns, status.st_ctime_ns), status.st_size)
        files = [(os.fsencode(file.name), file.stat()) for file in image_files.listing(Path(path))]
    except (FileNotFoundError, MissingMediaError):
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    return _State(
        hashlib.sha256(b"".join(name + b"\0" + _stamp(status) for name, status in files)).digest(),
        max(max(status.st_mtime_ns, status.st_ctime_ns) for _, status in files),
        sum(status.st_size for _, status in files),
    )


def _stamp(status: os.stat_result) -> bytes:
    return struct.pack("<QqqQ", status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _read(path: str | Path) -> str:
    path = Path(path)
    try:
        if path.is_dir():
            return hashlib.sha256("".join(map(sha256, image_files.listing(path))).encode()).hexdigest()
        return sha256(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str | Path, error: OSError) -> DataError:
    mend = advice(error, "get the file again")
    return DataError(f"{error.filename or path}: cannot be read ({error.strerror}); {mend}")


class _DigestStore:
    """Path -> stamp and digest, in a file that several processes may use at a time, or in none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database: sqlite3.Connection | None = None
        with suppress(OSError):  # no folder to keep it in: nothing is remembered
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.database = sqlite3.connect(path, timeout=30)
            self.database.execute("PRAGMA synchronous = OFF")  # what a power cut spoils, the checksums find
            self.database.execute(
                "CREATE TABLE IF NOT EXISTS digests (path BLOB PRIMARY KEY, entry BLOB) WITHOUT ROWID"
            )
        except BROKEN as error:
            self._give_up(error)

    def look_up(self, states: Mapping[P, _State]) -> dict[P, str]:
        """The digests of those whose stamp is still the one that is remembered."""
        known: dict[P, str] = {}
        if self.database:
            paths = {_key(path): path for path in states}
            keys = list(paths)
            try:
                for start in range(0, len(keys), ASKED):
                    asked = keys[start : start + ASKED]
                    places = ",".join("?" * len(asked))
                    found = self.database.execute(f"SELECT path, entry FROM digests WHERE path IN ({places})", asked)
                    for key, entry in found:
                        path = paths.get(key)  # in a damaged file the key may be another than was asked for
                        if path and (digest := _digest(key, states[path].stamp, entry)):
                            known[path] = digest
            except BROKEN as error:
                self._give_up(error)
        return known

    def add(self, read: Mapping[P, tuple[bytes, str]]) -> None:
        if self.database and read:
            rows = [(key := _key(path), _entry(key, stamp, digest)) for path, (stamp, digest) in read.items()]
            try:
                with self.database:
                    self.database.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?)", rows)
            except BROKEN as error:
                self._give_up(error)

    def close(self) -> None:
        if self.database:
            self.database.close()

    def _give_up(self, error: Exception) -> None:
        """Goes on without it. A damaged file is removed, so that the next time begins a new one."""
        self.close()
        self.database = None
        if not isinstance(error, sqlite3.Error) or getattr(error, "sqlite_errorcode", 0) & 255 in DAMAGE:
            for path in (self.path, self.path.with_name(self.path.name + "-journal")):
                with suppress(OSError):
                    path.unlink(missing_ok=True)


def _key(path: str | Path) -> bytes:
    return os.fsencode(os.path.join(os.getcwd(), path))  # noqa: PTH109, PTH118 (also of text)


def _entry(key: bytes, stamp: bytes, digest: str) -> bytes:
    """Stamp (32 bytes), digest (32 bytes), and a checksum of both and of the path that they belong to."""
    held = stamp + bytes.fromhex(digest)
    return held + hashlib.sha256(key + held).digest()[:16]


def _digest(key: bytes, stamp: bytes, entry: object) -> str:
    """The digest of an entry that is whole and has this stamp, or ""."""
    digest = entry[32:64].hex() if isinstance(entry, bytes) and len(entry) == 80 else ""
    return digest if digest and entry == _entry(key, stamp, digest) else ""
