"""Fingerprints of generated data, kept so that a recorded run is recognised without generating its data again."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from pathlib import Path

import numpy as np

from benchmarks.records.record import Unwritable, write_whole
from datasets.registry import DATASETS
from ogm.registry import find

ROOT = Path(__file__).resolve().parents[2]


class Fingerprints:
    """The fingerprints of one data set with these options, below the folder of temporary files.

    They are kept for a data set of the project whose class says that it is ``generated``: drawn from options alone. The
    file is named after the options, the source of all data sets and of their seeds, and NumPy's version, so that
    whatever could draw other samples asks anew. The source of a class from elsewhere is not known, so nothing is kept.

    Args:
        work: The folder of temporary files.
        dataset: The data set.
        arguments: Its name and options, as text.
    """

    def __init__(self, work: Path, dataset: str, arguments: str) -> None:
        self._path: Path | None = None
        cls = find(dataset, DATASETS, "dataset")
        if cls.generated and cls.__module__.startswith("datasets."):
            word = hashlib.sha256(f"{arguments} {_source_digest()} numpy {np.__version__}".encode()).hexdigest()[:16]
            self._path = work / "fingerprints" / f"{word}.json"

    def read(self) -> dict[str, str] | None:
        """Split -> fingerprint; None where there are none, or the file is not whole."""
        if self._path is None or not self._path.is_file():
            return None
        try:
            found = json.loads(self._path.read_bytes())
        except (ValueError, RecursionError):
            return None
        whole = isinstance(found, dict) and all(isinstance(word, str) for word in found.values())
        return found if whole and sorted(found) == ["test", "train", "val"] else None

    def write(self, found: dict[str, str]) -> None:
        """Keep them, if there is a folder of temporary files: a command that is refused leaves none behind.

        One that cannot be written to costs time, and nothing else.
        """
        if self._path is not None and self._path.parents[1].is_dir():
            with contextlib.suppress(Unwritable):
                write_whole(self._path, json.dumps(found))


@functools.cache
def _source_digest() -> str:
    """The sha256 of every module of ``datasets``, and of the one that derives seeds."""
    digest = hashlib.sha256()
    for path in [*sorted((ROOT / "datasets").rglob("*.py")), ROOT / "ogm" / "seeds.py"]:
        digest.update(path.read_bytes())
    return digest.hexdigest()
