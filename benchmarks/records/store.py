"""The records of a results folder: single files while runs are made, one packed file to keep, share and commit.

The working form is one file per run below ``records/``. The packed form is ``records.jsonl.gz``, one record per line of
JSON, sorted by the paths that the single files have, with the index ``records.csv``. A folder may have both. So it is
with logits (see ``logits.py``), which are packed together with the records.
"""

from __future__ import annotations

import csv
import functools
import gc
import gzip
import io
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.records import logits
from benchmarks.records.record import RunRecord, read_whole, write_whole

PACK, INDEX = "records.jsonl.gz", "records.csv"
COLUMNS = ("key", "dataset", "fusion", "method", "seed", "status", "line")
LONGEST, MOST = 2**26, 2**31  # bytes of one record, and of all in a file: more is no records file


@dataclass(frozen=True)
class _Pack:
    """The content of a packed file: one record per line, and the line of each key (from 0)."""

    path: Path
    lines: Sequence[str]
    rows: Sequence[dict[str, str]] | None  # the index, if there is one
    line_of: dict[str, int]

    def record(self, line: int) -> RunRecord:
        """Raises ValueError, in one line, for what is no record, or not the one that the index has there."""
        return _record(self.path, line, self.lines[line], None if self.rows is None else self.rows[line])


def _record(path: Path, line: int, text: str, row: Mapping[str, str] | None) -> RunRecord:
    """The record of one line (from 0), which its row of the index, if there is one, must fit. Raises ValueError."""
    try:
        made = RunRecord.from_line(text)
        if row is not None and _row(made, line) != row:
            raise ValueError(
                f"{INDEX} has something else there; `python -m benchmarks pack {path.parent}` writes it anew"
            )
    except (ValueError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{path}, line {line + 1}, cannot be used: {why}; restore the file") from None
    return made


def _row(record: RunRecord, line: int) -> dict[str, str]:
    config = record.config
    values = (record.key, config["dataset"], config["fusion"], config["method"], config["seed"], record.status)
    return dict(zip(COLUMNS, map(str, (*values, line + 1)), strict=True))


def _packed(folder: Path, *, indexed: bool = True) -> _Pack | None:
    """The packed file of a folder; without ``indexed`` whatever its index says."""
    path, index = folder / PACK, folder / INDEX
    if not path.exists():
        return None
    return _open(path, _stamp(path), _stamp(index) if indexed and index.exists() else None)


def _stamp(path: Path) -> tuple[int, int]:
    return path.stat().st_mtime_ns, path.stat().st_size


@functools.lru_cache(maxsize=8)
def _open(path: Path, written: tuple[int, int], indexed: tuple[int, int] | None) -> _Pack:
    """``written`` and ``indexed`` say when the two files were: changed ones are read again."""
    lines = list(_lines(path))
    if indexed is None:
        records = [_Pack(path, lines, None, {}).record(i) for i in range(len(lines))]
        return _Pack(path, lines, None, {record.key: i for i, record in enumerate(records)})
    rows = _index(path)
    if len(rows) != len(lines):
        raise _other_index(path)
    return _Pack(path, lines, rows, {row["key"]: i for i, row in enumerate(rows)})


def _index(path: Path) -> list[dict[str, str]]:
    """The rows of a packed file's index. Raises ValueError where it is not readable, or none of a packed file."""
    index = path.with_name(INDEX)
    try:
        rows = list(csv.DictReader(io.StringIO(index.read_text(), newline=""), strict=True))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{index} is not readable: {' '.join(str(error).split())}; restore it") from None
    numbers = [row.get("line") for row in rows]
    if numbers != [str(i + 1) for i in range(len(rows))] or len({row.get("key") for row in rows}) != len(rows):
        raise _other_index(path)
    return rows


def _other_index(path: Path) -> ValueError:
    return ValueError(
        f"{path.with_name(INDEX)} is not the index of {path.name}: `python -m benchmarks pack {path.parent}` writes it "
        "anew"
    )


def _lines(path: Path) -> Iterator[str]:
    """The lines of a packed file, one at a time. Raises ValueError where it is damaged."""
    total = 0
    try:
        with gzip.open(path, "rb") as file:
            while line := file.readline(LONGEST):
                total += len(line)
                if not line.endswith(b"\n") or total > MOST:
                    raise ValueError("a line is cut off, or there is more than any records need")
                yield line.decode()
    except (EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:
        raise ValueError(f"{path} is damaged ({' '.join(str(error).split())}): restore it") from None


def find_record(folder: Path, path: Path) -> RunRecord | None:
    """The record of one run, in either form.

    Args:
        folder: The results folder.
        path: Where the run's record is in the working form (``record_path``).

    Returns:
        None where there is no record, or only a piece of one (see ``read_whole``).

    Raises:
        ValueError: The record cannot be used, or its two forms differ.
    """
    single, pack = read_whole(path), _packed(folder)
    line = None if pack is None else pack.line_of.get(path.stem.rpartition("-")[2])
    packed = None if pack is None or line is None else pack.record(line)
    return single if packed is None else packed if single is None else _same(folder, single, packed)


def _same(folder: Path, single: RunRecord, packed: RunRecord) -> RunRecord:
    """The single file's record, which replaces a packed one that was not done. Raises ValueError where they differ."""
    if packed.status != "done" or packed.result_digest == single.result_digest:
        return single
    raise ValueError(
        f"{single.path(folder)} has another result than the same run in {PACK}: delete the file, or put it in the "
        f"other's place: python -m benchmarks pack {folder} --overwrite"
    )


def read_records(
    folder: Path, *, overwrite: bool = False, indexed: bool = True, only: Collection[str] | None = None
) -> Iterator[RunRecord]:
    """Every record of a results folder: those of the packed file, then those that have a file of their own alone.

    One is read at a time, so that what is not kept takes no memory.

    Args:
        folder: The results folder.
        overwrite: Whether a single file's record replaces a packed one with another result.
        indexed: Whether the packed file's index must fit it.
        only: The keys of the records that are wanted, to go on with: pieces of files are set aside (``read_whole``).

    Raises:
        ValueError: A record cannot be used, or its two forms differ.
    """
    paths = sorted((folder / "records").rglob("*.json"))
    singles = {path.relative_to(folder): path for path in paths if only is None or _key_in(path) in only}
    read = RunRecord.load if only is None else read_whole
    for packed in _packed_records(folder, indexed, only):
        path = singles.pop(packed.path(Path()), None)
        single = None if path is None else read(path)
        yield packed if single is None else single if overwrite else _same(folder, single, packed)
    for path in singles.values():
        if (record := read(path)) is not None:
            yield record


def records_by_key(folder: Path) -> dict[str, RunRecord]:
    """Every record of a results folder by its key. Raises ValueError as ``read_records``."""
    enabled = gc.isenabled()
    gc.disable()  # all are kept: to look for garbage among them takes as long as to read them
    try:
        return {record.key: record for record in read_records(folder)}
    finally:
        if enabled:
            gc.enable()


def _packed_records(folder: Path, indexed: bool, only: Collection[str] | None) -> Iterator[RunRecord]:
    path = folder / PACK
    if not path.exists():
        return
    rows = _index(path) if indexed and path.with_name(INDEX).exists() else None
    count = 0
    for line, text in enumerate(_lines(path)):
        if rows is not None and line >= len(rows):
            raise _other_index(path)
        count += 1
        row = None if rows is None else rows[line]
        if only is None or row is None or row["key"] in only:
            record = _record(path, line, text, row)
            if only is None or record.key in only:
                yield record
    if rows is not None and count != len(rows):
        raise _other_index(path)


def recorded_keys(folder: Path) -> set[str]:
    """The keys of the runs that have a record of any kind, without reading the records."""
    keys = {_key_in(path) for path in (folder / "records").rglob("*.json")}
    path = folder / PACK
    if path.with_name(INDEX).exists() and path.exists():
        return keys | {row["key"] for row in _index(path)}
    pack = _packed(folder)
    return keys if pack is None else keys | pack.line_of.keys()


def _key_in(path: Path) -> str:
    """The key in the name of a record's own file."""
    return path.stem.rpartition("-")[2]


def each_record(folder: Path) -> Iterator[tuple[str, RunRecord | ValueError]]:
    """Every record of a results folder by itself, so that one that cannot be used does not hide the others.

    Yields:
        Where it is, such as ``records.jsonl.gz, line 3``, and the record, or what is wrong with it, in one line.
    """
    for path in sorted((folder / "records").rglob("*.json")):
        try:
            yield str(path.relative_to(folder)), RunRecord.load(path)
        except ValueError as error:
            yield str(path.relative_to(folder)), error
    path, index = folder / PACK, folder / INDEX
    if not path.exists():
        return
    try:
        pack = _open(path, _stamp(path), _stamp(index) if index.exists() else (0, 0))
    except (ValueError, OSError) as error:
        yield PACK, ValueError(str(error))
        return
    for line in range(len(pack.lines)):
        try:
            yield f"{PACK}, line {line + 1}", pack.record(line)
        except ValueError as error:
            yield f"{PACK}, line {line + 1}", error


def records_of(folder: Path, key: str) -> Iterator[RunRecord]:
    """The records of a results folder whose keys begin with ``key``, without reading the others.

    Raises:
        ValueError: One of them cannot be used, or its two forms differ.
    """
    pack = _packed(folder)
    lines = {} if pack is None else {k: line for k, line in pack.line_of.items() if k.startswith(key)}
    singles = {path.stem.rpartition("-")[2]: path for path in sorted((folder / "records").rglob(f"*-{key}*.json"))}
    for match in sorted({*lines, *singles}):
        packed = pack.record(lines[match]) if pack is not None and match in lines else None
        if match not in singles:
            assert packed is not None
            yield packed
        else:
            single = RunRecord.load(singles[match])
            yield single if packed is None else _same(folder, single, packed)


def pack(folder: Path, *, overwrite: bool = False) -> Path:
    """Put all records of a results folder into one file, with an index, their logits into another; delete single files.

    Args:
        folder: The results folder.
        overwrite: Whether a single file's record replaces a packed one with another result.

    Returns:
        The packed file. The same records give the same bytes.

    Raises:
        ValueError: There is no record, a record or its logits cannot be used, or the two forms of one differ.
        Unwritable: A file cannot be written.
    """
    found: dict[Path, tuple[RunRecord, bytes]] = {}  # of each only an outline and its compressed text are kept
    size = 0
    for record in read_records(folder, overwrite=overwrite, indexed=False):
        text = record.text(indent=None).encode()
        size += len(text)
        found[record.path(Path())] = record.outline(), zlib.compress(text, 1)
    if not found:
        raise ValueError(f"{folder}: there is no record to pack")
    if size > MOST:
        raise ValueError(f"{folder}: its records have {size} bytes, and {PACK} can have {MOST}: use several folders")
    places = sorted(found, key=lambda place: place.parts)
    content, table = io.BytesIO(), io.StringIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=content, mtime=0) as file:
        for place in places:
            file.write(zlib.decompress(found[place][1]))
    records = [found[place][0] for place in places]
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(record, i) for i, record in enumerate(records))
    logits.pack(folder, records)
    (folder / INDEX).unlink(missing_ok=True)  # a kill before the new one is there leaves a file that can be read
    write_whole(folder / PACK, content.getvalue())
    write_whole(folder / INDEX, table.getvalue())
    for record in records:
        record.path(folder).unlink(missing_ok=True)
        logits.logits_path(folder, record).unlink(missing_ok=True)
    for name in ("records", "logits"):
        _remove_empty(folder / name)
    return folder / PACK


def _remove_empty(folder: Path) -> None:
    """Remove a folder and those below it, as far as nothing else is in them."""
    for place in [*sorted(folder.rglob("*"), reverse=True), folder]:
        with suppress(OSError):
            place.rmdir()


def results_folders(root: Path) -> list[Path]:
    """The results folders at and below a folder, in order of their paths."""
    found = {path.parent for name in (PACK, "records") for path in root.rglob(name)}
    return sorted(found, key=lambda folder: folder.parts)
