"""Which clips of CREMA-D there are, and which belong to train, val and test.

The authors of CREMA-D define no split. Names are ``ACTOR_SENTENCE_EMOTION_LEVEL``; the label is the intended emotion,
the third field. Class order is that of OGM-GE and BalanceBenchmark (others sort the names).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path

from datasets.core.errors import LabelError, ManifestError, MissingMediaError
from datasets.core.split_lists import Pin, parse, read_pinned, refuse_leaks

CLASSES = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
SENTENCES = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")
ACTORS = range(1001, 1092)
FOLDS = 5
NAME = re.compile(rf"(10(?:0[1-9]|[1-8][0-9]|9[01]))_({'|'.join(SENTENCES)})_({'|'.join(CLASSES)})_(LO|MD|HI|XX)")
# Sentences an actor does not have, in all emotions or in one: 20 of 7,462 possible clips.
ABSENT = ("1008_WSI", "1009_MTI", "1019_ITH", "1002_TIE_NEU", "1076_ITS_NEU")
LISTS = {
    "ogm": ("train.csv", "test.csv"),
    "ogm_val": ("my_train.csv", "val.csv", "test.csv"),
    "speaker_independent": (),
}
# Two videos without sound or picture, one without a duration, one that runs through all emotions for a minute.
DAMAGED = ("1076_MTI_NEU_XX", "1076_MTI_SAD_XX", "1064_TIE_SAD_XX", "1064_IEO_DIS_MD")
# Pairs whose recordings are, byte for byte, the same.
TWINS = (
    *("1013_WSI_SAD_XX", "1013_WSI_DIS_XX"),
    *("1017_IWW_ANG_XX", "1017_IWW_FEA_XX"),
    *("1006_TIE_HAP_XX", "1006_TIE_NEU_XX"),
)
UNCLEAN = frozenset(DAMAGED + TWINS)
_OGM = "https://raw.githubusercontent.com/GeWu-Lab/OGM-GE_CVPR2022/343dc1d95c9bda88f105c0da8d24f185e0e98b54/data/CREMAD"
_RELEARNING = (
    "https://raw.githubusercontent.com/GeWu-Lab/Diagnosing_Relearning_ECCV2024/"
    "59b5787137b113fb8df6bbb5a6ebc88068f57b70/code/dataset/cremad"
)
# The OGM-GE repository's lists, and those of Diagnosing and Re-learning (my_train.csv, val.csv).
PINS = {
    "train.csv": Pin(
        140_658,
        6698,
        "68d0d3fd253830328fc92c68f3cf2e215db8c5b86757ad9c5112d2c76ba68bde",
        "7b95d291b847eac9c1447bb9fb63b47176d182987ac74fe041e4dd493c6d0abd",
    ),
    "test.csv": Pin(
        15_624,
        744,
        "14866c99301fd56fb4a16f8a7048a8a6372a47069aee9f216443bc718be45f1f",
        "959a667af66a01dc439b12d6ec9dc57b36a88e947f48ad63531a4b91f769394f",
    ),
    "my_train.csv": Pin(
        119_080,
        5954,
        "eaf4d9332c743a8e0a0538e53f15f86552fb961858a8347588f6ffc09071b232",
        "eaf4d9332c743a8e0a0538e53f15f86552fb961858a8347588f6ffc09071b232",
    ),
    "val.csv": Pin(
        14_880,
        744,
        "ecbd82453caca8a7126df010d67b33813387af3cbe32efe5eb5a94ed2d161291",
        "ecbd82453caca8a7126df010d67b33813387af3cbe32efe5eb5a94ed2d161291",
    ),
}

Rows = list[tuple[str, int]]  # (clip, class number)


def address(name: str) -> str:
    """Where a list is published."""
    return f"{_OGM if name in LISTS['ogm'] else _RELEARNING}/{name}"


def label_of(name: str, where: Path) -> int:
    """The class number in a clip's name. Raises ManifestError for a name that does not parse."""
    match = NAME.fullmatch(name)
    if not match:
        raise ManifestError(
            f"{where}: {name!r} is not called ACTOR_SENTENCE_EMOTION_LEVEL like 1001_DFA_ANG_XX; rename or remove it"
        )
    return CLASSES.index(match[3])


def actors(rows: Rows) -> set[str]:
    return {name[:4] for name, _ in rows}


def all_clips() -> list[str]:
    """The 7,442 names, sorted."""
    names = (
        f"{actor}_{sentence}_{emotion}_{level}"
        for actor in ACTORS
        for sentence in SENTENCES
        for emotion in CLASSES
        for level in (("LO", "MD", "HI") if sentence == "IEO" and emotion != "NEU" else ("XX",))
    )
    return sorted(name for name in names if not name.startswith(ABSENT))


def split_actors(fold: int) -> dict[str, Rows]:
    """Speaker-independent: of the 91 actors in order every fifth is test, every fifth from the next one on is val."""
    parts: dict[str, Rows] = {"train": [], "val": [], "test": []}
    for name in all_clips():
        place = (int(name[:4]) - ACTORS.start - fold) % FOLDS
        parts["test" if place == 0 else "val" if place == 1 else "train"].append((name, label_of(name, Path())))
    return parts


def carve(train: Rows, test: Rows) -> tuple[Rows, Rows]:
    """Train and val: of each class as many of ``train`` as ``test`` has become val, by ascending sha256 of the name."""
    want = Counter(label for _, label in test)
    val: set[str] = set()
    for label in range(len(CLASSES)):
        names = sorted((n for n, c in train if c == label), key=lambda n: hashlib.sha256(n.encode()).hexdigest())
        val.update(names[: want[label]])
    return [row for row in train if row[0] not in val], [row for row in train if row[0] in val]


def read_splits(split: str, fold: int, folder: Path, pinned: bool) -> tuple[dict[str, Rows], Counter[str]]:
    """What belongs to train, val and test, whether it is there or not, in the order of the lists; and notes on them.

    Raises DataError for lists that are missing, other than pinned, damaged, in contradiction to the names or to each
    other, and for a class that train does not have.
    """
    notes: Counter[str] = Counter()
    if split == "speaker_independent":
        return split_actors(fold), notes
    found: dict[str, Rows] = {}
    for name in LISTS[split]:
        path = folder / name
        if not path.is_file():
            raise MissingMediaError(f"{path} is missing: run `python -m datasets download crema_d`, then prepare again")
        text, odd = read_pinned(path, PINS[name] if pinned else None)
        found[name], more = parse(text, path, CLASSES)
        notes += odd + more
        for clip, label in found[name]:
            if label_of(clip, path) != label:
                raise LabelError(
                    f"{path}: {clip} is listed as {CLASSES[label]}, but its name says {CLASSES[label_of(clip, path)]}"
                )
    if split == "ogm":
        refuse_leaks({"train": found["train.csv"], "test": found["test.csv"]})
        train, val = carve(found["train.csv"], found["test.csv"])
    else:
        train, val = found["my_train.csv"], found["val.csv"]
    parts = {"train": train, "val": val, "test": found["test.csv"]}
    refuse_leaks(parts)
    absent = [name for label, name in enumerate(CLASSES) if label not in {c for _, c in train}]
    if absent:
        raise LabelError(f"{folder}: no clip of {', '.join(absent)} is left to train on")
    return parts, notes
