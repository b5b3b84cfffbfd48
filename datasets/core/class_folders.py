"""A CSV for ``manifest`` from folders that are classes: which files belong to one sample, and what is left out and why.

    FOLDER/CLASS/NAME.wav + FOLDER/CLASS/NAME.mp4         one sample, with a modality for each kind of file
    FOLDER/CLASS/NAME/0001.jpg, 0002.jpg, ...             a folder of pictures: the frames of NAME
    FOLDER/train/CLASS/..., FOLDER/test/CLASS/...         the split is said by folders; val may be there, too

Nothing is opened but folders, and no link that leads out of FOLDER is followed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from datasets.core.errors import ManifestError
from datasets.core.files import convert_disk_errors, write_atomic
from datasets.core.manifest_file import MAX_SHOWN, SPLITS, leads_out

PICTURES = (".jpg", ".jpeg", ".png")  # of frames; see datasets/decode/image_files.py
SUFFIXES: dict[str, tuple[str, ...]] = {
    "audio": (".wav", ".flac", ".ogg", ".mp3", ".m4a", ".aac", ".opus"),
    "video": (".mp4", ".avi", ".mkv", ".mov", ".webm", ".flv", ".m4v", ".mpg", ".mpeg", ".wmv"),
    "image": (*PICTURES, ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    "text": (".txt",),
    "npy": (".npy",),
}
KIND = {suffix: kind for kind, suffixes in SUFFIXES.items() for suffix in suffixes}
MODALITY = {
    "audio": "audio",
    "video": "visual",
    "frames": "frames",
    "image": "image",
    "text": "text",
    "npy": "features",
}
MOST = 10_000_000  # files that are looked at; more are no folder of clips
TEST = 0.2  # of each class, where no folders say who is test


@dataclass
class Found:
    """What is in the folders.

    Args:
        folder: Where it was looked for.
        samples: Id (the path without suffix) -> kind -> path, both from the folder on.
        label: Id -> class.
        split: Id -> train, val or test.
        left_out: Reason -> paths.
        looked_at: How many files.
    """

    folder: Path
    samples: dict[str, dict[str, str]] = field(default_factory=dict)
    label: dict[str, str] = field(default_factory=dict)
    split: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    looked_at: int = 0

    @property
    def columns(self) -> dict[str, str]:
        """Modality:kind -> the kind of file it names. Videos alone are named twice: for sound and pictures."""
        kinds = [kind for kind in MODALITY if any(kind in files for files in self.samples.values())]
        if kinds == ["video"]:
            return {"audio:audio": "video", "visual:video": "video"}
        return {f"{MODALITY[kind]}:{kind}": kind for kind in kinds}

    @property
    def incomplete(self) -> int:
        """How many samples lack a modality."""
        kinds = set(self.columns.values())
        return sum(kinds != set(files) for files in self.samples.values())


def scan(folder: Path) -> Found:
    """Look for samples in the folders of classes.

    Raises:
        ManifestError: There is no such folder, no sample in it, or only one kind of file.
    """
    found = Found(folder)
    top = [path for path, name in _entries(found, folder) if _is_folder(found, path, name)]
    splits = sorted(path.name for path in top if path.name in SPLITS)
    if splits and len(splits) == len(top):
        if absent := [part for part in ("train", "test") if part not in splits]:
            raise ManifestError(
                f"{folder}: there are folders {', '.join(splits)} and none of {' or '.join(absent)}; add it, or move "
                "all classes into one folder"
            )
        for part in top:
            for path, name in _entries(found, part):
                if _is_folder(found, path, name):
                    _read_class(found, path, part.name)
    else:
        for path in top:
            _read_class(found, path, "")
    if not found.samples:
        seen = f"; folders: {', '.join(map(ascii, (path.name for path in top[:MAX_SHOWN])))}" if top else ""
        raise ManifestError(
            f"{folder}: no sample found{seen}; put files into FOLDER/CLASS/, such as {folder / 'bark' / 'clip1.wav'}"
            + "".join(f"; {line}" for line in _reasons(found))
        )
    if len(found.columns) < 2:
        raise ManifestError(
            f"{folder}: {', '.join(found.columns)} is all there is, and two modalities are needed: files of one sample "
            "have one name and different suffixes, such as clip1.wav and clip1.jpg"
        )
    if not splits or len(splits) != len(top):
        _draw_test(found)
    return found


def _entries(found: Found, folder: Path) -> Iterator[tuple[Path, str]]:
    """(path, path from the top on) of what is in a folder, by name, but for what cannot be in a CSV or is hidden."""
    try:
        paths = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise ManifestError(f"{folder}: cannot be read ({error.strerror}); name a folder of folders") from error
    found.looked_at += len(paths)
    if found.looked_at > MOST:
        raise ManifestError(f"{folder}: more than {MOST:,} files; name the folder of the classes, and nothing above it")
    for path in paths:
        name, shown = path.name, path.relative_to(found.folder).as_posix()
        if name.startswith("."):
            continue
        if not name.isprintable() or name != name.strip() or leads_out(shown):
            found.left_out[
                "a name that no CSV can hold: a line break, blanks at an end, \\, a drive; rename it"
            ].append(shown)
        elif path.is_symlink() and not path.resolve().is_relative_to(found.folder.resolve()):
            found.left_out["a link that leads out of the folder; put a copy there"].append(shown)
        else:
            yield path, shown


def _is_folder(found: Found, path: Path, shown: str) -> bool:
    """Whether it is one; a file is noted as left out, unless it belongs to a CSV."""
    if not path.is_dir() and path.name not in ("manifest.csv", "classes.txt"):
        found.left_out["beside the folders of the classes; put it into one of them"].append(shown)
    return path.is_dir()


def _read_class(found: Found, folder: Path, split: str) -> None:
    for path, shown in _entries(found, folder):
        if path.is_dir():
            kind = "frames" if _holds_frames(found, path) else ""
            reason, name = "a folder with no pictures, or with more than pictures", shown
        else:
            kind = KIND.get(path.suffix.lower(), "") if path.is_file() else ""
            reason = f"no kind of file that is known here: {path.suffix.lower()!a}"
            reason, name = reason if path.is_file() else "neither a file nor a folder", shown.removesuffix(path.suffix)
        if not kind:
            found.left_out[reason].append(shown)
            continue
        files = found.samples.setdefault(name, {})
        if kind in files:
            found.left_out[f"a second {kind} file of one sample; keep one"].append(shown)
        else:
            files[kind] = shown
            found.label[name], found.split[name] = folder.name, split


def _holds_frames(found: Found, folder: Path) -> bool:
    """Whether there are pictures in it, and nothing else but hidden files."""
    entries = [path for path, _ in _entries(found, folder)]
    return bool(entries) and all(path.suffix.lower() in PICTURES and path.is_file() for path in entries)


def _draw_test(found: Found) -> None:
    """A fifth of each class becomes test, at least one of two samples: those with the smallest sha256 of their ids."""
    by_class = defaultdict(list)
    for name, label in found.label.items():
        by_class[label].append(name)
    for names in by_class.values():
        names.sort(key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        tested = max(round(TEST * len(names)), 1) if len(names) > 1 else 0
        found.split.update({name: "test" if i < tested else "train" for i, name in enumerate(names)})


def write_csv(found: Found, path: Path, overwrite: bool) -> None:
    """Write the CSV, whole or not at all.

    Raises:
        ManifestError: There is one already, and it may not be replaced.
        DataError: The disk is full, or may not be written.
    """
    if not overwrite and (path.exists() or path.is_symlink()):
        raise ManifestError(f"{path}: is there already; it is kept. Say --overwrite to replace it, or move it away")
    columns = found.columns
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "split", "label", "group", *columns])
    for name in sorted(found.samples):
        files = found.samples[name]
        cells = [files.get(kind, "") for kind in columns.values()]
        writer.writerow([name, found.split[name], found.label[name], name, *cells])
    with convert_disk_errors(path.parent):
        write_atomic(path, text.getvalue())


def summary(found: Found, path: Path) -> list[str]:
    """What was written, what was left out and why, and what to do next: lines to print."""
    counts: Mapping[str, Counter[str]] = defaultdict(Counter)
    for name, label in found.label.items():
        counts[label][found.split[name]] += 1
    width = max(map(len, counts))
    lines = [f"{path}: {len(found.samples)} samples of {len(counts)} classes, {', '.join(found.columns)}"]
    for label, parts in sorted(counts.items()):
        lines.append(f"  {label:{width}}  " + ", ".join(f"{part} {parts[part]}" for part in SPLITS if parts[part]))
    lines += _reasons(found)
    options = [f"path={path}"]
    if found.incomplete:
        lines.append(
            f"{found.incomplete} samples lack a modality: their cells are empty, which allow_missing=true admits"
        )
        options.append("allow_missing=true")
    lines.append("group: every sample is one by itself. Write one name (the speaker, the film) where samples belong")
    lines.append("  together, and folds=5 keeps them on one side of every split")
    lines.append(f"next: {shlex.join(['python', '-m', 'datasets', 'prepare', 'manifest', *options])}")
    return lines


def _reasons(found: Found) -> list[str]:
    """A line for each reason, with the number of files and the first names."""
    lines = []
    for reason, names in found.left_out.items():
        shown = ", ".join(ascii(name)[1:-1] for name in names[:3]) + (", ..." if len(names) > 3 else "")
        lines.append(f"left out, {len(names)}: {reason} ({shown})")
    return lines
