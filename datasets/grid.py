"""GRID: 34 talkers say 1,000 short commands each, such as "bin blue at f two now"; sound and face.

``target=word`` (the default): each of a clip's six words is a sample, cut out by the alignment, one of 51 classes. A
sample is the 0.4 s around the centre of its word: ten frames and as much sound. ``target=letter`` (25 classes),
``digit`` (10), ``colour``, ``command``, ``preposition``, ``adverb`` (4 each): a sample is a whole clip of 3 s, its
label is what the clip's name says.

``noise_db`` adds white Gaussian noise to the sound of each sample, in preparation. It is the signal-to-noise ratio in
dB: the power of the sample's own sound (the word's 0.4 s, or the clip) relative to the power of the noise. With -5 the
noise is 5 dB louder than the speech. The noise is drawn from the sha256 of the sample's name, so a sample has the same
noise whatever else is prepared. Without ``noise_db`` the sound is clean.

Presets. ``small``, for two cores: the mouth, x 110 to 206 and y 186 to 250 of 360 x 288 pixels, in grey, 24 x 36 by the
mean over areas, every second frame, the frames as channels: visual (5, 24, 36) of a word, (38, 24, 36) of a clip;
audio: 40 log-mel bands, (1, 40, 41) and (1, 40, 301). ``full``: x 86 to 230 and y 170 to 266, 64 x 96, every frame:
visual (1, 10, 64, 96) and (1, 75, 64, 96), audio with 80 bands, (1, 80, 41) and (1, 80, 301). The region is the same in
all clips, chosen on talker s1; nobody's face is followed. Bands: 16 kHz, n_fft 400, hop 160. ``talkers`` is "s1" in
``small`` and "all" 33 in ``full`` unless it is given, such as s1,s2,s7 (there is no s21). Each
modality of each sample is brought to mean 0 and standard deviation 1.

The training recipe is that of ``small``. For ``full`` take that of the larger audio-visual sets: encoders resnet18,
epochs=100 lr=0.001 schedule=step lr_steps=[70] lr_factor=0.1.

Splits keep clips whole. ``split=clip``: by sha256 of the clip's name modulo 10, 0 is test, 1 is val; the same sentence
of several talkers is on one side. ``split=talker``: of the talkers in order every fifth is test, every fifth from the
second on is val. With ``folds`` the clips, or the talkers, are divided anew (datasets/core/grouped_splits.py);
``compare`` gives each seed one of five folds.

The clips of s1 have to be the published ones, byte for byte (``allow_unpinned=true`` takes others); of other talkers no
digests are known. ``max_missing`` says how many clips may be absent, contradict their alignment, or be unreadable.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import override

import ogm
from datasets.core.base import DataModule, ScanReport
from datasets.core.card import Card
from datasets.core.checks import refuse_pointer
from datasets.core.errors import DataError, LabelError, MissingMediaError, PinMismatchError, VideoDecodeError
from datasets.core.grouped_splits import FoldOptions, grouped_split, resplit_options
from datasets.core.lazy import torch
from datasets.core.paths import raw_folder
from datasets.core.progress import Progress
from datasets.core.recipes import SMALL
from datasets.core.sample_keys import SampleKey, sample_index
from datasets.decode.grid_clip import HOP, N_FFT, RATE, Form, Piece, decode_clip, shapes, whole_clip, word_piece
from datasets.storage import content
from datasets.storage.cache import Cache, Column, Decoded, RawItem
from datasets.storage.grid_files import (
    CLIPS,
    PIECES,
    PINNED,
    TALKERS,
    WORDS,
    aligned_words,
    download_talkers,
    find_clips,
    published_digests,
    words_of,
)
from datasets.storage.prepared import DecodePlan, Options, Prepared

FORMS = {
    "small": Form(box=(110, 186, 206, 250), size=(24, 36), step=2, bins=40, stacked=True),
    "full": Form(box=(86, 170, 230, 266), size=(64, 96), step=1, bins=80, stacked=False),
}
FOLDS = 5  # of a comparison


class GridOptions(Options, FoldOptions):
    """The arguments of ``grid``."""

    preset: Literal["small", "full"] = "small"
    target: Literal["word", "letter", "digit", "colour", "command", "preposition", "adverb"] = "word"
    noise_db: float | None = Field(None, ge=-60, le=60, strict=False)  # of the sound, relative to the noise
    talkers: str = ""  # such as s1,s2,s7; all; "": the preset's
    split: Literal["clip", "talker"] = "clip"
    max_missing: int = Field(0, ge=0)  # clips that may be absent or unusable; their number is reported
    allow_unpinned: bool = False  # clips of s1 that are not the published ones

    @model_validator(mode="after")
    def _talkers_exist(self) -> Self:
        named = self.talkers.split(",") if self.talkers not in ("", "all") else []
        if unknown := [name for name in named if name not in TALKERS]:
            raise ValueError(f"talkers: {unknown[0][:20]!r} is no talker; they are s1 to s34 without s21, or say all")
        if len(set(named)) < len(named):
            raise ValueError("talkers: one is named twice")
        return self

    @property
    def chosen(self) -> tuple[str, ...]:
        """The talkers, in the order of their numbers."""
        text = self.talkers or {"small": "s1", "full": "all"}[self.preset]
        return TALKERS if text == "all" else tuple(sorted(text.split(","), key=TALKERS.index))


class Grid(Prepared):
    """See the module. Samples: audio (1, bins, T); visual (5, 24, 36) in ``small``, (1, frames, 64, 96) in ``full``."""

    name = "grid"
    modalities = ("audio", "visual")
    classes: Sequence[str] = tuple(word for words in WORDS.values() for word in words)
    static = True
    Options = GridOptions
    card = Card(
        title="GRID: talkers say short commands; which of 51 words, or which letter, digit or colour of a sentence",
        modalities=("audio", "visual"),
        classes=51,
        size="0.45 GB a talker to download, 0.07 GB prepared (small); 15 GB and 15 GB with all talkers (full)",
        licence="Creative Commons Attribution 4.0",
        citation="Cooke, Barker, Cunningham, Shao: An audio-visual corpus for speech perception and automatic speech "
        "recognition, Journal of the Acoustical Society of America 2006, doi 10.1121/1.2229005",
        how_to_get="`python -m datasets download grid` fetches alignments.zip and s1.zip of "
        "https://zenodo.org/records/3625687, Creative Commons Attribution 4.0, and unpacks them: clips as "
        "data/grid/s1/bbaf2n.mpg, alignments as data/grid/alignments/s1/bbaf2n.align. For more talkers put s2.zip to "
        "s34.zip into data/grid/ and run it again; it checks and unpacks them.",
        quirks=(
            "Clean sound alone recognises most words, so that pictures can add little: compare with noise_db=-5.",
            "Samples are words, six of a clip; a clip is on one side of every split, and intervals count clips.",
            "split=clip tests the talkers that were trained on; split=talker holds talkers out, and needs several.",
            "The box of the mouth is fixed and was chosen on talker s1; nobody's face is followed.",
            "Sound is 2.978 s of a clip of 3.000 s, and some clips have 74 of 75 frames: what lies beyond is zero "
            "sound and the last frame again, counted in the notes.",
            "One clip of s1, sgib8n, has a damaged macroblock; it decodes and is kept.",
            "In alignments.zip some talkers lie in the folder of another, says lhotse's recipe for GRID; the names of "
            "the clips decide which folder is taken.",
            "Words sil and sp of the alignments are silence and no samples. There is no talker s21.",
        ),
        raw_files=("alignments|s1/align",),
        preparation="53 s a talker on one core (small; measured on s1)",
        run_on_cpu="21 s of processor time on one core (small, one talker; measured: median of the vanilla runs of "
        "results/reference/compare-grid)",
    )
    training_recipe: ClassVar[Mapping[str, Any]] = {**SMALL, "dataset_args": {"preset": "small"}}
    adaptive_lr: ClassVar[float] = 1e-3

    def __init__(
        self, options: GridOptions, cache: Cache, samples: Sequence[tuple[str, int, str]], notes: Counter[str]
    ) -> None:
        """Make one split.

        Args:
            options: Checked arguments.
            cache: The prepared set.
            samples: Clip, place among its samples, and label of each sample.
            notes: On what is not there.
        """
        self.cache, self.stacked = cache, FORMS[options.preset].stacked
        by_word = options.target == "word"
        self.classes = type(self).classes if by_word else WORDS[options.target]
        number = {word: i for i, word in enumerate(self.classes)}
        self.ids = [f"{clip}/{place}" if by_word else clip for clip, place, _ in samples]
        self.labels = [number[label] for _, _, label in samples]
        self.label_rows = np.array(self.labels, dtype=np.int64)
        self.rows = np.array([cache.rows("audio", clip).start + place for clip, place, _ in samples], dtype=np.int64)
        clips = dict.fromkeys(clip for clip, _, _ in samples)
        notes = notes + sum((Counter(cache.facts[clip]["notes"]) for clip in clips), Counter())
        counts = Counter(self.labels)
        per_class = {name: counts[i] for i, name in enumerate(self.classes)}
        self.report = ScanReport(len(self.ids), len(self.ids), per_class, dict(notes), independent=len(clips))
        self.recipe = {
            **cache.manifest["recipe"],
            "source": cache.manifest["source"],
            "target": options.target,
            "split": options.split,
            **options.split_recipe(),
        }

    @classmethod
    @override
    def resplit(cls, args: Mapping[str, Any], number: int) -> dict[str, Any]:
        """All folds with one ``split_seed`` after the other; five, unless ``folds`` says how many."""
        return resplit_options(args, FOLDS, number)

    # ---- samples
    @override
    def batch(self, keys: Sequence[SampleKey]) -> ogm.Batch:
        index = sample_index(keys)
        rows = self.rows[index.numpy()]
        mean, std = torch.from_numpy(self.cache["grey"][rows]).view(-1, 2, 1, 1, 1).unbind(1)
        visual = (torch.from_numpy(self.cache["visual"][rows]).float() - mean) / std
        inputs = {
            "audio": torch.from_numpy(self.cache["audio"][rows]).unsqueeze(1),
            "visual": visual if self.stacked else visual.unsqueeze(1),
        }
        return ogm.Batch(inputs, torch.from_numpy(self.label_rows[index.numpy()]), index)

    # ---- preparing
    @classmethod
    @override
    def download(cls, base: str | None = None, progress: Progress | None = None) -> str:
        download_talkers(raw_folder(cls.name), base, progress)
        return ""

    @classmethod
    @override
    def storage(cls, options: GridOptions) -> dict[str, Any]:
        form = asdict(FORMS[options.preset])
        return {
            "dataset": "grid",
            "version": 1,
            "preset": options.preset,
            "pieces": "words" if options.target == "word" else "clips",
            "noise_db": options.noise_db,
            "talkers": list(options.chosen),
            "form": {**form, "box": list(form["box"]), "size": list(form["size"]), "resize": "area, grey"},
            "audio": {"rate": RATE, "n_fft": N_FFT, "hop": HOP, "log": "ln(M |S|^2 + 1e-4), standardised"},
        }

    @classmethod
    @override
    def scan(cls, options: GridOptions) -> DecodePlan:
        raw = raw_folder(cls.name)
        files = find_clips(raw, options.chosen)
        pieces, contradictions = _pieces(options, files)
        _refuse_absent(raw, options, list(pieces), contradictions)
        for key in pieces:
            refuse_pointer(files[key]["video"], VideoDecodeError)
        digests = content.digests(path for key in pieces for path in files[key].values())
        known = published_digests() if PINNED in options.chosen else {}
        own = [key for key in pieces if key.startswith(f"{PINNED}/")]
        other = [key for key in own if digests[files[key]["video"]] != known.get(key)]
        if other and not options.allow_unpinned:
            raise PinMismatchError(
                f"{raw}: {len(other)} of the {CLIPS} clips of talker {PINNED} are not the published ones "
                f"({', '.join(other[:3])}{', ...' if len(other) > 3 else ''}); get {PINNED}.zip again, or say "
                "allow_unpinned=true"
            )
        form = FORMS[options.preset]
        items = [RawItem(key, content.source(files[key], digests)) for key in pieces]
        failures = itertools.count(len(options.chosen) * CLIPS - len(pieces) + 1)

        def decode(item: RawItem) -> Decoded:
            notes = Counter(
                not_the_published_clip=int(item.key in other),
                alignment_in_other_folder=int(item.key.split("/")[0] not in files[item.key]["words"].parts),
            )
            try:
                rows = decode_clip(files[item.key]["video"], pieces[item.key], form, options.noise_db, notes)
            except DataError as error:
                if next(failures) > options.max_missing:
                    raise
                return Decoded({}, {"why": str(error)})
            return Decoded(rows, {"notes": +notes})

        shape = shapes(form, next(iter(pieces.values()))[0])
        expected = sum(map(len, pieces.values()))
        columns = {
            "audio": Column("<f4", shape["audio"], expected),
            "visual": Column("|u1", shape["visual"], expected),
            "grey": Column("<f4", (2,), expected),
        }
        return DecodePlan(items, columns, decode)

    @classmethod
    @override
    def sources(cls, options: GridOptions, keys: Sequence[str]) -> Mapping[str, str]:
        known = set(keys)
        found = find_clips(raw_folder(cls.name), options.chosen)
        return content.sources({key: files for key, files in found.items() if key in known})

    # ---- splits
    @classmethod
    @override
    def split(cls, options: GridOptions, cache: Cache) -> DataModule:
        clips = sorted(key for key in cache.keys if "why" not in cache.facts[key])
        lost = len(cache.keys) - len(clips)
        notes = +Counter(missing=len(options.chosen) * CLIPS - len(cache.keys), unreadable=lost)
        samples = [(clip, *pair) for clip in clips for pair in enumerate(_labels(options, clip))]
        sides = _split_sides(options, [clip for clip, _, _ in samples], [label for _, _, label in samples])
        parts = {}
        for side in ("train", "val", "test"):
            own = [sample for sample, part in zip(samples, sides, strict=True) if part == side]
            if not own:
                raise DataError(
                    f"{cls.name}: split={options.split} leaves no clip of {', '.join(options.chosen[:5])} for {side}; "
                    "take more talkers, or the other split"
                )
            parts[side] = cls(options, cache, own, notes if side == "train" else Counter())
        absent = [name for name, count in parts["train"].report.per_class.items() if not count]
        if absent:
            raise LabelError(f"{cls.name}: no sample of {', '.join(absent[:10])} is left to train on")
        return DataModule(**parts)


def _labels(options: GridOptions, clip: str) -> tuple[str, ...]:
    """The label of each sample of a clip."""
    words = words_of(clip.split("/")[1], Path(clip))
    return words if options.target == "word" else (words[PIECES.index(options.target)],)


def _pieces(options: GridOptions, files: Mapping[str, Mapping[str, Path]]) -> tuple[dict[str, list[Piece]], list[str]]:
    """The samples of each clip; and what is wrong with those whose alignment has other words than their name."""
    pieces: dict[str, list[Piece]] = {}
    contradictions = []
    for key, of in files.items():
        try:
            words = aligned_words(of["words"], key.split("/")[1])
        except LabelError as error:
            contradictions.append(str(error))
            continue
        if options.target == "word":
            pieces[key] = [word_piece(f"{key}/{i}", *word) for i, word in enumerate(words)]
        else:
            pieces[key] = [whole_clip(key)]
    return pieces, contradictions


def _refuse_absent(raw: Path, options: GridOptions, keys: Sequence[str], contradictions: Sequence[str]) -> None:
    """Raises DataError where more clips are absent, or contradict their alignment, than may be, or all of a talker."""
    counts = Counter(key.split("/")[0] for key in keys)
    count = len(options.chosen) * CLIPS - len(keys)
    lines = [*contradictions, *(f"{CLIPS - counts[t]} of talker {t}" for t in options.chosen if counts[t] < CLIPS)]
    empty = [talker for talker in options.chosen if not counts[talker]]
    if count > options.max_missing or empty:
        help_ = "choose talkers= that are there" if empty else f"go on without them by max_missing={count}"
        raise MissingMediaError(
            f"{raw}: {count} of {len(options.chosen) * CLIPS} clips have no .mpg and .align that fit together: "
            f"{'; '.join(lines[:5])}{'; ...' if len(lines) > 5 else ''}; put them there, or {help_}"
        )


def _split_sides(options: GridOptions, clips: Sequence[str], labels: Sequence[str]) -> list[str]:
    """``train``, ``val`` or ``test`` of each sample, from its clip and its label."""
    groups = [clip.split("/")[0 if options.split == "talker" else 1] for clip in clips]
    if options.folds is not None:
        found = asdict(grouped_split(labels, groups, options))
        side_of = {i: side for side, chosen in found.items() for i in chosen}
        return [side_of[i] for i in range(len(groups))]
    if options.split == "talker":
        part = {talker: i % FOLDS for i, talker in enumerate(options.chosen)}
    else:
        part = {name: int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10 for name in groups}
    return [{0: "test", 1: "val"}.get(part[group], "train") for group in groups]
