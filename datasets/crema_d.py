"""CREMA-D: 91 actors say 12 sentences with six emotions; sound from AudioWAV, pictures from VideoFlash.

Presets: ``paper`` after the released OGM-GE code (22,050 Hz, repeated to 3 s, STFT 512 with *hop* 353, one frame of
about one per second), ``paper299`` as its papers describe it (16 kHz, window 512 with *overlap* 353, 257 x 299), and
``bb`` as BalanceBenchmark (filterbanks 1024 x 128, two frames). Frames are stored whole, as uint8 at 480 x 360.

Where ``paper`` differs from the released code. Sound is resampled with the filter of librosa's default, soxr_hq: each
frequency's log magnitude, averaged over a clip, agrees with librosa's within 0.05 below 7.5 kHz and 0.5 above (librosa
before 0.10 had another default, kaiser_best, which falls off about 100 Hz earlier). That code always takes the first
frame that ``os.listdir`` names, which depends on the file system; the frame it draws at random is never used. Here a
sample sees a random one in training and the middle one in evaluation; ``dataset_args.pick=first`` takes the first in
time, in both: the released choice wherever a folder is listed by name. Its frames went through JPEG of quality 95.

Names are ``ACTOR_SENTENCE_EMOTION_LEVEL``; the label is the third field. Class order is that of OGM-GE.

Splits: ``ogm`` is the OGM-GE authors' clip-level draw, which has no validation set: for each class as many clips as
test has are carved from their train list, by ascending sha256 of the clip's name. ``ogm_val`` takes the carving of
Diagnosing and Re-learning instead, its lists ``my_train.csv`` and ``val.csv``. ``speaker_independent`` keeps actors
apart and needs no list: of the 91 actors in order, every fifth is test. ``clean`` leaves out ten clips, four of them
known to be damaged, six with equal sound under two labels; unless said otherwise it is on where actors are kept apart.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import override

import ogm
from datasets.core.card import Card
from datasets.core.errors import LabelError, ManifestError
from datasets.core.lazy import torch
from datasets.core.paths import raw_folder
from datasets.core.progress import Progress
from datasets.core.recipes import PAPER as PAPER_RECIPE
from datasets.core.split_lists import Pin, parse, refuse_leaks
from datasets.decode import audio, image_transforms
from datasets.decode.video import read_frames
from datasets.storage.cache import Column
from datasets.storage.clip_dataset import ClipDataset, ClipOptions
from datasets.storage.clip_files import FBANK, Preset, Sound, read_sound
from datasets.storage.lfs_files import fetch_listed, read_listed
from datasets.storage.list_files import ListFile, Rows
from ogm.seeds import fold_in

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


def _list(base: str, name: str, size: int, rows: int, sha256: str, sha256_lf: str) -> ListFile:
    return ListFile(name, f"{base}/{name}", Pin(size, rows, sha256, sha256_lf))


HEIGHT, WIDTH = 360, 480
SECONDS = 2.55  # of a clip, on average


def _paper(recording: audio.Recording) -> torch.Tensor:
    x = audio.mono_at(recording, 22_050)
    return audio.stft_log(audio.tile(x, 66_150).clamp(-1, 1), 512, 353)


def _paper299(recording: audio.Recording) -> torch.Tensor:
    x = audio.mono_at(recording, 16_000)
    return audio.psd_log(audio.tile(x, 48_000).clamp(-1, 1), 16_000)


# fmt: off
PAPER = Sound(_paper, (257, 188), {
    "operator": "stft_log", "rate": 22_050, "channels": "mean", "resampler": audio.RESAMPLER,
    "repeated_to": 66_150, "n_fft": 512, "hop": 353, "window": "hann, periodic", "padding": "zeros, centred",
    "log": "ln(|S| + 1e-7)"})
PAPER299 = Sound(_paper299, (257, 299), {
    "operator": "psd_log", "rate": 16_000, "channels": "mean", "resampler": audio.RESAMPLER,
    "repeated_to": 48_000, "n_fft": 512, "hop": 159, "window": "tukey 0.25, periodic", "padding": "none",
    "log": "ln(P + 1e-7), standardised per clip"})
# fmt: on


class CremaDOptions(ClipOptions):
    """The arguments of ``crema_d``."""

    preset: Literal["paper", "paper299", "bb"] = "paper"
    split: Literal["ogm", "ogm_val", "speaker_independent"] = "ogm"
    fold: int = Field(0, ge=0, lt=FOLDS)  # of speaker_independent
    clean: bool | None = None  # None: where actors are kept apart
    augment: Literal["batched", "parity"] = "batched"  # parity: picture by picture, as the released code

    @model_validator(mode="after")
    def _read_all(self) -> Self:
        if self.fold and self.split != "speaker_independent":
            raise ValueError("fold belongs to split=speaker_independent")
        return self

    @property
    def is_clean(self) -> bool:
        """Whether the ten clips are left out that are damaged or have equal sound under two labels."""
        return self.split == "speaker_independent" if self.clean is None else self.clean


class CremaD(ClipDataset):
    """See the module. Samples: audio (1, F, T), visual (3, frames, image_size, image_size)."""

    name = "crema_d"
    modalities = ("audio", "visual")
    classes = CLASSES
    Options = CremaDOptions
    card = Card(
        title="CREMA-D: actors say a sentence with one of six emotions",
        modalities=("audio", "visual"),
        classes=6,
        size="3.0 GB to download, 13 GB prepared (preset paper)",
        licence="Open Database License 1.0, contents under Database Contents License 1.0",
        citation="Cao, Cooper, Keutmann, Gur, Nenkova, Verma: CREMA-D: Crowd-sourced Emotional Multimodal Actors "
        "Dataset, IEEE Transactions on Affective Computing 2014, doi 10.1109/TAFFC.2014.2336244",
        run_on_cpu="2.2 days on one core (estimated from its steps, without loading: results/bench/recipes-cpu.json)",
        how_to_get="`python -m datasets download crema_d` fetches AudioWAV (0.61 GB), VideoFlash (2.44 GB) and the "
        "split lists into data/crema_d/, from https://github.com/CheyneyComputerScience/CREMA-D or, where that is over "
        "its quota, https://gitlab.com/cs-cooper-lab/crema-d-mirror; git and git-lfs are not needed, and it goes on "
        "where it stopped. `--only audio` or `--only visual`: one of the folders.",
        quirks=(
            "The label is the intended emotion; raters agree for 77 % of the clips (71 % by face, 48 % by voice).",
            "split=ogm is the clip-level draw of the OGM-GE authors: all 91 actors are in train and in test, so it "
            "rewards knowing the speaker. split=speaker_independent keeps actors apart.",
            "split=ogm has no official validation set: it is carved from the authors' train list by a fixed rule.",
            "Three pairs of clips have equal audio under two labels; one pair is divided between ogm's train and test.",
            "Class order is NEU HAP SAD FEA DIS ANG, as in OGM-GE; other code bases sort the names.",
            "The released OGM-GE code always sees the first frame its file system lists. Here a sample sees a random "
            "one in training and the middle one in evaluation; pick=first takes the first in time, in both.",
            "Files are those of commit 1658cd3. A zip of the repository has git-lfs pointers instead of media.",
            "Four video files are known to be odd (very short, error picture, no duration, one minute long).",
        ),
        raw_files=("AudioWAV", "VideoFlash"),
    )
    training_recipe: ClassVar[Mapping[str, Any]] = {**PAPER_RECIPE, "dataset_args": {"preset": "paper", "split": "ogm"}}
    adaptive_lr: ClassVar[float] = 1e-4
    shared_groups = "actors_also_in_train"
    presets: ClassVar = {
        "paper": Preset(PAPER, picks=1),
        "paper299": Preset(PAPER299, picks=1),
        "bb": Preset(FBANK, k=2, picks=2),
    }
    list_files = (
        _list(_OGM, "train.csv", 140_658, 6698, "68d0d3fd253830328fc92c68f3cf2e215db8c5b86757ad9c5112d2c76ba68bde",
              "7b95d291b847eac9c1447bb9fb63b47176d182987ac74fe041e4dd493c6d0abd"),
        _list(_OGM, "test.csv", 15_624, 744, "14866c99301fd56fb4a16f8a7048a8a6372a47069aee9f216443bc718be45f1f",
              "959a667af66a01dc439b12d6ec9dc57b36a88e947f48ad63531a4b91f769394f"),
        _list(_RELEARNING, "my_train.csv", 119_080, 5954,
              "eaf4d9332c743a8e0a0538e53f15f86552fb961858a8347588f6ffc09071b232",
              "eaf4d9332c743a8e0a0538e53f15f86552fb961858a8347588f6ffc09071b232"),
        _list(_RELEARNING, "val.csv", 14_880, 744, "ecbd82453caca8a7126df010d67b33813387af3cbe32efe5eb5a94ed2d161291",
              "ecbd82453caca8a7126df010d67b33813387af3cbe32efe5eb5a94ed2d161291"),
    )  # fmt: skip
    # At commit 1658cd3; a host that fails is left for the next one.
    media_list = Path(__file__).with_name("lists") / "crema_d_media.csv.gz"
    hosts = "https://github.com/CheyneyComputerScience/CREMA-D", "https://gitlab.com/cs-cooper-lab/crema-d-mirror"
    media_folders: ClassVar = {"audio": "AudioWAV", "visual": "VideoFlash"}  # what `--only` takes
    published = (
        "OGM-GE: train 6698, test 744 (the same 744 in ogm and ogm_val; our val is taken from their train)",
        "Diagnosing and Re-learning: train 5954, val 744, test 744",
        "speaker_independent, folds 0 to 4: test 1557, 1475, 1470, 1464, 1476 before ten clips are left out",
    )

    # ---- splits
    @classmethod
    @override
    def lists(cls, options: CremaDOptions) -> tuple[str, ...]:
        return LISTS[options.split]

    @classmethod
    @override
    def resplit(cls, args: Mapping[str, Any], number: int) -> dict[str, Any]:
        """The folds of ``speaker_independent`` one after the other; the lists of papers are one split alone."""
        if args.get("split") != "speaker_independent" or "fold" in args:
            return {}
        return {"fold": number % FOLDS}

    @classmethod
    @override
    def read_splits(cls, options: CremaDOptions, folder: Path) -> tuple[dict[str, Rows], Counter[str]]:
        parts, notes = (
            (split_actors(options.fold), Counter[str]())
            if options.split == "speaker_independent"
            else cls.listed_splits(options, folder)
        )
        if options.is_clean:
            parts = {part: [row for row in rows if row[0] not in UNCLEAN] for part, rows in parts.items()}
        return parts, notes

    @classmethod
    def listed_splits(cls, options: CremaDOptions, folder: Path) -> tuple[dict[str, Rows], Counter[str]]:
        """The splits of the published lists, in the order of the lists; and notes on them.

        Raises DataError for lists that are missing, other than pinned, damaged, in contradiction to the names or to
        each other, and for a class that train does not have.
        """
        notes: Counter[str] = Counter()
        rows: dict[str, Rows] = {}
        for name in cls.lists(options):
            text, list_notes = cls.read_list(options, folder, name)
            rows[name], parse_notes = parse(text, folder / name, CLASSES)
            notes += list_notes + parse_notes
            for clip, label in rows[name]:
                named = label_of(clip, folder / name)
                if named != label:
                    raise LabelError(
                        f"{folder / name}: {clip} is listed as {CLASSES[label]}, but its name says {CLASSES[named]}"
                    )
        if options.split == "ogm":
            refuse_leaks({"train": rows["train.csv"], "test": rows["test.csv"]})
            train, val = carve(rows["train.csv"], rows["test.csv"])
        else:
            train, val = rows["my_train.csv"], rows["val.csv"]
        parts = {"train": train, "val": val, "test": rows["test.csv"]}
        refuse_leaks(parts)
        absent = [name for label, name in enumerate(CLASSES) if label not in {c for _, c in train}]
        if absent:
            raise LabelError(f"{folder}: no clip of {', '.join(absent)} is left to train on")
        return parts, notes

    @classmethod
    @override
    def group(cls, sample: str) -> str:
        return sample[:4]

    # ---- files
    @classmethod
    @override
    def download(cls, base: str | None = None, progress: Progress | None = None, only: str = "") -> str:
        """The split lists, and the clips; ``only`` a modality: its files alone. ``base`` is a git repository, too."""
        super().download(base, progress)
        wanted = [file for file in read_listed(cls.media_list) if file.path.startswith(cls.media_folders.get(only, ""))]
        fetch_listed(wanted, raw_folder(cls.name), [base] if base else cls.hosts, progress)
        if cls.raw_available():
            return ""
        return f"{raw_folder(cls.name)} has {cls.media_folders[only]}; the same command without --only fetches the rest"

    @classmethod
    def find(cls, raw: Path, clips: Sequence[str]) -> dict[str, dict[str, Path]]:
        """All that are there, so that every split finds its clips in one prepared set."""
        wavs, flvs = find_clips(raw / "AudioWAV", ".wav"), find_clips(raw / "VideoFlash", ".flv")
        return {name: {"audio": wavs[name], "visual": flvs[name]} for name in sorted(wavs.keys() & flvs.keys())}

    @classmethod
    @override
    def expected_at(cls, raw: Path, key: str) -> Path:
        wav = raw / "AudioWAV" / f"{key}.wav"
        return raw / "VideoFlash" / f"{key}.flv" if wav.exists() else wav

    @classmethod
    @override
    def storage(cls, options: CremaDOptions) -> dict[str, Any]:
        preset: Preset = cls.presets[options.preset]
        return {
            "dataset": "crema_d",
            "version": 2,
            "preset": options.preset,
            "audio": preset.parameters()["audio"],
            "height": HEIGHT,
            "width": WIDTH,
            "frames_per_second": preset.k,
            "frame_rule": "fps_blocks",
        }

    @classmethod
    @override
    def columns(cls, options: CremaDOptions, clips: int) -> dict[str, Column]:
        preset: Preset = cls.presets[options.preset]
        assert preset.sound
        frames = math.ceil(SECONDS * 1.04 * preset.k * clips)
        return {
            "audio": Column("<f4", preset.sound.shape, clips),
            "frames": Column("|u1", (HEIGHT, WIDTH, 3), frames),
        }

    @classmethod
    @override
    def decode(cls, options: CremaDOptions, files: Mapping[str, Path], notes: Counter[str]) -> dict[str, np.ndarray]:
        preset: Preset = cls.presets[options.preset]
        assert preset.sound
        sound = read_sound(files["audio"], preset.sound, notes)
        frames = read_frames(files["visual"], preset.k, HEIGHT, WIDTH)
        notes.update(frames.notes)
        return {"audio": sound, "frames": frames.pixels}

    # ---- samples
    @override
    def open_columns(self, keys: Sequence[str]) -> None:
        self.audio_rows = np.array([self.cache.rows("audio", key).start for key in keys])
        frames = [self.cache.rows("frames", key) for key in keys]
        self.first_frame = np.array([r.start for r in frames], dtype=np.int64)
        self.count = np.array([len(r) for r in frames], dtype=np.int64)

    def inputs(
        self, index: torch.Tensor, chosen: torch.Tensor, seeds: Sequence[int], draws: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        """For training ``visual`` is (B, T, 360, 480, 3) uint8, cropped on the training device, except in parity."""
        rows = self.first_frame[index.numpy(), None] + chosen.numpy()
        if seeds and self.recipe["augment"] == "parity":
            frames = np.asarray(self.cache["frames"])  # the map itself: only the crops are read from it
            whole = [[frames[row] for row in of] for of in rows]
            visual = image_transforms.parity(whole, [fold_in(seed, "parity") for seed in seeds], self.size)
        else:
            visual = torch.from_numpy(self.cache["frames"][rows])
            visual = visual if seeds else image_transforms.plain_resize(visual, self.size)
        return {"audio": self.sound(index, seeds), "visual": visual}

    def augment(self, batch: ogm.Batch, seeds: Sequence[int]) -> ogm.Batch:
        """A random resized crop and flip, drawn for each frame on its own, as the reference code does."""
        if self.recipe["augment"] == "parity":
            return batch
        boxes = image_transforms.crop_boxes(self.draws(seeds)[..., 1:], HEIGHT, WIDTH)
        batch.inputs["visual"] = image_transforms.crop_and_flip(batch.inputs["visual"], boxes, self.size)
        return batch


def find_clips(folder: Path, suffix: str) -> dict[str, Path]:
    """Clip -> its file. Raises ManifestError for a file whose name does not parse."""
    found = {path.stem: path for path in folder.glob(f"*{suffix}")}
    for name in sorted(found):
        label_of(name, folder)
    return found


def label_of(name: str, path: Path) -> int:
    """The class number in a clip's name. Raises ManifestError for a name that does not parse."""
    match = NAME.fullmatch(name)
    if not match:
        raise ManifestError(
            f"{path}: {name!r} is not called ACTOR_SENTENCE_EMOTION_LEVEL like 1001_DFA_ANG_XX; rename or remove it"
        )
    return CLASSES.index(match[3])


def actors(rows: Rows) -> set[str]:
    """The numbers of the actors in some clips, as texts."""
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
    per_class = Counter(label for _, label in test)
    val: set[str] = set()
    for label in range(len(CLASSES)):
        names = sorted((n for n, c in train if c == label), key=lambda n: hashlib.sha256(n.encode()).hexdigest())
        val.update(names[: per_class[label]])
    return [row for row in train if row[0] not in val], [row for row in train if row[0] in val]
