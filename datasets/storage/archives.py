"""Archives of which this project cannot know the digest: the host's own is taken, else the first download is trusted.

Beside the archives lies ``archives.lock.json``: size and sha256 of every archive as it was first seen. Every later
download, and every preparation that reads an archive, compares with that. Whoever removes an entry trusts anew.
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.core.checks import printable
from datasets.core.errors import DataError, PinMismatchError
from datasets.core.files import convert_disk_errors, write_atomic
from datasets.core.progress import Progress
from datasets.storage import content
from datasets.storage.download import ExactFile, fetch

LOCK = "archives.lock.json"
ZENODO = "https://zenodo.org/api/records"
RECORD_LIMIT = 4 << 20  # bytes of a description of a record: the longest have a hundred files
SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+ ()-]*")


@dataclass(frozen=True)
class Archive:
    """A file to download.

    Args:
        name: Its name in the folder of the data set.
        url: Where it is published.
        limit: The most bytes it may have; with ``md5`` exactly so many.
        md5: Its digest as its host publishes it; "" where none is published.
    """

    name: str
    url: str
    limit: int
    md5: str = ""


def fetch_archive(archive: Archive, folder: Path, base: str | None = None, progress: Progress | None = None) -> Path:
    """Downloads an archive, unless it is there, and checks it.

    It is checked by the lock file; where that does not name it yet, by its md5; where none is published the file is
    trusted as it is now, which is said in a line on standard error. In both cases it is locked from then on.

    Args:
        archive: What to fetch.
        folder: Where to.
        base: An address to take ``archive.name`` from, instead of ``archive.url``.
        progress: Is told how far it is.

    Returns:
        The path of the archive.

    Raises:
        DataError: The server fails, sends no zip where one is expected, or the disk cannot be written.
        PinMismatchError: The archive is not the one that is locked or published.
    """
    path, url = folder / archive.name, f"{base}/{archive.name}" if base else archive.url
    if locked := _read_lock(folder).get(archive.name):
        if path.exists():
            check_lock(path)
            return path
        try:
            return fetch(url, path, locked, progress=progress)
        except PinMismatchError as error:
            raise PinMismatchError(f"{error}. {_trust_anew(path)}") from error
    if archive.md5:
        fetch(url, path, ExactFile(archive.limit, md5=archive.md5), progress=progress)
    else:
        fetched = not path.exists()
        if fetched:
            fetch(url, path, None, limit=archive.limit, progress=progress)
        if path.suffix == ".zip" and not zipfile.is_zipfile(path):  # a page that says something went wrong, perhaps
            if fetched:
                path.unlink()
            raise DataError(f"{path}: what is there is no zip; remove it if it is still there, and download again")
    seen = ExactFile(0).measure(path)
    _write_lock(folder, archive.name, seen)
    if not archive.md5:
        print(
            f"{path}: no published checksum: trusted now, locked in {folder / LOCK} ({seen.size} bytes, sha256 "
            f"{seen.sha256})",
            file=sys.stderr,
        )
    return path


def check_lock(*paths: Path) -> None:
    """Compares archives with the lock file beside each, before something is read from them.

    An archive that is not locked passes: it was put there by hand, and ``download`` locks it. Digests are remembered,
    so that an archive that was left alone is read once.

    Raises:
        PinMismatchError: An archive is another one than was locked.
    """
    locks = {folder: _read_lock(folder) for folder in {path.parent for path in paths}}
    locked = {path: pin for path in paths if (pin := locks[path.parent].get(path.name))}
    for path, digest in content.digests(locked).items():
        if digest != locked[path].sha256:
            raise PinMismatchError(
                f"{path}: {path.stat().st_size} bytes with sha256 {digest}, but {locked[path].size} bytes with "
                f"{locked[path].sha256} were locked when it was first seen; remove it and download again. "
                f"{_trust_anew(path)}"
            )


def zenodo_archives(
    record: int,
    names: re.Pattern[str],
    limit: int,
    folder: Path,
    base: str | None = None,
    progress: Progress | None = None,
) -> list[Archive]:
    """The files of a Zenodo record, with the checksums that Zenodo publishes.

    The description of the record is kept as ``zenodo-RECORD.json`` beside the data, so that what is complete needs no
    network: the files of a record never change, a new version is a record of its own.

    Args:
        record: Its number.
        names: Of the wanted files.
        limit: The most bytes one of them may have.
        folder: Where the description is kept.
        base: An address to take ``zenodo-RECORD.json`` from, instead of Zenodo.
        progress: Is told how far it is.

    Returns:
        The wanted files, by name.

    Raises:
        DataError: The server fails, no file has such a name, or the description is not one of Zenodo's.
    """
    path = folder / f"zenodo-{record}.json"
    url = f"{base}/{path.name}" if base else f"{ZENODO}/{record}"
    if not path.exists():
        with convert_disk_errors(folder):
            path.with_name(path.name + ".part").unlink(missing_ok=True)  # a description is never continued
        fetch(url, path, None, limit=RECORD_LIMIT, progress=progress)
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        described = [_described(one, path, limit) for one in files if names.fullmatch(one["key"])]
    except DataError:
        raise
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path}: not a description of a record of Zenodo; remove it and download again") from error
    if not described:
        raise DataError(f"{path}: no file of the record is called like {names.pattern}; get the files elsewhere")
    return sorted(described, key=lambda archive: archive.name)


def _described(file: dict[str, Any], path: Path, limit: int) -> Archive:
    """One file of a record. Raises DataError for what cannot be checked or must not be fetched."""
    name, size, checksum, url = file["key"], file["size"], file["checksum"], file["links"]["self"]
    md5 = re.fullmatch(r"md5:([0-9a-f]{32})", checksum)
    if not md5 or not SAFE_NAME.fullmatch(name) or type(size) is not int or not url.startswith(ZENODO):
        raise DataError(
            f"{path}: {printable(name)} has no plain name, size, md5 or address of Zenodo; remove the description and "
            "download again"
        )
    if not 0 < size <= limit:
        raise DataError(f"{path}: {name} has {size} bytes, expected at most {limit}; it is not the expected record")
    return Archive(name, url, size, md5[1])


def _read_lock(folder: Path) -> dict[str, ExactFile]:
    path = folder / LOCK
    if not path.exists():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        locked = {name: ExactFile(facts["size"], facts["sha256"]) for name, facts in entries.items()}
        sound = all(type(p.size) is int and re.fullmatch("[0-9a-f]{64}", p.sha256) for p in locked.values())
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        sound = False
    if not sound:
        raise DataError(f"{path}: not a list of locked archives; remove it to trust the archives as they are now")
    return locked


def _write_lock(folder: Path, name: str, seen: ExactFile) -> None:
    locked = {**_read_lock(folder), name: seen}
    entries = {name: {"size": pin.size, "sha256": pin.sha256} for name, pin in locked.items()}
    with convert_disk_errors(folder):
        write_atomic(folder / LOCK, json.dumps(entries, indent=2, sort_keys=True) + "\n")


def _trust_anew(path: Path) -> str:
    return f"If it was published anew and you trust that, remove the entry {path.name} from {path.parent / LOCK}"
