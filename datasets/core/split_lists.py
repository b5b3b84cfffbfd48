"""Split lists: reading them whatever the editor did to them, and checking that they are the ones meant."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.core.checks import advice
from datasets.core.errors import LabelError, ManifestError, PinMismatchError, SplitLeakError
from ogm.registry import closest

LABEL_HEADERS = {"label", "labels", "class", "category", "emotion"}


def class_names(text: str) -> tuple[str, ...]:
    """The names of classes in a text that separates them by `` | `` and may break its lines anywhere."""
    return tuple(" ".join(text.split()).split(" | "))


@dataclass(frozen=True)
class Pin:
    """One exact file: as it is stored, and the same with LF line ends, as forks often store it."""

    size: int
    rows: int
    sha256: str
    sha256_lf: str


@dataclass(frozen=True)
class GitBlob:
    """A file known by its git blob id alone, or several that are as good: sha1 of ``blob SIZE``, a zero, the bytes."""

    ids: tuple[str, ...]
    limit: int  # bytes that are more than enough for it

    def fits(self, data: bytes) -> bool:
        """Whether these bytes are one of the files."""
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() in self.ids


def read_pinned(path: Path, pin: Pin | GitBlob | None) -> tuple[str, Counter[str]]:
    """The text of a split list.

    Args:
        path: The list.
        pin: The file it has to be; the same file with LF line ends is accepted too. None: any file will do.

    Returns:
        Its text, and the note ``list_lf_twin`` where its line ends are not the published ones.

    Raises:
        PinMismatchError: It is another file than ``pin``.
        ManifestError: It cannot be read, or is no text.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        help_ = advice(error, "get the file again")
        raise ManifestError(f"{path}: cannot be read ({error.strerror}); {help_}") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: cannot be read as text ({error}); get the file again") from error
    notes: Counter[str] = Counter()
    if isinstance(pin, GitBlob):
        if not pin.fits(data) and not pin.fits(data.replace(b"\r\n", b"\n")):
            raise PinMismatchError(
                f"{path}: not the published list: {len(data)} bytes, {len(text.splitlines())} rows, sha256 "
                f"{hashlib.sha256(data).hexdigest()}; expected git blob {' or '.join(pin.ids)}; download it again, or "
                "say allow_unpinned=true"
            )
    elif pin:
        found = hashlib.sha256(data).hexdigest()
        twin = hashlib.sha256(data.replace(b"\r\n", b"\n")).hexdigest()
        if found != pin.sha256 and twin == pin.sha256_lf:
            notes["list_lf_twin"] = 1
        elif found != pin.sha256:
            raise PinMismatchError(
                f"{path}: not the published list: {len(data)} bytes, {len(text.splitlines())} rows, sha256 "
                f"{found}; expected {pin.size} bytes, {pin.rows} rows, {pin.sha256}; download it "
                "again, or say allow_unpinned=true"
            )
    return text, notes


def records(text: str, path: Path, shape: str, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """The rows of a list that are not blank, with any line ends and quotes.

    Args:
        text: The list's content.
        path: The list, for messages.
        shape: What a row looks like, such as ``id,label``; it says how many fields there have to be.
        delimiter: What separates fields.

    Yields:
        (line number, fields without blanks around them).

    Raises:
        ManifestError: A row has fewer fields than ``shape``, or an empty first one; or quotes are not closed.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    try:
        for fields in reader:
            fields = [field.strip() for field in fields]
            if not any(fields):
                continue
            if len(fields) <= shape.count(delimiter) or not fields[0]:
                raise ManifestError(
                    f"{path}, line {reader.line_num}: {delimiter.join(fields)[:200]!r} is not `{shape}`"
                )
            yield reader.line_num, fields
    except csv.Error as error:
        raise ManifestError(f"{path}, line {reader.line_num}: {error}; get the list again") from error


def collect(
    named: Iterable[tuple[int, str, str]], path: Path, classes: Sequence[str]
) -> tuple[list[tuple[str, int]], Counter[str]]:
    """Samples and their class numbers, in the order of a list. A row that occurs twice is kept once and counted.

    Args:
        named: (line number, id, label) of every row. A first row whose label is the name of a column is a header.
        path: The list, for messages.
        classes: The names of the classes; a label's number is its position.

    Returns:
        (id, class number) in order, and notes (``list_repeated_rows``).

    Raises:
        LabelError: A label is no class (the message names the nearest one), or an id has two labels.
    """
    rows: dict[str, int] = {}
    notes: Counter[str] = Counter()
    unknown: list[str] = []
    place = {name: number for number, name in enumerate(classes)}
    for row, (line, name, label) in enumerate(named):
        if label not in place:
            if row or label.lower() not in LABEL_HEADERS:
                near = closest(label[:80], classes)
                unknown.append(f"line {line}: {label[:80]!r}" + (f" (nearest class: {near[0]})" if near else ""))
            continue
        notes["list_repeated_rows"] += name in rows
        if rows.setdefault(name, place[label]) != place[label]:
            raise LabelError(f"{path}, line {line}: {name[:80]} has two labels, {classes[rows[name]]} and {label}")
    if unknown:
        known = ", ".join(classes[:40]) + (", ..." if len(classes) > 40 else "")
        raise LabelError(f"{path}: {len(unknown)} labels are none of {known}: {'; '.join(unknown[:10])}")
    return list(rows.items()), +notes


def parse(text: str, path: Path, classes: Sequence[str]) -> tuple[list[tuple[str, int]], Counter[str]]:
    """Reads a list of rows ``id,label``; further columns are ignored and counted. See ``records`` and ``collect``.

    Args:
        text: The list's content.
        path: The list, for messages.
        classes: The names of the classes.

    Returns:
        (id, class number) in order, and notes.

    Raises:
        ManifestError: A row is not ``id,label``.
        LabelError: A label is no class, or an id has two labels.
    """
    found = list(records(text, path, "id,label"))
    rows, notes = collect(((line, fields[0], fields[1]) for line, fields in found), path, classes)
    header = int(bool(found) and found[0][1][1] not in classes)
    notes["list_extra_columns"] += sum(len(fields) > 2 for _, fields in found[header:])
    return rows, +notes


def refuse_leaks(splits: Mapping[str, Sequence[tuple[str, int]]]) -> None:
    """Checks that no sample stands in two splits.

    Args:
        splits: Split -> (id, class number).

    Raises:
        SplitLeakError: An id stands in two splits; up to ten are named.
    """
    first_split: dict[str, str] = {}
    leaks = []
    for split, rows in splits.items():
        leaks += [
            f"{name} ({first_split[name]} and {split})"
            for name, _ in rows
            if first_split.setdefault(name, split) != split
        ]
    if leaks:
        more = ", ..." if len(leaks) > 10 else ""
        raise SplitLeakError(f"{len(leaks)} samples stand in two splits: {', '.join(leaks[:10])}{more}")


def describe_list(path: Path) -> str:
    """One line on a list as it lies there: rows, line ends, byte order mark, digest."""
    data = path.read_bytes()
    crlf, lf = data.count(b"\r\n"), data.count(b"\n")
    ends = "CRLF" if crlf and crlf == lf else "LF" if lf and not crlf else "mixed line ends" if lf else "one line"
    mark = "a byte order mark" if data.startswith(b"\xef\xbb\xbf") else "no byte order mark"
    rows = sum(bool(line.strip()) for line in data.splitlines())
    return f"{path.name}: {rows} rows, {ends}, {mark}, sha256 {hashlib.sha256(data).hexdigest()[:12]}"
