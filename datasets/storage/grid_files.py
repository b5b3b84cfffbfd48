"""The files of GRID: talkers, names of clips, alignments, and the digests of the clips of talker s1."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from datasets.core.checks import advice
from datasets.core.errors import DataError, LabelError, ManifestError
from datasets.core.progress import Progress
from datasets.decode.grid_clip import UNITS
from datasets.storage.archives import fetch_archive, zenodo_archives
from datasets.storage.list_files import read_exact_files
from datasets.storage.unpacking import unpack_zip

TALKERS = tuple(f"s{number}" for number in range(1, 35) if number != 21)  # there is no s21
CLIPS = 1000  # of a talker
PINNED = "s1"  # the talker whose clips are known byte for byte
PIECES = ("command", "colour", "preposition", "letter", "digit", "adverb")  # of a sentence, in order
WORDS: dict[str, tuple[str, ...]] = {
    "command": ("bin", "lay", "place", "set"),
    "colour": ("blue", "green", "red", "white"),
    "preposition": ("at", "by", "in", "with"),
    "letter": tuple("abcdefghijklmnopqrstuvxyz"),  # w is the only letter whose name is long
    "digit": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "adverb": ("again", "now", "please", "soon"),
}
SILENCE = ("sil", "sp")  # at the ends of a clip, and between words
# The letter of a word in a clip's name is its first one, but for digits, which are figures, with z for zero.
_SHORT = {
    piece: {(str(i) if i else "z") if piece == "digit" else word[0]: word for i, word in enumerate(words)}
    for piece, words in WORDS.items()
}
_NAME = re.compile("".join(f"([{''.join(_SHORT[piece])}])" for piece in PIECES))
_ALIGNMENT_BYTES = 10_000  # more than enough for eight lines
_FOLDERS = ("{talker}", "{talker}/video/mpg_6000", "{talker}/video/mpg_vcd")
_ALIGNMENTS = ("alignments/{talker}", "alignments/{talker}/align", "{talker}/align")
_RECORD = 3625687  # of Zenodo
_ARCHIVES = re.compile(r"alignments\.zip|s(?:[1-9]|[12][0-9]|3[0-4])\.zip")
_TALKER_BYTES = 2 << 30  # more than enough for the clips of a talker, packed or unpacked
_ENTRIES = 200_000  # alignments.zip has one for each clip of each talker


def words_of(name: str, path: Path) -> tuple[str, ...]:
    """The six words of a clip, from its name: ``bbaf2n`` is "bin blue at f two now".

    Args:
        name: Of the clip, without .mpg.
        path: Where it is, for the message.

    Raises:
        ManifestError: It is not the name of a clip.
    """
    match = _NAME.fullmatch(name)
    if not match:
        raise ManifestError(
            f"{path}: {name!r} is not called like bbaf2n (command, colour, preposition, letter, digit, adverb); rename "
            "or remove it"
        )
    return tuple(_SHORT[piece][short] for piece, short in zip(PIECES, match.groups(), strict=True))


def read_alignment(path: Path) -> list[tuple[int, int, str]]:
    """Start, end (25,000 units a second) and text of each word of a clip; silence is left out.

    Raises:
        ManifestError: It cannot be read, a line is not ``start end word``, or words overlap or last no time.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_ALIGNMENT_BYTES).decode("ascii")
    except OSError as error:
        mend = advice(error, "get the file again")
        raise ManifestError(f"{path}: cannot be read ({error.strerror}); {mend}") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not an alignment ({error}); get the file again") from error
    words, last = [], 0
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 3 or not (fields[0] + fields[1]).isdigit() or max(map(len, fields)) > 20:
            raise ManifestError(f"{path}, line {number}: {line[:80]!r} is not `start end word`; get the file again")
        start, end = int(fields[0]), int(fields[1])
        if fields[2] in SILENCE:
            continue
        if not last <= start < end:
            raise ManifestError(f"{path}, line {number}: {line!r} lasts no time, or begins before {last}")
        words.append((start, end, fields[2]))
        last = end
    return words


def aligned_words(path: Path, name: str) -> list[tuple[int, int]]:
    """Start and end of each of the six words of a clip.

    Args:
        path: The alignment.
        name: Of the clip.

    Raises:
        ManifestError: As ``read_alignment``.
        LabelError: The alignment has other words than the name, or one whose centre is not in the 3 s of a clip.
    """
    words, named = read_alignment(path), words_of(name, path)
    if tuple(word for _, _, word in words) != named:
        found = " ".join(word for _, _, word in words)
        raise LabelError(f"{path}: {found[:120]!r}, but the clip's name says {' '.join(named)!r}; get both again")
    if words[-1][0] + words[-1][1] > 2 * 3 * UNITS:
        raise LabelError(f"{path}: the last word is not within the 3 s of a clip; get the file again")
    return [(start, end) for start, end, _ in words]


def find_clips(raw: Path, talkers: Sequence[str]) -> dict[str, dict[str, Path]]:
    """The clips that have both files: ``s1/bbaf2n`` -> ``video`` and ``words``, where they are.

    The alignments of a talker are those of the folder that fits the names of the clips best, its own where others fit
    as well: lhotse's recipe for GRID says that in Zenodo's archive some lie in the folder of another talker. No two
    talkers say the same 1,000 sentences.

    Raises:
        ManifestError: An .mpg is not called like a clip.
    """
    folders = [{talker: _by_stem(raw / form.format(talker=talker), ".align") for talker in TALKERS}
               for form in _ALIGNMENTS]  # fmt: skip
    found: dict[str, dict[str, Path]] = {}
    for talker in talkers:
        paths = (_by_stem(raw / form.format(talker=talker), ".mpg") for form in _FOLDERS)
        videos: dict[str, Path] = next(filter(None, paths), {})
        for name in sorted(videos):
            words_of(name, videos[name].parent)
        own = [held[talker] for held in folders]
        others = [held[other] for held in folders for other in TALKERS if other != talker]
        words = max([*own, *others], key=lambda held: len(held.keys() & videos.keys()))  # its own, where others tie
        for name in sorted(videos.keys() & words.keys()):
            found[f"{talker}/{name}"] = {"video": videos[name], "words": words[name]}
    return found


def _by_stem(folder: Path, suffix: str) -> dict[str, Path]:
    """Name -> file. What begins with a dot is what macOS leaves beside a file."""
    return {path.stem: path for path in folder.glob(f"*{suffix}") if not path.name.startswith(".")}


def download_talkers(folder: Path, base: str | None, progress: Progress | None) -> None:
    """Download and unpack the alignments and talker s1, and every further talker whose archive lies in the folder.

    Args:
        folder: The raw folder.
        base: An address to take the archives from, instead of Zenodo.
        progress: Is told how far it is.

    Raises:
        DataError: The server fails, an archive is not the published one, or not what it should hold, or the disk
            cannot be written.
    """
    for archive in zenodo_archives(_RECORD, _ARCHIVES, _TALKER_BYTES, folder, base, progress):
        talker = Path(archive.name).stem
        by_default = talker in ("alignments", PINNED)
        complete = talker != "alignments" and len(_by_stem(folder / talker, ".mpg")) >= CLIPS
        if not ((by_default and not complete) or (folder / archive.name).is_file()):
            continue
        path = fetch_archive(archive, folder, base, progress)
        if talker != "alignments":
            names = re.compile(rf"(?:[^/._][^/]*/)*{talker}/(?:[^/.][^/]*/)*[^/.]+\.mpg")
            unpacked = unpack_zip(path, folder / talker, names, _TALKER_BYTES, progress=progress)
        else:
            unpacked = []
            for one in TALKERS:
                names = re.compile(rf"(?:[^/._][^/]*/)*{one}/(?:[^/.][^/]*/)*[^/.]+\.align")
                unpacked += unpack_zip(path, folder / talker / one, names, CLIPS * _ALIGNMENT_BYTES, members=_ENTRIES)
        if not unpacked:
            raise DataError(f"{path}: holds no clips or alignments in folders such as s1; unpack it by hand")


@lru_cache
def published_digests() -> Mapping[str, str]:
    """Clip of talker s1 -> sha256 of its .mpg. Raises ManifestError where the list of them is damaged."""
    files = read_exact_files(Path(__file__).parents[1] / "lists" / "grid_s1.csv.gz")
    return {f"{PINNED}/{Path(name).stem}": exact.sha256 for name, exact in files.items()}
