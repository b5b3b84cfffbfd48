"""Published split lists, and lists of files with their digests: where they are, and the rows that are read of them."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
import zlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datasets.core.checks import printable
from datasets.core.errors import ManifestError, PinMismatchError
from datasets.core.progress import Progress
from datasets.core.split_lists import GitBlob, Pin, describe_list
from datasets.storage.download import ExactFile, fetch

Rows = list[tuple[str, int]]  # (sample, class number)
EXACT_LIST_BYTES = 4 << 20  # of a list of files, unpacked; the longest has 1.5 MB


@dataclass(frozen=True)
class ListFile:
    """A split list: its name in ``splits/``, where it is published, and which bytes it has."""

    name: str
    url: str
    pin: Pin | GitBlob

    def fetch(self, folder: Path, base: str | None, progress: Progress | None) -> None:
        """Downloads it into ``folder``, from under ``base`` if that is given, unless it is there already.

        Raises:
            DataError: The server fails, or sends another file than the pinned one.
        """
        path, url = folder / self.name, f"{base}/{self.name}" if base else self.url
        if isinstance(self.pin, Pin):
            fetch(url, path, ExactFile(self.pin.size, self.pin.sha256), progress=progress)
        elif not (path.is_file() and self.pin.fits(path.read_bytes())):
            fetch(url, path, None, limit=self.pin.limit, progress=progress)
            if not self.pin.fits(path.read_bytes()):
                found = describe_list(path)
                path.unlink()
                raise PinMismatchError(f"{url}: got {found}; expected git blob {' or '.join(self.pin.ids)}; try again")


def read_exact_files(path: Path) -> dict[str, ExactFile]:
    """Reads a gzipped CSV of this repository: a header, then name, size in bytes and sha256 of each file.

    Raises:
        ManifestError: It is not there, damaged, or another file.
    """
    files: dict[str, ExactFile] = {}
    try:
        with gzip.open(path) as packed:
            text = packed.read(EXACT_LIST_BYTES + 1).decode("ascii")
        if len(text) > EXACT_LIST_BYTES:
            raise ValueError(f"unpacks to more than {EXACT_LIST_BYTES} bytes")
        header, *rows = csv.reader(io.StringIO(text), strict=True)
        if header[1:] != ["bytes", "sha256"]:
            raise ValueError("without the columns bytes and sha256")
        for name, size, digest in rows:
            if not re.fullmatch("[0-9]{1,15}", size) or not re.fullmatch("[0-9a-f]{64}", digest):
                raise ValueError(f"{name[:80]}: {size[:20]} bytes with sha256 {digest[:64]}")
            files[name] = ExactFile(int(size), digest)
    except (OSError, EOFError, zlib.error, csv.Error, ValueError) as error:
        reason = printable(error)
        raise ManifestError(f"{path}: not the list that this repository has ({reason}); get it again") from error
    return files


def carve(
    train: Rows, share: int, least: int, key: Callable[[str], str], group: Callable[[str], str]
) -> tuple[Rows, Rows]:
    """Takes a validation set out of the training set, by a fixed rule.

    Args:
        train: (sample, class number) of the training set.
        share: Percent of each class, in the order of the sha256 of their keys, that validate.
        least: At least so many of each class.
        key: Sample -> what is hashed.
        group: Sample -> its source; all samples of a source go to the same side.

    Returns:
        What is left of train, and val.
    """
    by_class: dict[int, list[str]] = defaultdict(list)
    for name, label in train:
        by_class[label].append(name)
    val: set[str] = set()
    for names in by_class.values():
        names.sort(key=lambda name: hashlib.sha256(key(name).encode()).hexdigest())
        val.update(group(name) for name in names[: max(len(names) * share // 100, least)])
    return [row for row in train if group(row[0]) not in val], [row for row in train if group(row[0]) in val]
