"""Kinetics-Sounds: the 31 actions of Kinetics-400 that can be heard as well as seen, ten-second clips.

Presets: ``paper`` (16 kHz, repeated to 10 s, window 512 with overlap 353 -> (257, 1004), standardised per clip; about
one frame a second, three of them seen) and ``bb`` as BalanceBenchmark (filterbanks 1024 x 128, its choice of three
frames, clips of three frames or fewer not used).

Where ``paper`` differs from the released OGM-GE code. That extracts ten frames at half seconds and always sees the
first, the fourth and the seventh (here one of each third of the clip, at random in training, the middle one in
evaluation; PMR's takes the first three that ``os.listdir`` names: ``dataset_args.pick=first``, in time). Its first
script reads sound at 22,050 Hz and counts samples as if it were 16,000; its later one makes the filterbanks of ``bb``.

The OGM-GE authors' train and test lists. Their train list is cut off: it is sorted and stops inside the letter h, while
test covers all letters; the cut is kept, for it is what everybody trains on. ``split=ogm`` validates on the 1,320 clips
of Kinetics' own validation set that BML lists; ``split=carved`` needs no videos of that set: of each class in train the
first 5 % (at least 10) by sha256 of the clip's name, with all other clips of their videos.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from typing_extensions import override

from datasets.core.card import Card
from datasets.core.checks import printable
from datasets.core.errors import ManifestError
from datasets.core.paths import raw_folder
from datasets.core.recipes import PAPER
from datasets.core.split_lists import Pin, class_names, collect, records, refuse_leaks
from datasets.decode.video import bb_ks
from datasets.storage.clip_dataset import ClipDataset, ClipOptions
from datasets.storage.clip_files import FBANK, PSD, Preset, RawFiles
from datasets.storage.list_files import ListFile, Rows, carve

_OGM = "https://raw.githubusercontent.com/GeWu-Lab/OGM-GE_CVPR2022/343dc1d95c9bda88f105c0da8d24f185e0e98b54/data/KineticSound"
_BML = "https://raw.githubusercontent.com/GeWu-Lab/BML_TPAMI2024/8db168f1a08c030abd0f9524ec02a48e4cb977d2/code/dataset"
TRAIN, TEST, BML = "my_train.txt", "my_test.txt", "KS_train_val.json"
NAME = re.compile(r"([\w-]{11})_(\d{1,6})(?:_(\d{1,6}))?", re.ASCII)
SECONDS = 10


CLASSES = class_names("""
blowing nose | blowing out candles | bowling | chopping wood | dribbling basketball | laughing | mowing lawn |
playing accordion | playing bagpipes | playing bass guitar | playing clarinet | playing drums | playing guitar |
playing harmonica | playing keyboard | playing organ | playing piano | playing saxophone | playing trombone |
playing trumpet | playing violin | playing xylophone | ripping paper | shoveling snow | shuffling cards | singing |
stomping grapes | tap dancing | tapping guitar | tapping pen | tickling
""")


class KineticsSoundsOptions(ClipOptions):
    """The arguments of ``kinetics_sounds``."""

    preset: Literal["paper", "bb"] = "paper"
    split: Literal["ogm", "carved"] = "ogm"


class KineticsSounds(ClipDataset):
    """See the module. Samples: audio (1, 257, 1004) or (1, 1024, 128), visual (3, 3, image_size, image_size)."""

    name = "kinetics_sounds"
    modalities = ("audio", "visual")
    classes = CLASSES
    Options = KineticsSoundsOptions
    card = Card(
        title="Kinetics-Sounds: 31 actions of Kinetics-400 that can be heard and seen",
        modalities=("audio", "visual"),
        classes=31,
        size="18,716 clips of Kinetics-400 (all of it: hundreds of GB), 28 GB prepared",
        licence="annotations CC BY 4.0 (Kinetics); the videos remain their uploaders' (YouTube)",
        citation="Arandjelovic, Zisserman: Look, Listen and Learn, ICCV 2017. Kay and others: The Kinetics Human "
        "Action Video Dataset, arXiv 1705.06950",
        how_to_get="Get Kinetics-400 from the copy that github.com/cvdfoundation/kinetics-dataset describes (parts of "
        "train, val and test, hundreds of GB; and the replacements for about 1,400 corrupt clips, which have to be "
        "applied), and put the clips ID_SSSSSS_EEEEEE.mp4 into data/kinetics_sounds/train, val and test; only the "
        "18,716 that are listed are needed. `python -m datasets download kinetics_sounds` adds the lists (2 MB) in "
        "data/kinetics_sounds/splits/. Do not mix in clips of Kinetics-600 or 700.",
        quirks=(
            "The OGM-GE authors' train list stops inside the letter h (14,799 clips; all would be about 20,900); test "
            "covers all letters. The cut is kept.",
            "Three of the 2,597 test clips are not in Kinetics-400's test list (Q78zQuQ9oeg_34, ZSnZ4DLJKAM_70, "
            "r_5GkTNsM4g_7), which is why later papers have 2,594: without them say max_missing=3.",
            "split=ogm validates on BML's 1,320 clips of Kinetics' validation set; split=carved takes them from train.",
            "BML's other list, KS.json, has the test clips in its training part: it is refused.",
            "Papers count 31, 32, 33 or 34 classes; these are the 31 of OGM-GE, in alphabetical order.",
        ),
        raw_files=("train|frames", "test|frames"),
    )
    training_recipe: ClassVar[Mapping[str, Any]] = {**PAPER, "dataset_args": {"preset": "paper", "split": "ogm"}}
    adaptive_lr: ClassVar[float] = 1e-4
    presets: ClassVar = {"paper": Preset(PSD), "bb": Preset(FBANK, pick=bb_ks, least=4)}
    list_files = (
        ListFile(TRAIN, f"{_OGM}/{TRAIN}", Pin(
            483_173, 14_799, "e75bb596c30bf839adb3c2dc73b4a4617add66b36c2f416f96ac2e56a251751f",
            "6c0d11f5977ecceb2005c5bdb356ced52cae7c39f9f9eb4137479a4c2e874780")),
        ListFile(TEST, f"{_OGM}/{TEST}", Pin(
            56_016, 2597, "3bb1fee2c9d30919cec6887a3e2fa27b7936cc3f46dff447d85ea21892a80a58",
            "6dec6750836d9b9db1b2ded6fca3348de7766c78513ac55e2ba4a668f7b451bd")),
        ListFile(BML, f"{_BML}/{BML}", Pin(
            1_455_061, 18_716, "eb58a8bba30f0538c0ae245c5c83a67f35c5b8ca1050833738494016812e4f4a",
            "eb58a8bba30f0538c0ae245c5c83a67f35c5b8ca1050833738494016812e4f4a")),
    )  # fmt: skip
    published = (
        "OGM-GE's lists: train 14799, test 2597 (2594 of them are in Kinetics-400's test list)",
        "BML: train 14799, val 1320, test 2597; 18716 in all, the 19k of the papers",
    )

    @classmethod
    @override
    def lists(cls, options: KineticsSoundsOptions) -> tuple[str, ...]:
        return (TRAIN, TEST, *((BML,) if options.split == "ogm" else ()))

    @classmethod
    @override
    def read_splits(cls, options: KineticsSoundsOptions, folder: Path) -> tuple[dict[str, Rows], Counter[str]]:
        rows_of: dict[str, Rows] = {}
        notes: Counter[str] = Counter()
        for name in (TRAIN, TEST):
            text, list_notes = cls.read_list(options, folder, name)
            rows_of[name], parse_notes = parse(text, folder / name)
            notes += list_notes + parse_notes
        train = rows_of[TRAIN]
        if options.split == "ogm":
            bml = parse_json(cls.read_list(options, folder, BML)[0], folder / BML)
            refuse_leaks({f"training of {BML}": bml["training"], "test": rows_of[TEST]})
            val = bml["validation"]
        else:
            train, val = carve(train, 5, 10, str, cls.group)
        parts = {"train": train, "val": val, "test": rows_of[TEST]}
        refuse_leaks(parts)
        return parts, notes

    @classmethod
    @override
    def stored(cls, options: KineticsSoundsOptions, clips: Sequence[str]) -> Sequence[str]:
        path = raw_folder(cls.name) / "splits" / BML
        if options.split == "ogm" or not path.is_file():
            return clips
        bml = parse_json(cls.read_list(options, path.parent, BML)[0], path)["validation"]
        return sorted({*clips, *(name for name, _ in bml)})

    @classmethod
    @override
    def find(cls, raw: Path, clips: Sequence[str]) -> dict[str, dict[str, Path]]:
        raw_files = RawFiles(raw, ("train", "val", "test", ""))
        return {clip: files for clip in clips if (files := raw_files.find(clip))}

    @classmethod
    @override
    def group(cls, sample: str) -> str:
        return sample[:11]


def clip_name(name: str) -> str | None:
    """``ID_START`` or ``ID_START_END`` -> the file's stem ID_SSSSSS_EEEEEE, ID being 11 characters; None if neither."""
    match = NAME.fullmatch(name)
    return match and f"{match[1]}_{int(match[2]):06d}_{int(match[3] or int(match[2]) + SECONDS):06d}"


def parse(text: str, path: Path) -> tuple[Rows, Counter[str]]:
    """Rows ``name,10,class number``. Raises ManifestError, LabelError."""
    named = []
    for line, (name, _, label, *_) in records(text, path, "name,seconds,class number"):
        if label.isdecimal() and not clip_name(name):
            raise ManifestError(f"{path}, line {line}: {name[:80]!r} is not called ID_START or ID_START_END")
        named.append((line, clip_name(name) or name, label))
    return collect(named, path, [str(i) for i in range(len(CLASSES))])


def parse_json(text: str, path: Path) -> dict[str, Rows]:
    """BML's list: ``{"database": {name: {"subset": ..., "label": ...}}}`` -> subset -> rows."""
    try:
        database: dict[str, dict[str, Any]] = json.loads(text)["database"]
        rows = [(name, str(entry["subset"]), str(entry["label"])) for name, entry in database.items()]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{path}: not BML's list of clips ({printable(repr(error))}); download it again") from error
    if unparsed := [name for name, _, _ in rows if not clip_name(name)]:
        raise ManifestError(f"{path}: {unparsed[0][:80]!r} is not called ID_START or ID_START_END")
    return {
        subset: collect(
            ((0, clip_name(name) or "", label.replace("_", " ")) for name, part, label in rows if part == subset),
            path,
            CLASSES,
        )[0]
        for subset in ("training", "validation", "testing")
    }
