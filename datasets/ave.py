"""AVE: 28 kinds of events that can be seen and heard, ten-second clips of AudioSet.

Preset ``paper``: 16 kHz, repeated to 10 s, window 512 with overlap 353 -> (257, 1004), standardised per clip; ten
frames at half seconds, of which a sample sees the first, the fourth and the seventh, as the released OGM-GE code does
(PMR's takes the first three that ``os.listdir`` names; ``dataset_args.pick=first`` takes the first three in time). The
sound is what the papers describe: the released script reads it at 22,050 Hz and counts samples as if it were 16,000.

The authors' own three lists. 45 of the 4,097 videos stand in them two or three times, each time with another label: 8
are in train and in test, 10 in train and in val. ``split=paper`` keeps every row, as the papers do, and counts them;
``split=clean`` keeps of a video the row of test (else of val), and of rows in one part the first in Annotations.txt.
A sample is called ``Category&VideoID``, as the lists begin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from typing_extensions import override

from datasets.core.card import Card
from datasets.core.errors import ManifestError
from datasets.core.recipes import PAPER
from datasets.core.split_lists import Pin, class_names, collect, records, refuse_leaks
from datasets.decode.video import thirds_first
from datasets.storage.clip_dataset import ClipDataset, ClipOptions
from datasets.storage.clip_files import PSD, Preset, RawFiles
from datasets.storage.list_files import ListFile, Rows

_ANNOTATIONS = "https://raw.githubusercontent.com/YapengTian/AVE-ECCV18/607f15965eb1141c2fd48bbe461f1703cc426c45/data"
_PARTS = "https://raw.githubusercontent.com/fanyunfeng-bit/Modal-Imbalance-PMR/3615e48/data/AVE"
PARTS = {"train": "trainSet.txt", "val": "valSet.txt", "test": "testSet.txt"}


def _file(name: str, base: str, size: int, rows: int, sha256: str) -> ListFile:
    return ListFile(name, f"{base}/{name}", Pin(size, rows, sha256, sha256))


CLASSES = class_names("""
Accordion | Acoustic guitar | Baby cry, infant cry | Banjo | Bark | Bus | Cat | Chainsaw | Church bell | Clock |
Female speech, woman speaking | Fixed-wing aircraft, airplane | Flute | Frying (food) | Goat | Helicopter | Horse |
Male speech, man speaking | Mandolin | Motorcycle | Race car, auto racing | Rodents, rats, mice | Shofar |
Toilet flush | Train horn | Truck | Ukulele | Violin, fiddle
""")


class AVEOptions(ClipOptions):
    """The arguments of ``ave``."""

    preset: Literal["paper"] = "paper"
    split: Literal["paper", "clean"] = "paper"


class AVE(ClipDataset):
    """See the module. Samples: audio (1, 257, 1004), visual (3, 3, image_size, image_size)."""

    name = "ave"
    modalities = ("audio", "visual")
    classes = CLASSES
    Options = AVEOptions
    card = Card(
        title="AVE: events that can be seen and heard, 28 kinds, from AudioSet",
        modalities=("audio", "visual"),
        classes=28,
        size="about 5 GB to download, 6 GB prepared",
        licence="none stated; the videos remain their uploaders' (YouTube)",
        citation="Tian, Shi, Li, Duan, Xu: Audio-Visual Event Localization in Unconstrained Videos, ECCV 2018",
        how_to_get="Get AVE_Dataset.zip (about 5 GB, Google Drive, linked from github.com/YapengTian/AVE-ECCV18) and "
        "put its folder AVE, 4,097 files VIDEOID.mp4, into data/ave/, so that data/ave/AVE/VIDEOID.mp4 is there. "
        "`python -m datasets download ave` adds the four lists (290 KB) in data/ave/splits/.",
        quirks=(
            "45 of the 4,097 videos are listed two or three times, each time with another label; 8 are in train and in "
            "test, 10 in train and in val. split=paper keeps them, split=clean keeps one row per video.",
            "One row of train (VWi2ENBuTbw) lasts no time; it is kept.",
            "The archive's Annotations.txt has a header, the repository's has none.",
            "A label holds for a part of the ten seconds; the papers that balance modalities use all of them.",
        ),
        raw_files=("AVE",),
    )
    training_recipe: ClassVar[Mapping[str, Any]] = {**PAPER, "dataset_args": {"preset": "paper", "split": "paper"}}
    adaptive_lr: ClassVar[float] = 1e-4
    presets: ClassVar = {"paper": Preset(PSD, "time_centres", 10, pick=thirds_first, expected=10)}
    list_files = (
        _file("trainSet.txt", _PARTS, 116_313, 3339,
              "4f6c37aff56d4a3407f8beff47ca59dcefb8e94b3e02bbc34b0c89b5cdad6945"),
        _file("valSet.txt", _PARTS, 13_991, 402, "76c3c51b67aacbbacd5708e17aab491638a5e9032f786adad1a13be55d9cb3ca"),
        _file("testSet.txt", _PARTS, 13_983, 402, "e73c25a509bb38a691c1e08064af66d0512554f2fbc883cddd6d2a51ede8449d"),
        _file("Annotations.txt", _ANNOTATIONS, 144_287, 4143,
              "0d24a9ec5cd4ceb779ebd83d74e83ec8e55c5e468cede3f320fb57346c9dd321"),
    )  # fmt: skip
    published = ("the authors: train 3339, val 402, test 402; 4097 videos, 4143 rows",)

    @classmethod
    @override
    def lists(cls, options: AVEOptions) -> tuple[str, ...]:
        return (*PARTS.values(), *(("Annotations.txt",) if options.split == "clean" else ()))

    @classmethod
    @override
    def read_splits(cls, options: AVEOptions, folder: Path) -> tuple[dict[str, Rows], Counter[str]]:
        rows_of: dict[str, Rows] = {}
        notes: Counter[str] = Counter()
        for name in cls.lists(options):
            text, list_notes = cls.read_list(options, folder, name)
            rows_of[name], extra = parse(text, folder / name)
            notes += list_notes + extra
        parts = {part: rows_of[name] for part, name in PARTS.items()}
        if options.split == "clean":
            parts = clean(parts, rows_of["Annotations.txt"], folder / "Annotations.txt")
            refuse_leaks({part: [(cls.clip(name), label) for name, label in rows] for part, rows in parts.items()})
        else:
            refuse_leaks(parts)
            for rows in parts.values():
                notes["videos_with_more_labels"] += len(rows) - len({cls.clip(name) for name, _ in rows})
        return parts, +notes

    @classmethod
    @override
    def find(cls, raw: Path, clips: Sequence[str]) -> dict[str, dict[str, Path]]:
        raw_files = RawFiles(raw, ("AVE", ""))
        return {clip: files for clip in clips if (files := raw_files.find(clip))}

    @classmethod
    @override
    def expected_at(cls, raw: Path, key: str) -> Path:
        return raw / "AVE" / f"{key}.mp4"

    @classmethod
    @override
    def clip(cls, sample: str) -> str:
        return sample.rpartition("&")[2]


def parse(text: str, path: Path) -> tuple[Rows, Counter[str]]:
    """Rows ``Category&VideoID&Quality&StartTime&EndTime``, with a header or without, in order; and notes on them."""
    notes: Counter[str] = Counter()
    named = []
    for line, (category, video, _, start, end, *extra) in records(
        text, path, "Category&VideoID&Quality&Start&End", "&"
    ):
        named.append((line, f"{category}&{video}", category))
        if category in CLASSES:
            times = start.isdecimal() and end.isdecimal() and len(start + end) < 20 and int(start) <= int(end)
            if not times or Path(video).name != video:
                part = f"{video[:80]!r} from {start[:80]!r} to {end[:80]!r} s"
                raise ManifestError(f"{path}, line {line}: {part} is no part of a video")
            notes["list_zero_length"] += start == end
            notes["list_extra_columns"] += bool(extra)
    rows, list_notes = collect(named, path, CLASSES)
    return rows, +(notes + list_notes)


def clean(parts: dict[str, Rows], annotations: Rows, path: Path) -> dict[str, Rows]:
    """One row per video: test's before val's before train's, and the first in ``annotations`` of those in one part."""
    order = {row: number for number, row in enumerate(annotations)}
    kept: dict[str, Rows] = {}
    seen: set[str] = set()
    for part in ("test", "val", "train"):
        if absent := [name for name, label in parts[part] if (name, label) not in order]:
            raise ManifestError(f"{path}: {len(absent)} rows of {part} are not in it: {', '.join(absent[:10])}")
        first: dict[str, tuple[str, int]] = {}
        for row in sorted(parts[part], key=lambda row: order[row]):
            if AVE.clip(row[0]) not in seen:
                first.setdefault(AVE.clip(row[0]), row)
        chosen = set(first.values())
        kept[part] = [row for row in parts[part] if row in chosen]
        seen |= first.keys()
    return {part: kept[part] for part in parts}
