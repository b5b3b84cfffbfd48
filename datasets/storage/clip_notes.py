"""What is counted while clips are prepared and divided into splits, in words for people."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from datasets.core.paths import cache_folder, raw_folder
from datasets.core.split_lists import describe_list
from datasets.decode.video import stream_facts
from datasets.storage.cache import Cache
from datasets.storage.list_files import Rows

if TYPE_CHECKING:
    from datasets.storage.clip_dataset import ClipDataset

# What is counted, in words.
NOTE_MEANINGS = {
    "missing": "clips that are listed and could not be used",
    "unreadable": "... of these, files that are there and cannot be decoded",
    "too_few_frames": "... of these, clips with fewer frames than the preset asks for",
    "classes_absent": "classes without a single clip",
    "audio_truncated": "recordings that end before they should; what is there was used",
    "audio_not_finite": "samples of sound that were NaN or infinite; they became 0",
    "silent": "recordings of digital silence",
    "video_partial": "videos with damaged or lost frames; the others were used",
    "video_resized": "videos of another size than the rest; they were scaled",
    "frames_damaged": "pictures in frame folders that cannot be read; the next one was used",
    "frames_as_found": "clips whose frames came from a folder, extracted by somebody else's rule",
    "flow_uneven": "clips whose two flow folders differ in length; what both have was used",
    "list_lf_twin": "lists whose line ends were changed, else as published",
    "list_extra_columns": "rows of a list with more columns than are read",
    "list_repeated_rows": "rows that stand twice in a list; one was used",
    "list_zero_length": "rows of a list whose event lasts no time; they were used",
    "videos_with_more_labels": "further rows of a video, each with another label; they were used",
    "actors_also_in_train": "actors who are in train too",
    "groups_also_in_train": "source videos of which train has other clips",
    "media_also_in_train": "clips whose sound or picture file is, byte for byte, that of a clip in train",
}


def identical_files(cache: Cache) -> dict[str, list[list[str]]]:
    """Groups of clips whose files are the same, byte for byte: modality -> groups of two clips or more."""
    owners: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for key in cache.keys:
        for modality, digest in cache.facts[key].get("digests", {}).items():
            owners[modality][digest].append(key)
    return {m: [keys for keys in by.values() if len(keys) > 1] for m, by in owners.items()}


def note_line(kind: str, count: int) -> str:
    """A count with what it means."""
    return f"{kind} {count}: {NOTE_MEANINGS[kind]}"


def describe_lists(kind: type[ClipDataset], options: Any) -> list[str]:
    """What the lists hold, before anything is prepared, in lines for people.

    Raises:
        DataError: A list is not the published one, damaged, or contradicts another.
    """
    folder = raw_folder(kind.name) / "splits"
    paths = [folder / name for name in kind.lists(options)]
    if not all(path.is_file() for path in paths):
        return [f"not there; `python -m datasets download {kind.name}` fetches them"]
    splits, notes = kind.read_splits(options, folder)
    groups = {part: {kind.group(name) for name, _ in rows} for part, rows in splits.items()}
    clips = {part: {kind.clip(name) for name, _ in rows} for part, rows in splits.items()}
    lines = [describe_list(path) for path in paths]
    for part, rows in splits.items():
        counts = Counter(label for _, label in rows)
        least, most = min(counts.values()), max(counts.values())
        line = f"{part}: {len(rows)} samples of {len(counts)} classes ({least} to {most} each)"
        if part != "train":
            line += f"; {len(clips[part] & clips['train'])} clips and {len(groups[part] & groups['train'])} sources"
            line += " are in train too"
        lines.append(line)
    return lines + [note_line(note, count) for note, count in notes.items()]


def describe(kind: type[ClipDataset], options: Any) -> list[str]:
    """What verify adds: lists, sizes beside the published ones, one line per oddity, files that are the same."""
    cache = kind.open(options)
    parts = kind.split(options, cache).splits()
    lines = [describe_list(cache_folder(kind.name) / "splits" / name) for name in kind.lists(options)]
    lines += [f"published: {size}" for size in kind.published]
    for part, dataset in parts.items():
        lines.append(f"ours: {part} {dataset.report.found} of {dataset.report.listed}")
        lines += [f"  {part}: {note_line(note, count)}" for note, count in dataset.report.notes.items()]
    lines += [f"  {key}: {cache.facts[key]['why']}" for key in cache.keys if "why" in cache.facts[key]]
    labels = {kind.clip(name): kind.classes[label] for part in parts.values()
              for name, label in zip(part.ids, part.labels, strict=True)}  # fmt: skip
    for modality, twins in identical_files(cache).items():
        lines.append(f"{len(twins)} groups of clips with the same {modality} file, byte for byte")
        lines += ["  " + " = ".join(f"{key} ({labels.get(key, 'in no split')})" for key in keys) for keys in twins]
    raw = raw_folder(kind.name)
    if kind.raw_available():
        chosen = sorted(cache.keys, key=lambda key: hashlib.sha256(key.encode()).hexdigest())[:20]
        files = {path for found in kind.find(raw, chosen).values() for path in found.values() if path.is_file()}
        lines += [f"  {stream_facts(path)}" for path in sorted(files)]
    return lines


class TrainContent:
    """What train has: its sources and its files' digests."""

    def __init__(self, cls: type[ClipDataset], cache: Cache, rows: Rows) -> None:
        self.cls, self.cache = cls, cache
        self.groups = {cls.group(name) for name, _ in rows}
        self.media = {digest for name, _ in rows for digest in self._digests(name)}

    def shared(self, rows: Rows) -> Counter[str]:
        """How many sources, and how many files, these rows have in common with train."""
        names = [name for name, _ in rows]
        groups = {self.cls.group(name) for name in names} & self.groups
        media = sum(not self.media.isdisjoint(self._digests(name)) for name in names)
        return Counter({self.cls.shared_groups: len(groups), "media_also_in_train": media})

    def _digests(self, name: str) -> set[tuple[str, str]]:
        return set(self.cache.facts[self.cls.clip(name)]["digests"].items())
