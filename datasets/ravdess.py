"""RAVDESS: 24 actors say two sentences with eight emotions; speech with sound and pictures, 1,440 clips.

The nearest twin of CREMA-D, at a permanent address (Zenodo record 1188976). A file is called
``MODALITY-CHANNEL-EMOTION-INTENSITY-STATEMENT-REPETITION-ACTOR.mp4``, two digits each. Samples are the clips with sound
and picture (modality 01) of speech (channel 01); the archives hold each clip a second time without sound (modality 02),
which is not used. The label is the intended emotion. Every actor has 60 clips: 4 neutral ones, and 8 of each of the
other emotions, for neutral has no strong intensity.

Preset ``paper`` gives the shapes of CREMA-D's: 22,050 Hz, three seconds, STFT 512 with hop 353 -> (257, 188); one frame
of about one per second, a random one in training and the middle one in evaluation. Clips last about 3 to 5 s, with
silence before and after the sentence, so the *middle* three seconds are taken where CREMA-D's recordings are cut at
their end; a shorter one is repeated. Frames are kept as JPEG at their own size, 1280 x 720.

Splits: the authors of RAVDESS define none, and here no actor is ever in two parts. Actors with odd numbers are men, the
others women. Without further options actors 01 to 16 are train (960 clips), 17 to 20 val and 21 to 24 test (240 each):
two numbers in a row are a man and a woman, so every part has as many men as women. ``folds=6 fold=0 split_seed=0``
(fold 0 to 5) divides the actors by sha256 of their numbers into folds of two men and two women, one of which is test;
one man and one woman of the others validate. 2, 3, 4, 6 and 12 folds are possible; a comparison takes 6.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator
from typing_extensions import override

from datasets.core.card import Card
from datasets.core.errors import DataError, ManifestError
from datasets.core.files import convert_disk_errors
from datasets.core.grouped_splits import FoldOptions, grouped_split, resplit_options
from datasets.core.lazy import torch
from datasets.core.paths import raw_folder
from datasets.core.progress import Progress
from datasets.core.recipes import PAPER as PAPER_RECIPE
from datasets.decode import audio
from datasets.storage.archives import fetch_archive, zenodo_archives
from datasets.storage.clip_dataset import ClipDataset, ClipOptions
from datasets.storage.clip_files import Preset, Sound
from datasets.storage.list_files import Rows
from datasets.storage.unpacking import unpack_zip

CLASSES = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
FIELDS = {  # of a file's name, in order, and how many values each has, from 01
    "modality": 3,
    "vocal channel": 2,
    "emotion": len(CLASSES),
    "intensity": 2,
    "statement": 2,
    "repetition": 2,
    "actor": 24,
}
NAME = re.compile(r"\d\d(?:-\d\d){6}", re.ASCII)
EXAMPLE = "01-01-06-01-02-01-12.mp4"
SPEECH = "01-01-"  # modality: sound and picture; vocal channel: speech
ACTORS = range(1, FIELDS["actor"] + 1)
OWN_SPLIT = {"train": range(1, 17), "val": range(17, 21), "test": range(21, 25)}
FOLDS = 6  # of a comparison: four actors are tested in each, two men and two women
RECORD = 1188976  # of Zenodo
ARCHIVE_LIMIT = 1 << 30  # bytes of an archive, and of what is unpacked of it; the largest has 596 MB
SAMPLES = 66_150  # three seconds at 22,050 Hz


def _paper(recording: audio.Recording) -> torch.Tensor:
    x = audio.mono_at(recording, 22_050)
    start = max(len(x) - SAMPLES, 0) // 2
    return audio.stft_log(audio.tile(x[start : start + SAMPLES], SAMPLES).clamp(-1, 1), 512, 353)


# fmt: off
PAPER = Sound(_paper, (257, 188), {
    "operator": "stft_log", "rate": 22_050, "channels": "mean", "resampler": audio.RESAMPLER,
    "middle": SAMPLES, "repeated_to": SAMPLES, "n_fft": 512, "hop": 353, "window": "hann, periodic",
    "padding": "zeros, centred", "log": "ln(|S| + 1e-7)"})
# fmt: on


class RAVDESSOptions(ClipOptions, FoldOptions):
    """The arguments of ``ravdess``."""

    preset: Literal["paper"] = "paper"

    @model_validator(mode="after")
    def _men_and_women_divide(self) -> Self:
        men = len(ACTORS) // 2
        if self.folds is not None and men % self.folds:
            possible = ", ".join(str(n) for n in range(2, men + 1) if men % n == 0)
            raise ValueError(f"folds={self.folds}: choose one of {possible}; each fold then has as many men as women")
        return self


class RAVDESS(ClipDataset):
    """See the module. Samples: audio (1, 257, 188), visual (3, 1, image_size, image_size)."""

    name = "ravdess"
    modalities = ("audio", "visual")
    classes = CLASSES
    Options = RAVDESSOptions
    card = Card(
        title="RAVDESS: actors say a sentence with one of eight emotions",
        modalities=("audio", "visual"),
        classes=8,
        size="13.4 GB to download (7 GB of it are kept), 1 GB prepared",
        licence="CC BY-NC-SA 4.0: attribution, no commercial use, share alike",
        citation="Livingstone, Russo: The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS), "
        "PLoS ONE 13(5), 2018, doi 10.1371/journal.pone.0196391",
        run_on_cpu="9.0 h on one core (estimated from its steps, without loading: results/bench/recipes-cpu.json)",
        how_to_get="`python -m datasets download ravdess` fetches Video_Speech_Actor_01.zip to "
        "Video_Speech_Actor_24.zip (13.4 GB) of https://zenodo.org/records/1188976 one after the other, unpacks the "
        "clips with sound and removes each archive then, so that about 8 GB of disk are enough. Or unzip them yourself "
        "in data/ravdess/, so that data/ravdess/Actor_01/01-01-01-01-01-01-01.mp4 is there.",
        quirks=(
            "The label is the intended emotion. Neutral has half as many clips as each other emotion (96 and 192).",
            "The authors define no split. Here no actor is in two parts; papers that divide clips at random test on "
            "actors that they train on: their numbers do not compare with these.",
            "Everybody says the same two sentences, so the words tell nothing about the emotion.",
            "The archives hold each clip a second time without sound (02-01-*.mp4): these are not used.",
            "Clips last about 3 to 5 s with silence at both ends; the middle three seconds are heard.",
            "Pictures are 1280 x 720; they are resized to a square, as in the other sets.",
        ),
        raw_files=(
            "Actor_01|Actor_02|Actor_03|Actor_04|Actor_05|Actor_06|Actor_07|Actor_08|Actor_09|Actor_10|Actor_11|"
            "Actor_12|Actor_13|Actor_14|Actor_15|Actor_16|Actor_17|Actor_18|Actor_19|Actor_20|Actor_21|Actor_22|"
            "Actor_23|Actor_24",
        ),
    )
    training_recipe: ClassVar[Mapping[str, Any]] = {**PAPER_RECIPE, "dataset_args": {"preset": "paper"}}
    adaptive_lr: ClassVar[float] = 1e-4
    shared_groups = "actors_also_in_train"
    presets: ClassVar = {"paper": Preset(PAPER, picks=1, expected=5)}
    published = ("the authors: 1440 clips of speech with sound and picture, 24 actors x 60; they define no split",)

    # ---- splits
    @classmethod
    @override
    def resplit(cls, args: Mapping[str, Any], number: int) -> dict[str, Any]:
        """Six folds one after the other (or as many as ``folds`` says), then all of them with the next split_seed."""
        return resplit_options(args, FOLDS, number)

    @classmethod
    @override
    def read_splits(cls, options: RAVDESSOptions, folder: Path) -> tuple[dict[str, Rows], Counter[str]]:
        rows = [(name, label_of(name)) for name in all_clips(ACTORS)]
        if options.folds is None:
            parts = {part: [row for row in rows if actor_of(row[0]) in actors] for part, actors in OWN_SPLIT.items()}
            return parts, Counter()
        # What is divided evenly is the classes of men and those of women: with them, men and women.
        labels = [f"{CLASSES[label]} {actor_of(name) % 2}" for name, label in rows]
        chosen = grouped_split(labels, [cls.group(name) for name, _ in rows], options)
        return {part: [rows[i] for i in getattr(chosen, part)] for part in OWN_SPLIT}, Counter()

    @classmethod
    @override
    def group(cls, sample: str) -> str:
        return sample[-2:]

    # ---- files
    @classmethod
    @override
    def find(cls, raw: Path, clips: Sequence[str]) -> dict[str, dict[str, Path]]:
        return {stem: {"audio": path, "visual": path} for stem, path in videos(raw).items() if stem.startswith(SPEECH)}

    @classmethod
    @override
    def expected_at(cls, raw: Path, key: str) -> Path:
        return raw / folder_of(actor_of(key)) / f"{key}.mp4"

    @classmethod
    @override
    def download(cls, base: str | None = None, progress: Progress | None = None) -> str:
        """The archives, one after the other, and of each the clips that are samples.

        An archive is removed when all clips of its actor are at their place and their checksums were right: the disk
        holds one of them at a time. An actor whose clips are all there is left alone, so that a download that was
        stopped goes on.
        """
        raw = raw_folder(cls.name)
        wanted = {f"Video_Speech_Actor_{actor:02d}.zip": actor for actor in ACTORS if cls.absent(raw, actor)}
        if not wanted:
            return ""
        names = re.compile("|".join(map(re.escape, wanted)))
        archives = zenodo_archives(RECORD, names, ARCHIVE_LIMIT, raw, base, progress)
        if unpublished := wanted.keys() - {archive.name for archive in archives}:
            raise DataError(f"record {RECORD} of Zenodo has no {min(unpublished)}; get it elsewhere")
        for archive in archives:
            actor = wanted[archive.name]
            path = fetch_archive(archive, raw, base, progress)
            members = re.compile(rf"(?:.*/)?(?:{'|'.join(all_clips([actor]))})\.mp4")
            unpack_zip(path, raw / folder_of(actor), members, ARCHIVE_LIMIT, progress=progress)
            if absent := cls.absent(raw, actor):
                raise DataError(f"{path}: {len(absent)} clips are not in it: {', '.join(absent[:5])}; get it elsewhere")
            with convert_disk_errors(raw):
                path.unlink()
        return ""

    @classmethod
    def absent(cls, raw: Path, actor: int) -> list[str]:
        """The clips of an actor that are not there."""
        paths = {clip: cls.expected_at(raw, clip) for clip in all_clips([actor])}
        return [clip for clip, path in paths.items() if not (path.is_file() and path.stat().st_size)]

    # ---- what people are told
    @classmethod
    @override
    def describe_lists(cls, options: RAVDESSOptions) -> list[str]:
        return [*super().describe_lists(options), *describe_unused(raw_folder(cls.name))]

    @classmethod
    @override
    def describe(cls, options: RAVDESSOptions) -> list[str]:
        return [*super().describe(options), *describe_unused(raw_folder(cls.name))]


def all_clips(actors: Sequence[int]) -> list[str]:
    """The names of all clips of some actors, 60 of each, sorted."""
    emotions, intensities, statements, repetitions = (
        range(1, FIELDS[field] + 1) for field in ("emotion", "intensity", "statement", "repetition")
    )
    return sorted(
        f"{SPEECH}{emotion:02d}-{intensity:02d}-{statement:02d}-{repetition:02d}-{actor:02d}"
        for actor in actors
        for emotion in emotions
        for intensity in intensities
        if exists(emotion, intensity)
        for statement in statements
        for repetition in repetitions
    )


def exists(emotion: int, intensity: int) -> bool:
    """Whether an emotion was said with an intensity, both as the names count them: neutral has no strong one."""
    return CLASSES[emotion - 1] != "neutral" or intensity == 1


def label_of(name: str) -> int:
    """The class number in a clip's name."""
    return int(name.split("-")[2]) - 1


def actor_of(name: str) -> int:
    """The actor's number in a clip's name, from 1; odd for men, even for women."""
    return int(name[-2:])


def folder_of(actor: int) -> str:
    """What the folder of an actor's clips is called."""
    return f"Actor_{actor:02d}"


def videos(raw: Path) -> dict[str, Path]:
    """Name -> file of all videos in the actors' folders, also of those that are no samples.

    Raises:
        ManifestError: A file is called otherwise than RAVDESS's, lies in another actor's folder, or is there twice.
    """
    found: dict[str, Path] = {}
    for path in sorted(raw.glob("Actor_*/*")):
        # What begins with a dot is no video, whatever its end: macOS keeps notes on 01.mp4 in ._01.mp4.
        if path.suffix.lower() == ".mp4" and not path.name.startswith(".") and path.is_file():
            if what := mistake(path):
                raise ManifestError(f"{path.parent}: {path.name!r} {what}; rename, move or remove it")
            if (other := found.setdefault(path.stem, path)) != path:
                raise ManifestError(f"{other} and {path.name} are the same clip; remove one of them")
    return found


def mistake(path: Path) -> str:
    """What cannot be in the name of a video, or that it is not in its actor's folder; "" where all is well."""
    if not NAME.fullmatch(path.stem):
        return f"is not seven numbers of two digits ({', '.join(FIELDS)}) like {EXAMPLE}"
    numbers = dict(zip(FIELDS, map(int, path.stem.split("-")), strict=True))
    for field, number in numbers.items():
        if not 1 <= number <= FIELDS[field]:
            return f"has {field} {number:02d}; there are 01 to {FIELDS[field]:02d}"
    if not exists(numbers["emotion"], numbers["intensity"]):
        return "is neutral with a strong intensity, which does not exist"
    folder = folder_of(numbers["actor"])
    return "" if path.parent.name == folder else f"belongs into {folder}"


def describe_unused(raw: Path) -> list[str]:
    """One line on the videos that are no samples, by the first two numbers in their names, if there are any."""
    kinds = Counter(stem[: len(SPEECH)] for stem in videos(raw) if not stem.startswith(SPEECH))
    counts = ", ".join(f"{count} called {kind}*.mp4" for kind, count in sorted(kinds.items()))
    return [f"videos that are no samples (without sound, or song): {counts}"] if kinds else []
