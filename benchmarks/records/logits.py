"""The logits of a results folder: an archive per run while runs are made, one for all beside the packed records.

Both are .npz files, which ``numpy.load`` reads. Their arrays are called ``<key>/val``, ``<key>/test`` (see
``Predictions``), ``<key>/val_label`` and ``<key>/test_label``, and are of the epoch that validation selected.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from benchmarks.records.predictions import Predictions
from benchmarks.records.record import SCORED, RunRecord, write_whole, writing
from datasets.core.checks import open_member, printable
from datasets.core.files import open_atomic
from datasets.decode.arrays import values_of

PACK = "logits.npz"
LARGEST = 2**26  # bytes of one array: VGGSound's test split, with three modalities, has 38 million


def logits_path(folder: Path, record: RunRecord) -> Path:
    """Where the logits of a run are, in a file of their own, below a results folder."""
    place = record.path(Path())
    return folder.joinpath("logits", *place.parts[1:]).with_suffix(".npz")


def save(folder: Path, record: RunRecord, kept: Mapping[str, Predictions]) -> None:
    """Write the logits of a run, whole or not at all.

    Args:
        folder: The results folder.
        record: The run's record.
        kept: Split -> what was predicted at the selected epoch.

    Raises:
        Unwritable: The file cannot be written.
    """
    content = io.BytesIO()
    _write(content, [(f"{record.key}/{name}.npy", array) for name, array in _arrays(kept)])
    write_whole(logits_path(folder, record), content.getvalue())


def check_file(record: RunRecord, content: bytes) -> None:
    """Check the content of a file that ``save`` has written on another machine.

    Raises:
        ValueError: It is damaged, or not that of the record.
    """
    path = logits_path(Path(), record)
    with _readable(path), zipfile.ZipFile(io.BytesIO(content)) as archive:
        found = _read(archive, record)
    _checked(record, found or {}, path)


def save_file(folder: Path, record: RunRecord, content: bytes) -> None:
    """Write such a content, whole or not at all, where ``save`` would have. Raises Unwritable."""
    write_whole(logits_path(folder, record), content)


def _arrays(kept: Mapping[str, Predictions]) -> Iterator[tuple[str, np.ndarray]]:
    for split, predictions in kept.items():
        yield split, predictions.logits.astype("<f2")
        yield f"{split}_label", predictions.label.astype("<i4")


def _write(file: IO[bytes], arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    """The same arrays give the same bytes: entries have no date."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays:
            entry = zipfile.ZipInfo(name)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as member:
                npy.write_array(member, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)


class Logits:
    """The logits of a results folder, to read. Close it, or use it in a ``with``; a packed file is opened once.

    Args:
        folder: The results folder.

    Raises:
        ValueError: The packed file is no archive.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._stack = folder, contextlib.ExitStack()
        self._packed: zipfile.ZipFile | None = None
        if (folder / PACK).exists():
            with _readable(folder / PACK):
                self._packed = self._stack.enter_context(zipfile.ZipFile(folder / PACK))

    def __enter__(self) -> Logits:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def of(self, record: RunRecord) -> dict[str, Predictions] | None:
        """What a run predicted at the epoch that validation selected.

        Returns:
            Split -> predictions; None where there are none.

        Raises:
            ValueError: They are damaged, or not those of the record.
        """
        if not record.logits:
            return None
        single = logits_path(self.folder, record)
        if single.exists():
            with _readable(single), zipfile.ZipFile(single) as archive:
                found = _read(archive, record)
            if found is not None and _fits(record, found):
                return found
        if self._packed is not None:
            with _readable(self.folder / PACK):
                packed = _read(self._packed, record)
            if packed is not None:
                return _checked(record, packed, self.folder / PACK)
        return None if not single.exists() else _checked(record, found or {}, single)

    def packed_keys(self) -> set[str]:
        """The keys of the runs in the packed file."""
        names = [] if self._packed is None else self._packed.namelist()
        return {name.partition("/")[0] for name in names}


def _read(archive: zipfile.ZipFile, record: RunRecord) -> dict[str, Predictions] | None:
    try:
        archive.getinfo(f"{record.key}/{SCORED[0]}.npy")
    except KeyError:
        return None
    found = {}
    for split in SCORED:
        logits, label = (_array(archive, f"{record.key}/{name}.npy") for name in (split, f"{split}_label"))
        heads = 1 + len(record.modalities)
        if logits.dtype != np.float16 or logits.ndim != 3 or len(logits) != heads or label.shape != logits.shape[1:2]:
            raise ValueError(f"{record.key}/{split}: not the logits of {heads} heads with their labels")
        if label.dtype.kind != "i" or label.min() < 0 or label.max() >= logits.shape[2]:
            raise ValueError(f"{record.key}/{split}_label: not class numbers below {logits.shape[2]}")
        found[split] = Predictions(logits, label.astype(np.int64), tuple(record.modalities))
    return found


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    entry = archive.getinfo(name)
    if entry.file_size > LARGEST:
        raise ValueError(f"{name}: {entry.file_size} bytes, and no logits have more than {LARGEST}")
    with open_member(archive, entry) as file:
        return values_of(file, entry.file_size)  # to the end, where the checksum is compared


def _fits(record: RunRecord, kept: Mapping[str, Predictions]) -> bool:
    return {split: predictions.digest for split, predictions in kept.items()} == dict(record.logits)


def _checked(record: RunRecord, kept: dict[str, Predictions], path: Path) -> dict[str, Predictions]:
    if not _fits(record, kept):
        raise ValueError(f"{path}: the logits of {record.key} are not those that its record has the digest of")
    return kept


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns whatever is wrong with an archive into one line."""
    try:
        yield
    except Exception as error:  # damage may come out of zipfile, zlib or numpy's header parser in any shape
        raise ValueError(f"{path} is damaged ({printable(error)}): restore it, or make its runs again") from None


def pack(folder: Path, records: Iterable[RunRecord]) -> None:
    """Put the logits of all records into one file. Single files whose records are packed are no longer needed then.

    Args:
        folder: The results folder.
        records: All its records.

    Raises:
        ValueError: A file is damaged, or not that of its record.
        Unwritable: The file cannot be written.
    """
    with Logits(folder) as logits:
        arrays = (
            (f"{record.key}/{name}.npy", array)
            for record in records
            for name, array in _arrays(logits.of(record) or {})
        )
        if (first := next(arrays, None)) is None:
            return
        with writing(folder / PACK), open_atomic(folder / PACK) as file:
            _write(file, itertools.chain([first], arrays))
