"""The CSV that describes somebody's own data: read, and every mistake in it named.

Needs no torch, so that a configuration can ask for the modalities before anything is computed.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from string import ascii_letters

from datasets.core.checks import advice
from datasets.core.errors import DataError, LabelError, ManifestError, SplitLeakError
from datasets.core.paths import raw_folder
from ogm.registry import nearest

KINDS = ("audio", "video", "frames", "image", "npy", "npz", "text")
REQUIRED = ("id", "split", "label")
REQUIRED_TO_RESPLIT = ("id", "group", "label")  # where ``folds`` decides who is in which split
OPTIONAL = ("start", "end", "group", "weight")
SPLITS = ("train", "val", "test")
MODALITY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
EXAMPLE = "id,split,label,audio:audio,visual:video"
EXAMPLE_TO_RESPLIT = "id,group,label,audio:audio,visual:video (group: the speaker, the clip, or the id)"
MAX_SHOWN = 10  # mistakes in one message
LARGEST = 1 << 29  # bytes of a CSV


@dataclass(frozen=True)
class Sample:
    """One row. ``files[m]`` is a path below the root, "" where the modality is missing; start and end are seconds."""

    line: int
    id: str
    split: str
    label: str
    files: dict[str, str]
    start: float = 0.0
    end: float = math.inf
    group: str = ""
    weight: float = 1.0


@dataclass(frozen=True)
class Listing:
    """``kinds`` (modality -> what its column holds), the rows in order, the classes in theirs, columns not read."""

    kinds: dict[str, str]
    samples: list[Sample]
    classes: tuple[str, ...]
    weighted: bool
    unread: tuple[str, ...]


def csv_path(path: str) -> Path:
    """The CSV that the option ``path`` names; data/manifest/manifest.csv where it is empty."""
    return Path(path) if path else raw_folder("manifest") / "manifest.csv"


@dataclass(frozen=True)
class Outline:
    """What a run is configured by: ``kinds`` as in ``Listing``, and how many rows each split has by its name."""

    kinds: dict[str, str]
    rows: Counter[str]


def outline(path: Path, resplit: bool = False) -> Outline:
    """Modalities and numbers of rows. Cells are not checked.

    Args:
        path: The CSV. As long as it stays the same, its rows are counted once.
        resplit: As in ``read_manifest``; then all rows count under "".

    Raises:
        ManifestError: The CSV cannot be read, or its header is wrong.
    """
    return _outline(path, resplit, _text(path))


@lru_cache(maxsize=1)
def _outline(path: Path, resplit: bool, text: str) -> Outline:
    lines = _lines(path, text)
    line, header = next(lines, (1, []))
    kinds = _kinds(path, line, header, resplit)
    split = -1 if resplit else header.index("split")
    return Outline(kinds, Counter("" if resplit else cells[split] for _, cells in lines if len(cells) > split))


def read_manifest(
    path: Path, classes: int | None = None, allow_missing: bool = False, resplit: bool = False
) -> Listing:
    """Reads the whole CSV.

    Args:
        path: The CSV.
        classes: How many classes there are, where labels are numbers; None where they are names.
        allow_missing: Whether cells of modalities may be empty.
        resplit: Whether rows are to be split by their groups: each has to have one, and a column split is not read
            (all rows count as train).

    Returns:
        The rows in order, with the kinds of their modalities and the classes.

    Raises:
        ManifestError: Something in it is wrong. Up to ten mistakes, each with line, column and advice.
        SplitLeakError: A sample stands in two splits.
        LabelError: A label is no class, or train has none of a class.
    """
    lines = _lines(path, _text(path))
    number, header = next(lines, (1, []))
    kinds = _kinds(path, number, header, resplit)
    columns = {name: f"{name}:{kind}" for name, kind in kinds.items()}
    mistakes: list[str] = []
    samples: list[Sample] = []
    seen: dict[str, Sample] = {}
    leaks: list[str] = []
    for line, cells in lines:
        if len(cells) != len(header):
            mistakes.append(
                f"line {line}: {len(cells)} fields, the header has {len(header)}; quote fields that hold commas"
            )
            continue
        row = _RowChecker(dict(zip(header, cells, strict=True)), line, mistakes, resplit)
        sample = row.sample(kinds, columns, allow_missing)
        before = seen.setdefault(sample.id, sample) if sample.id else sample
        if before is not sample and before.split == sample.split:
            mistakes.append(f"line {line}, column id: {sample.id!r} is line {before.line} too; name it otherwise")
        elif before is not sample:
            leaks.append(f"{sample.id} (lines {before.line} and {line}: {before.split} and {sample.split})")
        samples.append(sample)
    mistakes += [
        f"column {column}: empty in every row; remove the column"
        for m, column in columns.items()
        if samples and not any(sample.files[m] for sample in samples)
    ]
    parts = ("train",) if resplit else ("train", "test")
    mistakes += [f"no row of {part}; add some" for part in parts if all(s.split != part for s in samples)]
    _raise_mistakes(path, mistakes, ManifestError)
    _raise_mistakes(path, [f"{leak} stands in two splits; remove one of the rows" for leak in leaks], SplitLeakError)
    names = _classes(path, samples, classes)
    _check_labels(path, samples, names)
    read = {*(REQUIRED_TO_RESPLIT if resplit else REQUIRED), *OPTIONAL, *columns.values()}
    return Listing(kinds, samples, names, "weight" in header, tuple(name for name in header if name not in read))


def _check_labels(path: Path, samples: Sequence[Sample], names: Sequence[str]) -> None:
    """Raise LabelError for a label that is no class, and for a class without a row of train."""
    known = set(names)
    _raise_mistakes(path, [_unknown(s, names) for s in samples if s.label not in known], LabelError)
    if absent := sorted(known - {s.label for s in samples if s.split == "train"}):
        raise LabelError(f"{path}: no row of train has the label {', '.join(absent[:MAX_SHOWN])}; add some")


class _RowChecker:
    """One row while it is checked: what is wrong is added to ``mistakes``."""

    def __init__(self, row: dict[str, str], line: int, mistakes: list[str], resplit: bool) -> None:
        self.row, self.line, self.mistakes, self.resplit = row, line, mistakes, resplit

    def sample(self, kinds: Mapping[str, str], columns: Mapping[str, str], allow_missing: bool) -> Sample:
        """The row's sample; ``kinds`` and ``columns`` are those of its modalities."""
        files = {m: self.file(column, kinds[m], allow_missing) for m, column in columns.items()}
        if not any(self.row[column] for column in columns.values()):
            self.mistakes.append(f"line {self.line}: no modality has a file; remove the row")
        sample = Sample(
            self.line,
            self.filled("id"),
            "train" if self.resplit else self.choice("split", SPLITS),
            self.filled("label"),
            files,
            self.number("start", 0.0),
            self.number("end", math.inf),
            self.filled("group") if self.resplit else self.row.get("group", ""),
            self.number("weight", 1.0),
        )
        if not sample.start < sample.end:
            end, start = f"{sample.end:g} s", f"{sample.start:g} s"
            self.mistakes.append(f"line {self.line}, column end: {end} is not behind start, {start}")
        return sample

    def wrong(self, column: str, what: str) -> None:
        self.mistakes.append(f"line {self.line}, column {column}: {what}")

    def filled(self, column: str) -> str:
        if not self.row[column]:
            self.wrong(column, "empty; fill it in")
        return self.row[column]

    def choice(self, column: str, known: Sequence[str]) -> str:
        value = self.row[column]
        if value not in known:
            self.wrong(column, f"{value!r}{nearest(value, known, 'write one of ' + ', '.join(known))}")
        return value

    def number(self, column: str, default: float) -> float:
        text = self.row.get(column, "")
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            self.wrong(column, f"{text!r} is not a number of 0 or more; correct it, or leave it empty")
            return default
        return value

    def file(self, column: str, kind: str, allow_missing: bool) -> str:
        text = self.row[column]
        if not text:
            if not allow_missing:
                self.wrong(column, "empty; name a file, or say allow_missing=true")
            return ""
        path, hash_, member = text.partition("#") if kind == "npz" else (text, "", "")
        if kind == "npz" and not (hash_ and member):
            self.wrong(column, f"{text!r} does not say which array; write {path or 'FILE.npz'}#NAME")
        elif leads_out(path):
            self.wrong(column, f"{text!r} leads out of the folder; write a path below it, with forward slashes")
        return text


def leads_out(path: str) -> bool:
    """Whether a path of a cell is not simply one below the folder: absolute, upwards, or of Windows."""
    drive = path[1:2] == ":" and path[0] in ascii_letters
    return drive or path.startswith("/") or "\\" in path or "\0" in path or ".." in path.split("/")


def _text(path: Path) -> str:
    """What the CSV holds. Raises ManifestError for what is no file, or too large to be a list, before it is read."""
    if path.exists() and not (path.is_file() or path.is_dir()):  # a device or a pipe may have no end
        raise ManifestError(f"{path}: no file; say path=FILE.csv, a CSV that begins {EXAMPLE}")
    try:
        if path.stat().st_size > LARGEST:
            raise ManifestError(f"{path}: more than {LARGEST >> 20} MB; a CSV of so many rows is not read")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ManifestError(
            f"{path}: cannot be read ({error.strerror}); "
            + advice(error, f"say path=FILE.csv, a CSV that begins {EXAMPLE}")
        ) from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _lines(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of the header and every row behind it, without blank lines.

    Comments before the header are left out too.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    skipped = next((i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), 0)
    reader = csv.reader(lines[skipped:], skipinitialspace=True, strict=True)
    try:
        for fields in reader:
            fields = [field.strip() for field in fields]
            if any(fields):
                yield skipped + reader.line_num, fields
    except csv.Error as error:
        raise ManifestError(f"{path}, line {skipped + reader.line_num}: {error}; check its quotes") from error


def _kinds(path: Path, line: int, header: Sequence[str], resplit: bool) -> dict[str, str]:
    required, example = (REQUIRED_TO_RESPLIT, EXAMPLE_TO_RESPLIT) if resplit else (REQUIRED, EXAMPLE)
    mistakes = [f"line {line}: no column {name}; begin like {example}" for name in required if name not in header]
    mistakes += [
        f"line {line}, column {name}: twice; name one otherwise"
        for name in dict.fromkeys(header)
        if header.count(name) > 1
    ]
    kinds: dict[str, str] = {}
    for column in header:
        name, colon, kind = column.partition(":")
        if not colon:
            continue
        if kind not in KINDS:
            advice = nearest(kind, KINDS, f"there are {', '.join(KINDS)}")
            if kind == "flow":
                advice = "; make features of it and give them as npy"
            mistakes.append(f"line {line}, column {column}: {kind!r} is no kind of file{advice}")
        elif not MODALITY.fullmatch(name) or name in kinds:
            mistakes.append(f"line {line}, column {column}: {name!r} is no name of a modality, or used twice")
        else:
            kinds[name] = kind
    if len(kinds) < 2 and not mistakes:
        mistakes.append(f"line {line}: {len(kinds)} columns MODALITY:KIND, at least two are needed, like {EXAMPLE}")
    _raise_mistakes(path, mistakes, ManifestError)
    return kinds


def _classes(path: Path, samples: Sequence[Sample], count: int | None) -> tuple[str, ...]:
    if count is not None:
        return tuple(map(str, range(count)))
    listed = path.with_name("classes.txt")
    if not listed.is_file():
        return tuple(sorted({sample.label for sample in samples if sample.split == "train"}))
    try:
        names = [line.strip() for line in listed.read_text("utf-8-sig").splitlines() if line.strip()]
    except OSError as error:
        raise ManifestError(f"{listed}: cannot be read ({error.strerror}); {advice(error, 'get it again')}") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{listed}: cannot be read as text ({error}); save it as UTF-8") from error
    if len(set(names)) != len(names):
        raise ManifestError(f"{listed}: a class stands there twice; write each on one line")
    return tuple(names)


def _unknown(sample: Sample, classes: Sequence[str]) -> str:
    known = ", ".join(classes[:MAX_SHOWN]) + (", ..." if len(classes) > MAX_SHOWN else "")
    advice = nearest(sample.label, classes, f"there are {known}")
    return f"line {sample.line}, column label: {sample.label!r} is no class of train{advice}"


def _raise_mistakes(path: Path, mistakes: Sequence[str], kind: type[DataError]) -> None:
    if mistakes:
        more = f"; and {len(mistakes) - MAX_SHOWN} more" if len(mistakes) > MAX_SHOWN else ""
        raise kind(f"{path}: {'; '.join(mistakes[:MAX_SHOWN])}{more}")
