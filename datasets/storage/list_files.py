"""Published split lists: what they are called, where they are, and the rows that are read from them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datasets.core.errors import PinMismatchError
from datasets.core.progress import Progress
from datasets.core.split_lists import GitBlob, Pin, describe_list
from datasets.storage.download import ExactFile, fetch

Rows = list[tuple[str, int]]  # (sample, class number)


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
