"""Split lists: reading them whatever the editor did to them, and checking that they are the ones meant."""

from __future__ import annotations

import csv
import difflib
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.errors import LabelError, ManifestError, PinMismatchError, SplitLeakError

LABEL_HEADERS = {"label", "labels", "class", "category", "emotion"}


@dataclass(frozen=True)
class Pin:
    """One exact file: as it is stored, and the same with LF line ends, as forks often store it."""

    size: int
    rows: int
    sha256: str
    sha256_lf: str


def read_pinned(path: Path, pin: Pin | None) -> tuple[str, Counter[str]]:
    """The text of a list. The LF twin of the pinned file is accepted with the note ``list_lf_twin``.

    Raises PinMismatchError for any other file, unless ``pin`` is None, and ManifestError for one that is not text.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot be read as text ({error})") from error
    notes: Counter[str] = Counter()
    if pin:
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


def parse(text: str, path: Path, classes: Sequence[str]) -> tuple[list[tuple[str, int]], Counter[str]]:
    """Rows ``id,label[,...]`` -> (id, class number) in order, and counts of what was odd.

    Any line ends, blank lines, blanks around fields, quotes and a header are fine; further columns are ignored and
    counted; a row that occurs twice is kept once and counted. Raises ManifestError for a row with fewer columns,
    LabelError for labels that are not classes and for an id with two labels.
    """
    rows: dict[str, int] = {}
    notes: Counter[str] = Counter()
    unknown: list[str] = []
    reader = csv.reader(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), skipinitialspace=True)
    first = True
    for fields in reader:
        fields = [field.strip() for field in fields]
        if not any(fields):
            continue
        if len(fields) < 2 or not fields[0]:
            raise ManifestError(f"{path}, line {reader.line_num}: {','.join(fields)!r} is not `id,label`")
        name, label = fields[:2]
        if first and label not in classes and label.lower() in LABEL_HEADERS:
            first = False
            continue
        first = False
        notes["list_extra_columns"] += len(fields) > 2
        if label not in classes:
            near = difflib.get_close_matches(label.upper(), classes, 1)
            unknown.append(f"line {reader.line_num}: {label!r}" + (f" (nearest class: {near[0]})" if near else ""))
            continue
        number = list(classes).index(label)
        notes["list_repeated_rows"] += name in rows
        if rows.setdefault(name, number) != number:
            raise LabelError(
                f"{path}, line {reader.line_num}: {name} has two labels, {classes[rows[name]]} and {label}"
            )
    if unknown:
        raise LabelError(f"{path}: {len(unknown)} labels are none of {', '.join(classes)}: {'; '.join(unknown[:10])}")
    return list(rows.items()), +notes


def refuse_leaks(splits: Mapping[str, Sequence[tuple[str, int]]]) -> None:
    """Raises SplitLeakError if an id stands in two splits."""
    where: dict[str, str] = {}
    leaks = []
    for split, rows in splits.items():
        leaks += [f"{name} ({where[name]} and {split})" for name, _ in rows if where.setdefault(name, split) != split]
    if leaks:
        more = ", ..." if len(leaks) > 10 else ""
        raise SplitLeakError(f"{len(leaks)} samples stand in two splits: {', '.join(leaks[:10])}{more}")
