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

SOURCE = Path(__file__).resolve().parents[2] / "datasets"


class Fingerprints:
    """The fingerprints of one data set with these options, below the folder of temporary files.

    They are kept for data whose class says that it is ``generated``: drawn from options alone. The file is named after
    the options, the source of all data sets and NumPy's version, so that whatever could draw other samples asks anew.

    Args:
        work: The folder of temporary files.
        dataset: The data set.
        arguments: Its name and options, as text.
    """

    def __init__(self, work: Path, dataset: str, arguments: str) -> None:
        self._path: Path | None = None
        if find(dataset, DATASETS, "dataset").generated:
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
        """Keep them, where that is possible: a folder that cannot be written to costs time, and nothing else."""
        if self._path is not None:
            with contextlib.suppress(Unwritable):
                write_whole(self._path, json.dumps(found))


@functools.cache
def _source_digest() -> str:
    """The sha256 of every module of ``datasets``."""
    digest = hashlib.sha256()
    for path in sorted(SOURCE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
