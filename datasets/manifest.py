"""Your own data, without code: a CSV with one row per sample and one column per modality.

    id,split,label,audio:audio,visual:video,words:text
    clip 1,train,happy,sound/1.wav,film/1.mp4,words/1.txt

``path`` says where it is (default data/manifest/manifest.csv); files lie below ``root`` (default: the folder of the
CSV). Kinds of columns and what a sample holds of them:

  audio         (1, F, T) spectrogram of any recording, or of a video's sound, repeated or cut to ``seconds``
  video, frames (3, picks, S, S) frames of a video, or of a folder of pictures
  image         (3, 1, S, S) a picture
  text          (text_bytes, 256) the bytes of a UTF-8 file, a step each, one-hot; cut, or followed by zeros
  npy, npz      (D,) as (1, D), else as it is: FILE.npy, FILE.npz#ARRAY; of one shape, or cut and padded to ``length``

Further columns: start, end (seconds of audio and video), group (whom train and test should not share), weight (of the
sample in training). Labels are names, in the order of classes.txt beside the CSV, else sorted; or numbers, where
``classes`` says how many. An empty cell is a missing modality: zeros, and ``present`` says so, if ``allow_missing``.
Without rows of val a tenth of train becomes val, of each class those with the smallest sha256 of their id.

``folds=5 fold=2 split_seed=0`` splits all rows anew, by the column group, and no column split is read: part 2 of 5 is
the test, no group is on two sides, and a tenth of the other groups' rows is val (see datasets/core/grouped_splits.py).

The fingerprint covers the content of every file, and the labels, splits, classes, groups and weights. Each root has its
own prepared folder, so two sets with the same names do not take turns in one.

Columns of the kind ``flow`` are refused: it is not defined how to prepare them. Features of it can be given as npy, as
can a language model's features of texts. A training sample is cropped and mirrored (``augment=batched``), as the
released code does it picture by picture (``parity``), or left alone (``none``).

A run gets as many epochs as make 540 optimizer steps, 20 to 200 (``small_for`` in datasets/core/recipes.py).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

import ogm
from datasets.core.base import DataModule, ScanReport
from datasets.core.card import Card
from datasets.core.errors import DataError, LabelError, ManifestError, MissingMediaError
from datasets.core.grouped_splits import resplit_options
from datasets.core.lazy import torch
from datasets.core.manifest_file import MAX_SHOWN, Listing, Sample, csv_path, outline, read_manifest
from datasets.core.manifest_splits import rows_by_split, samples_to_train_on
from datasets.core.paths import cache_folder
from datasets.core.recipes import SMALL, small_for
from datasets.core.sample_keys import SampleKey, random_numbers, sample_index, sample_seeds
from datasets.decode import image_files, image_transforms, text
from datasets.decode.video import segments
from datasets.storage import content
from datasets.storage.cache import Cache, Decoded, RawItem, canonical, sha256, short_digest
from datasets.storage.manifest_cells import (
    ARRAY_KINDS,
    ENCODERS,
    PICTURE_KINDS,
    SOUNDS,
    ManifestOptions,
    column,
    decode_cell,
    stored_size,
)
from datasets.storage.prepared import DecodePlan, Prepared
from ogm.seeds import fold_in

RESERVED_NAMES = {"fused", "label", "index", "id"}  # beside modalities: among losses, and in a sample


class Manifest(Prepared):
    """See the module. ``modalities`` and ``classes`` are what the CSV says."""

    name = "manifest"
    modalities: tuple[str, ...] = ()
    classes: Sequence[str] = ()
    Options = ManifestOptions
    card = Card(
        title="your own data: a CSV that names recordings, videos, pictures or arrays, no code",
        modalities=(),
        classes=0,
        size="what yours takes",
        licence="yours",
        citation="yours",
        how_to_get="Write a CSV that begins id,split,label,audio:audio,visual:video, one row per sample, as data/"
        "manifest/manifest.csv (or say path=FILE.csv), with paths from its folder on. split is train, val or test; a "
        "column is MODALITY:KIND, two or more of them, and KIND is audio, video, frames (a folder of pictures), image, "
        "text (a UTF-8 file), npy or npz (FILE.npz#ARRAY). `python -m datasets scan FOLDER` writes the CSV of folders "
        "that are classes. An empty cell is a missing modality (allow_missing=true).",
        quirks=(
            "Every mistake is named with its line and column before anything is decoded.",
            "Without rows of val, a tenth of train becomes val, by a fixed rule.",
            "folds=5 fold=0 split_seed=0 splits the rows by their column group instead of the column split: repeated "
            "splits give intervals over splits.",
            "By default a run has 20 to 200 epochs, as many as make 540 optimizer steps, with batches of 64 and "
            "smaller ones below 256 samples. Say epochs=N batch_size=N for others.",
            "A text is read as its first 256 bytes (text_bytes=N for more); longer ones are counted as texts_cut.",
            "Pictures are cropped and mirrored in training; say augment=none where left and right matter.",
        ),
        raw_files=("manifest.csv",),
        preparation="depends on your files: not measured",
        run_on_cpu="depends on your files: not measured",
        run_on_gpu="depends on your files: not measured",
        example=(
            "Two folders of clips, clips/bark/001.wav, clips/bark/001.mp4, ... and clips/meow/001.wav, ...:",
            "    python -m datasets scan clips",
            "writes clips/manifest.csv, which you may as well write yourself:",
            "    id,split,label,group,audio:audio,visual:video",
            "    bark/001,train,bark,bark/001,bark/001.wav,bark/001.mp4",
            "    meow/001,test,meow,meow/001,meow/001.wav,meow/001.mp4",
            "It is decoded once, and methods are compared on it:",
            "    python -m datasets prepare manifest path=clips/manifest.csv",
            "    python -m benchmarks compare methods=vanilla,ogm_ge dataset=manifest "
            "dataset_args.path=clips/manifest.csv",
            "With speakers or films in the column group, prepare with folds=5 and compare with dataset_args.folds=5.",
            "More: docs/your_own_data.md",
        ),
    )
    training_recipe: ClassVar[Mapping[str, Any]] = {**SMALL, "encoders": {}}  # see ``recipe_for``
    adaptive_lr: ClassVar[float] = 1e-3

    def __init__(
        self, options: ManifestOptions, cache: Cache, listing: Listing, rows: Sequence[Sample], notes: Counter[str]
    ) -> None:
        self.cache, self.settings, self.kinds = cache, options, listing.kinds
        self.modalities, self.classes = tuple(listing.kinds), listing.classes
        self.ids = [row.id for row in rows]
        number = {name: i for i, name in enumerate(self.classes)}
        self.labels = [number[row.label] for row in rows]
        self.label_rows = np.array(self.labels, dtype=np.int64)
        spans = {m: [cache.rows(m, name) for name in self.ids] for m in self.modalities}
        self.first = {m: np.array([r.start for r in spans[m]], dtype=np.int64) for m in self.modalities}
        self.count = {m: np.array([len(r) for r in spans[m]], dtype=np.int64) for m in self.modalities}
        if any(not path for row in listing.samples for path in row.files.values()):
            self.present = torch.from_numpy(np.stack([self.count[m] > 0 for m in self.modalities], 1))
        self.weights = np.array([row.weight for row in rows], dtype=np.float32) if listing.weighted else None
        self.picture_modalities = [m for m in self.modalities if listing.kinds[m] in PICTURE_KINDS]
        many = any(int(self.count[m].max()) > options.picks for m in self.picture_modalities)
        self.static = options.augment != "parity" and not many
        missing = {f"missing_{m}": int((self.count[m] == 0).sum()) for m in self.modalities}
        noted = (Counter(facts) for name in self.ids if (facts := cache.facts[name]))
        notes = notes + Counter(missing) + sum(noted, Counter())
        per_class = Counter(self.labels)
        self.report = ScanReport(
            len(rows), len(rows), {name: per_class[i] for i, name in enumerate(self.classes)}, dict(notes)
        )
        self.recipe = {
            **cache.manifest["recipe"],
            "source": cache.manifest["source"],
            **options.model_dump(include={"image_size", "picks", "augment"}),
            "weights": "" if self.weights is None else short_digest({"weights": self.weights.tolist()}),
            "groups": short_digest({"groups": [row.group for row in rows]}) if any(row.group for row in rows) else "",
            **options.split_recipe(),
        }

    @classmethod
    @override
    def recipe_for(cls, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """Encoders by the kinds of the columns, epochs and batch by the number of rows; see ``small_for``."""
        path, folds = csv_path(str(args.get("path", ""))), args.get("folds")
        found = outline(path, resplit=folds is not None)
        parts = folds if isinstance(folds, int) and folds > 1 else None  # any other is refused with the other options
        encoders = {m: ENCODERS[kind] for m, kind in found.kinds.items()}
        return {**small_for(samples_to_train_on(found, parts)), "encoders": encoders}

    @classmethod
    @override
    def resplit(cls, args: Mapping[str, Any], number: int) -> dict[str, Any]:
        """All folds with one ``split_seed`` after the other, where ``folds`` says how many there are."""
        return resplit_options(args, None, number)

    # ---- samples
    def batch(self, keys: Sequence[SampleKey]) -> ogm.Batch:
        """For evaluation all is done. For training pictures are (B, T, S', S', 3) uint8 until ``augment``."""
        index = sample_index(keys)
        seeds = sample_seeds(keys)
        draws = self._random_numbers(seeds) if seeds and not self.static else None
        batch = ogm.Batch({}, torch.from_numpy(self.label_rows[index.numpy()]), index)
        if self.present is not None:
            batch.present = {m: self.present[index, k] for k, m in enumerate(self.modalities)}
        if self.weights is not None and seeds:
            batch.weight = torch.from_numpy(self.weights[index.numpy()])
        for m in self.modalities:
            first, count = (torch.from_numpy(x[m][index.numpy()]) for x in (self.first, self.count))
            rows = first.clamp(max=len(self.cache[m]) - 1)  # of a missing one: any row, see below
            if m in self.picture_modalities:
                draw = None if draws is None else draws[:, self._picture_slice(m), 0]
                rows = rows[:, None] + segments(count.clamp(min=1), self._frames_seen(m), draw)
            x = torch.from_numpy(self.cache[m][rows.numpy()])
            if m in self.picture_modalities and (not seeds or self.settings.augment == "none"):
                x = image_transforms.plain_resize(x, self.settings.image_size)
            elif m in self.picture_modalities and self.settings.augment == "parity":
                x = image_transforms.parity(x.numpy(), [fold_in(seed, m) for seed in seeds], self.settings.image_size)
            elif self.kinds[m] == "audio":
                x = x.unsqueeze(1)
            elif self.kinds[m] == "text":
                x = text.one_hot(x)
            batch.inputs[m] = x
        return self._zero_missing(batch)

    def augment(self, batch: ogm.Batch, seeds: Sequence[int]) -> ogm.Batch:
        """A random resized crop and flip of each picture by itself, drawn from the sample's seed."""
        if self.settings.augment == "batched" and self.picture_modalities:
            draws = self._random_numbers(seeds)
            for m in self.picture_modalities:
                x = batch.inputs[m]
                boxes = image_transforms.crop_boxes(draws[:, self._picture_slice(m), 1:], *x.shape[2:4])
                batch.inputs[m] = image_transforms.crop_and_flip(x, boxes, self.settings.image_size)
        return self._zero_missing(batch)

    def _zero_missing(self, batch: ogm.Batch) -> ogm.Batch:
        """Zeros where a modality is missing, whatever stood in its place."""
        if self.present is not None:
            for m, x in batch.inputs.items():
                here = batch.present[m].view(-1, *[1] * (x.ndim - 1))
                batch.inputs[m] = torch.where(here, x, torch.zeros((), dtype=x.dtype, device=x.device))
        return batch

    def _frames_seen(self, modality: str) -> int:
        return 1 if self.kinds[modality] == "image" else self.settings.picks

    def _picture_slice(self, modality: str) -> slice:
        start = sum(map(self._frames_seen, self.picture_modalities[: self.picture_modalities.index(modality)]))
        return slice(start, start + self._frames_seen(modality))

    def _random_numbers(self, seeds: Sequence[int]) -> torch.Tensor:
        """(B, pictures, 24) in [0, 1): one stream per sample, so neither its batch nor its worker matters."""
        shape = sum(map(self._frames_seen, self.picture_modalities)), 1 + image_transforms.DRAWS
        return random_numbers(seeds, *shape)

    # ---- preparing
    @classmethod
    @override
    def raw_available(cls) -> bool:
        return True  # where a CSV is, its files are; what is missing is named, with its line

    @classmethod
    @override
    def download(cls, base: str | None = None, progress: Any = None) -> str:
        return cls.card.how_to_get

    @classmethod
    def ready(cls, **args: Any) -> bool:
        """Without a CSV at the usual place nothing is; one that is asked for by ``path`` has to be there."""
        options = cls.options(args)
        return (bool(options.path) or csv_path("").is_file()) and super().ready(**args)

    @classmethod
    def prepare(cls, progress: bool = True, **args: Any) -> Path:
        """As every dataset's; a prepared set whose raw files are all gone is taken as it is."""
        options = cls.options(args)
        root, listing = _root(options), cls.listing(options)
        files = (file for row in listing.samples for file in _files(root, listing, row).values())
        if cls.ready(**args) and not any(Path(file).exists() for file in files):
            return cls.open(options).folder
        return super().prepare(progress, **args)

    @classmethod
    def listing(cls, options: ManifestOptions) -> Listing:
        """The CSV that these options name, read and checked."""
        return _listing(*cls.identity(options))

    @classmethod
    def identity(cls, options: ManifestOptions) -> tuple[Path, int | None, bool, bool, str]:
        """All that decides what ``listing`` returns."""
        resplit, digest = options.folds is not None, cls.lists_digest(options)
        return csv_path(options.path), options.classes, options.allow_missing, resplit, digest

    @classmethod
    @override
    def lists_digest(cls, options: ManifestOptions) -> str:
        path = csv_path(options.path)
        return canonical([sha256(p) if p.is_file() else "" for p in (path, path.with_name("classes.txt"))])

    @classmethod
    def folder(cls, options: ManifestOptions) -> Path:
        """One for each root. The recipe does not say where it is: the same files elsewhere are the same data."""
        return cache_folder(cls.name) / short_digest({**cls.storage(options), "root": str(_root(options).resolve())})

    @classmethod
    def storage(cls, options: ManifestOptions) -> dict[str, Any]:
        """What is decoded, and how; not who is in which split or class, so that these may change at no cost."""
        listing = cls.listing(options)
        kinds = set(listing.kinds.values())
        return {
            "dataset": "manifest",
            "version": 1,
            "modalities": [list(item) for item in listing.kinds.items()],
            "files": _cells_digest(*cls.identity(options)),
            "audio": dict(SOUNDS[options.sound], seconds=options.seconds) if "audio" in kinds else None,
            "pictures": stored_size(options) if kinds & {*PICTURE_KINDS} else None,
            "frames_per_second": options.frames_per_second if "video" in kinds else None,
            "length": options.length if kinds & {*ARRAY_KINDS} else None,
            **({"text_bytes": options.text_bytes} if "text" in kinds else {}),
        }

    @classmethod
    @override
    def scan(cls, options: ManifestOptions) -> DecodePlan:
        path, root, listing = csv_path(options.path), _root(options), cls.listing(options)
        _check_names(path, listing)
        rows_by_split(path, listing, options)
        missing, files = [], {row.id: _files(root, listing, row) for row in listing.samples}
        for row in listing.samples:
            for m, file in files[row.id].items():
                here = image_files.any_in(Path(file)) if listing.kinds[m] == "frames" else Path(file).is_file()
                if not here:
                    missing.append(f"line {row.line}, column {m}:{listing.kinds[m]}: {file}")
        if missing:
            more = ", ..." if len(missing) > MAX_SHOWN else ""
            raise MissingMediaError(
                f"{path}: {len(missing)} files are not there: {'; '.join(missing[:MAX_SHOWN])}{more}; put them there, "
                "correct the paths, or say root=FOLDER"
            )
        columns = cache(lambda: {m: column(path, root, listing, options, m) for m in listing.kinds})
        by_id = {row.id: row for row in listing.samples}

        def decode(item: RawItem) -> Decoded:
            row, notes, rows = by_id[item.key], Counter[str](), {}
            for m, cell in row.files.items():
                if cell:
                    try:
                        rows[m] = decode_cell(root, cell, listing.kinds[m], row, options, columns()[m].shape, notes)
                    except DataError as error:
                        column = f"{m}:{listing.kinds[m]}"
                        raise type(error)(f"{path}, line {row.line}, column {column}: {error}") from error
            return Decoded(rows, notes)

        return DecodePlan([RawItem(*item) for item in content.sources(files).items()], columns, decode)

    @classmethod
    @override
    def sources(cls, options: ManifestOptions, keys: Sequence[str]) -> Mapping[str, str]:
        root, listing = _root(options), cls.listing(options)
        return content.sources({row.id: _files(root, listing, row) for row in listing.samples})

    @classmethod
    @override
    def split(cls, options: ManifestOptions, cache: Cache) -> DataModule:
        listing = cls.listing(options)
        parts, carved = rows_by_split(csv_path(options.path), listing, options)
        notes = Counter(list_extra_columns=len(listing.unread), val_carved=carved)
        known = {row.group for row in parts["train"] if row.group}
        spectrogram = {}
        for name, rows in parts.items():
            shared = 0 if name == "train" else len({row.group for row in rows} & known)
            spectrogram[name] = cls(options, cache, listing, rows, +(notes + Counter(groups_also_in_train=shared)))
        return DataModule(**spectrogram)


def _root(options: ManifestOptions) -> Path:
    return Path(options.root) if options.root else csv_path(options.path).parent


def _files(root: Path, listing: Listing, row: Sample) -> dict[str, str]:
    """Modality -> the file or folder that holds it, of those that the row has. Text: a CSV may have many rows."""
    return {
        m: f"{root}/{cell.partition('#')[0] if listing.kinds[m] == 'npz' else cell}"
        for m, cell in row.files.items()
        if cell
    }


def _check_names(path: Path, listing: Listing) -> None:
    """Raise ManifestError for a modality that cannot be called so. Prepared data passed: they are stored by name."""
    for m, kind in listing.kinds.items():
        if m in RESERVED_NAMES or hasattr(torch.nn.ModuleDict(), m) or hasattr(torch.nn.ParameterDict(), m):
            raise ManifestError(
                f"{path}, column {m}:{kind}: {m!r} has another meaning in a model or a sample; name the modality "
                f"otherwise, such as {m}_1"
            )


@lru_cache(maxsize=4)
def _cells_digest(path: Path, classes: int | None, allow_missing: bool, resplit: bool, digest: str) -> str:
    """The sha256 of which file and which seconds of it each row names; arguments as of ``_listing``."""
    rows = _listing(path, classes, allow_missing, resplit, digest).samples
    files = [[row.id, list(row.files.values()), [row.start, min(row.end, 1e9)]] for row in rows]
    return hashlib.sha256(canonical(files).encode()).hexdigest()


@lru_cache(maxsize=4)
def _listing(path: Path, classes: int | None, allow_missing: bool, resplit: bool, digest: str) -> Listing:
    """The CSV, read once as long as its ``digest`` stays the same. Raises DataError, too for what cannot be trained."""
    listing = read_manifest(path, classes, allow_missing, resplit)
    if len(listing.classes) < 2:
        raise LabelError(
            f"{path}, column label: every row of train has the label {listing.classes[0]!r}; at least two classes are "
            "needed"
        )
    if listing.weighted and not any(row.weight for row in listing.samples if row.split == "train"):
        raise ManifestError(f"{path}, column weight: 0 in every row of train, so nothing would be learned; correct it")
    return listing
