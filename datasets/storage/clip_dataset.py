"""Clips with sound and pictures: from media files and split lists to prepared frames and spectrograms.

What the audio-visual datasets share. Each of them says which lists there are, who belongs where, and under which names
its files may lie; decoding, counting, tolerating, storing and drawing are here. Frames are kept as JPEG bytes with
their sizes, at their own resolution, and decoded when a sample is made; sound is kept as the network sees it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from typing_extensions import override

import ogm
from datasets.core.base import DataModule, ScanReport
from datasets.core.checks import refuse_missing, refuse_pointer
from datasets.core.errors import (
    AudioDecodeError,
    CacheError,
    DataError,
    LabelError,
    MissingMediaError,
    VideoDecodeError,
)
from datasets.core.files import convert_disk_errors, write_atomic
from datasets.core.lazy import torch
from datasets.core.paths import cache_folder, raw_folder
from datasets.core.progress import Progress
from datasets.core.sample_keys import SampleKey, random_numbers, sample_index, sample_seeds
from datasets.core.split_lists import GitBlob, Pin, read_pinned
from datasets.decode import image_files, image_transforms
from datasets.decode.video import first
from datasets.storage import clip_notes, content
from datasets.storage.cache import Cache, Column, Decoded, RawItem, canonical, sha256
from datasets.storage.clip_files import SOUND, Jpegs, Preset, boxes_of, read_pictures, read_sound
from datasets.storage.list_files import ListFile, Rows
from datasets.storage.prepared import DecodePlan, Options, Prepared, command


class ClipOptions(Options):
    """The arguments that all datasets of clips have."""

    image_size: int = Field(224, ge=8)
    pick: Literal["preset", "first"] = "preset"  # first: the first frames of a clip, in training and evaluation
    max_missing: int = Field(0, ge=0)  # clips that may be absent or unusable; their number is reported
    allow_unpinned: bool = False  # split lists of your own


class ClipDataset(Prepared):
    """A dataset of clips with sound and pictures.

    A subclass has ``presets`` and says what ``lists`` it needs, which samples are in which split (``read_splits``) and
    which files a clip has (``find``).
    """

    presets: ClassVar[Mapping[str, Any]]
    list_files: ClassVar[tuple[ListFile, ...]] = ()
    shared_groups: ClassVar[str] = "groups_also_in_train"  # what to call what ``group`` finds on both sides
    published: ClassVar[tuple[str, ...]] = ()  # the sizes that papers and authors give

    # ---- what a dataset writes
    @classmethod
    def lists(cls, options: Any) -> tuple[str, ...]:
        """Names of the lists in splits/ that decide the splits."""
        return tuple(file.name for file in cls.list_files)

    @classmethod
    def pin(cls, options: Any, name: str) -> Pin | GitBlob | None:
        """What a list must be; None where the user brings their own."""
        return None if options.allow_unpinned else next(file.pin for file in cls.list_files if file.name == name)

    @classmethod
    def read_list(cls, options: Any, folder: Path, name: str) -> tuple[str, Counter[str]]:
        """The text of a list, and notes on it.

        Raises:
            MissingMediaError: The list is not there.
            ManifestError: It cannot be read, or is no text.
            PinMismatchError: It is not the published one.
        """
        if not (folder / name).is_file():
            raise MissingMediaError(
                f"{folder / name} is missing: run `python -m datasets download {cls.name}`, then prepare again"
            )
        return read_pinned(folder / name, cls.pin(options, name))

    @classmethod
    def read_splits(cls, options: Any, folder: Path) -> tuple[dict[str, Rows], Counter[str]]:
        """What belongs to each split, whether its files are there or not.

        Args:
            options: Checked arguments.
            folder: Where the lists are.

        Returns:
            ``train``, ``val`` and ``test`` -> (sample, class number) in the order of the lists, and notes on the lists.

        Raises:
            DataError: A list is missing, not the published one, damaged, or contradicts another.
        """
        raise NotImplementedError

    @classmethod
    def find(cls, raw: Path, clips: Sequence[str]) -> dict[str, dict[str, Path]]:
        """Clips whose files are all there.

        Args:
            raw: The raw folder.
            clips: The clips to look for.

        Returns:
            Clip -> modality -> file or folder.
        """
        raise NotImplementedError

    @classmethod
    def stored(cls, options: Any, clips: Sequence[str]) -> Sequence[str]:
        """Which clips are prepared where ``clips`` are in the splits: more, where other splits want others."""
        return clips

    @classmethod
    def clip(cls, sample: str) -> str:
        """The clip that a sample is made of."""
        return sample

    @classmethod
    def group(cls, sample: str) -> str:
        """What clips of train and of test should not share: the source video."""
        return cls.clip(sample)

    # ---- samples
    def __init__(self, options: Any, cache: Cache, rows: Rows, listed: int, notes: Counter[str]) -> None:
        self.cache, self.size, self.preset = cache, options.image_size, self.presets[options.preset]
        self.picks: int = self.preset.picks
        self.pick = first if options.pick == "first" else self.preset.pick
        self.ids = [name for name, _ in rows]
        self.labels = [label for _, label in rows]
        self.label_rows = np.array(self.labels, dtype=np.int64)
        keys = [self.clip(name) for name in self.ids]
        self.open_columns(keys)
        notes = notes + sum((Counter(cache.facts[key]["notes"]) for key in keys), Counter())  # + drops zeros
        per_class = Counter(self.labels)
        self.report = ScanReport(
            listed, len(rows), {name: per_class[i] for i, name in enumerate(self.classes)}, dict(notes)
        )
        self.recipe = {
            **cache.manifest["recipe"],
            "source": cache.manifest["source"],
            **options.model_dump(exclude={"preset", "image_size", "max_missing", "allow_unpinned"}),
            "image_size": self.size,
            "picks": self.picks,
            "missing": listed - len(rows),
        }

    def open_columns(self, keys: Sequence[str]) -> None:
        """Where the clips of the samples lie; and ``count`` (N,), how many frames each of them has."""
        self.audio_rows = np.array([self.cache.rows("audio", key).start for key in keys], dtype=np.int64)
        self.visual = Jpegs(self.cache, "visual", keys)
        self.count = self.visual.count

    def batch(self, keys: Sequence[SampleKey]) -> ogm.Batch:
        """As every dataset's: audio (B, 1, F, T), visual (B, 3, frames, size, size).

        For evaluation all is done. For training pictures are uint8, channels last, until ``augment``.
        """
        index = sample_index(keys)
        seeds = sample_seeds(keys)
        draws = self.draws(seeds) if seeds else None
        chosen = self.pick(torch.from_numpy(self.count)[index], self.picks, None if draws is None else draws[..., 0])
        inputs = self.inputs(index, chosen, seeds, None if draws is None else draws[..., 1:])
        return ogm.Batch(inputs, torch.from_numpy(self.label_rows[index.numpy()]), index)

    def inputs(
        self, index: torch.Tensor, chosen: torch.Tensor, seeds: Sequence[int], draws: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        """The tensors of a batch.

        Args:
            index: (B,) positions of the samples.
            chosen: (B, T) which of its frames each sample sees.
            seeds: One per sample, for training; else empty.
            draws: (B, T, 23) numbers in [0, 1) that decide crops and flips, for training; else None.

        Returns:
            Tensors by modality, as ``batch`` has them.
        """
        clips = []
        for b, (i, frames) in enumerate(zip(index.tolist(), chosen.tolist(), strict=True)):
            jpegs = self.visual.read(i, frames)
            boxes = [None] * len(jpegs) if draws is None else boxes_of(draws[b], jpegs[0])
            clips.append([image_files.scaled(jpeg, self.size, box) for jpeg, box in zip(jpegs, boxes, strict=True)])
        visual = torch.from_numpy(np.array(clips))
        return {"audio": self.sound(index, seeds), "visual": visual if seeds else image_transforms.normalise(visual)}

    def sound(self, index: torch.Tensor, seeds: Sequence[int]) -> torch.Tensor:
        """(B, 1, F, T); ``seeds``, where there are any, decide what is random."""
        return torch.from_numpy(np.asarray(self.cache["audio"][self.audio_rows[index.numpy()]])).unsqueeze(1)

    def augment(self, batch: ogm.Batch, seeds: Sequence[int]) -> ogm.Batch:
        """Mirrors half of the frames, each on its own as the reference code does, and normalises."""
        flip = self.draws(seeds)[..., 3] < 0.5
        batch.inputs["visual"] = image_transforms.normalise(batch.inputs["visual"], flip.float())
        return batch

    def draws(self, seeds: Sequence[int]) -> torch.Tensor:
        """(B, T, 24) in [0, 1): one stream per sample, so neither its batch nor its worker matters."""
        return random_numbers(seeds, self.picks, 1 + image_transforms.DRAWS)

    # ---- download, prepare
    @classmethod
    def download(cls, base: str | None = None, progress: Progress | None = None) -> str:
        """The split lists. The media need an agreement, a crawler or days: that is left to people, and told them."""
        for file in cls.list_files:
            file.fetch(raw_folder(cls.name) / "splits", base, progress)
        return "" if cls.raw_available() else cls.card.how_to_get

    @classmethod
    @override
    def storage(cls, options: Any) -> dict[str, Any]:
        return {
            "dataset": cls.name,
            "version": 1,
            "preset": options.preset,
            **cls.presets[options.preset].parameters(),
        }

    @classmethod
    def columns(cls, options: Any, clips: int) -> dict[str, Column]:
        """The arrays that ``clips`` clips fill, by name."""
        preset: Preset = cls.presets[options.preset]
        assert preset.sound
        return {
            "audio": Column(preset.sound.dtype, preset.sound.shape, clips),
            **Jpegs.columns("visual", clips * preset.expected),
        }

    @classmethod
    def decode(cls, options: Any, files: Mapping[str, Path], notes: Counter[str]) -> dict[str, np.ndarray]:
        """Decodes one clip.

        Args:
            options: Checked arguments.
            files: Modality -> file or folder.
            notes: Is told what was odd.

        Returns:
            Column -> rows.

        Raises:
            DataError: A file is damaged beyond use.
        """
        preset: Preset = cls.presets[options.preset]
        assert preset.sound
        sound = read_sound(files["audio"], preset.sound, notes)
        return {"audio": sound, **Jpegs.rows("visual", read_pictures(files["visual"], preset, notes))}

    @classmethod
    @override
    def scan(cls, options: Any) -> DecodePlan:
        raw = raw_folder(cls.name)
        splits, _ = cls.read_splits(options, raw / "splits")
        listed_clips = sorted({cls.clip(name) for rows in splits.values() for name, _ in rows})
        files = cls.find(raw, cls.stored(options, listed_clips))
        missing = [cls.expected_at(raw, key) for key in listed_clips if key not in files]
        how = f"put them there, or go on without them by max_missing={len(missing)}"
        refuse_missing(missing, len(listed_clips), options.max_missing, how)
        media = dict.fromkeys(path for key in sorted(files) for path in files[key].values())
        for path in media:
            if path.is_dir():
                image_files.listing(path)
            else:
                refuse_pointer(path, AudioDecodeError if path.suffix.lower() in SOUND else VideoDecodeError)
        digests = content.digests(media)
        items = [RawItem(key, content.source(files[key], digests)) for key in sorted(files)]
        failures, allowed = itertools.count(1), options.max_missing - len(missing)

        def decode(item: RawItem) -> Decoded:
            notes: Counter[str] = Counter()
            try:
                rows = cls.decode(options, files[item.key], notes)
            except DataError as error:
                if next(failures) > allowed:
                    raise
                return Decoded({}, {"notes": {"unreadable": 1}, "why": str(error)})
            used: dict[Path, str] = {}
            for name, path in files[item.key].items():
                used[path] = f"{used[path]} and {name}" if path in used else name
            return Decoded(rows, {"notes": notes, "digests": {names: digests[p][:16] for p, names in used.items()}})

        return DecodePlan(items, cls.columns(options, len(items)), decode)

    @classmethod
    @override
    def sources(cls, options: Any, keys: Sequence[str]) -> Mapping[str, str]:
        files, known = cls.find(raw_folder(cls.name), keys), set(keys)
        return content.sources({key: of for key, of in files.items() if key in known})

    @classmethod
    def refuse_changed(cls, options: Any, cache: Cache) -> None:
        """As every dataset's; the split lists are looked at too."""
        super().refuse_changed(options, cache)
        raw, kept = raw_folder(cls.name) / "splits", cache_folder(cls.name) / "splits"
        for name in cls.lists(options):
            if (raw / name).is_file() and (kept / name).is_file() and sha256(raw / name) != sha256(kept / name):
                raise CacheError(
                    f"{raw / name} has changed since it was prepared: run `{command(cls.name, options)}`, or remove it "
                    "to go on with the list that was prepared"
                )

    @classmethod
    def expected_at(cls, raw: Path, key: str) -> Path:
        """Where a clip that is missing would be, for the message."""
        return raw / f"{key}.mp4"

    @classmethod
    def prepare(cls, progress: bool = True, **args: Any) -> Path:
        """As every dataset's; the split lists are kept beside the prepared set, so that it is enough by itself."""
        options = cls.options(args)
        folder = super().prepare(progress, **args)
        if cls.raw_available():
            target = cache_folder(cls.name) / "splits"
            for name in cls.lists(options):
                with convert_disk_errors(target):
                    target.mkdir(parents=True, exist_ok=True)
                    write_atomic(target / name, (raw_folder(cls.name) / "splits" / name).read_bytes())
        return folder

    @classmethod
    @override
    def ready(cls, **args: Any) -> bool:
        splits = cache_folder(cls.name) / "splits"
        return super().ready(**args) and all((splits / name).is_file() for name in cls.lists(cls.options(args)))

    @classmethod
    @override
    def lists_digest(cls, options: Any) -> str:
        paths = [cache_folder(cls.name) / "splits" / name for name in cls.lists(options)]
        return canonical([sha256(path) if path.is_file() else "" for path in paths])

    # ---- splits
    @classmethod
    def usable_clips(cls, options: Any, cache: Cache) -> tuple[set[str], dict[str, str]]:
        """Prepared clips that can be used, and why the others cannot: "unreadable" or "too_few_frames"."""
        least = getattr(cls.presets[options.preset], "least", 1)
        reasons = {key: "unreadable" for key in cache.keys if "why" in cache.facts[key]}
        if least > 1:
            few = [k for k in cache.keys if k not in reasons and len(cache.rows("visual_size", k)) < least]
            reasons |= dict.fromkeys(few, "too_few_frames")
        return set(cache.keys) - reasons.keys(), reasons

    @classmethod
    @override
    def split(cls, options: Any, cache: Cache) -> DataModule:
        listed, notes = cls.read_splits(options, cache_folder(cls.name) / "splits")
        usable, reasons = cls.usable_clips(options, cache)
        clips = sorted({cls.clip(name) for rows in listed.values() for name, _ in rows})
        missing = [f"{key} ({cache.facts[key].get('why', reasons[key])})" if key in reasons else key
                   for key in clips if key not in usable]  # fmt: skip
        how = f"prepare again when their files are there, or go on without them by max_missing={len(missing)}"
        refuse_missing(missing, len(clips), options.max_missing, how)
        found = {part: [row for row in rows if cls.clip(row[0]) in usable] for part, rows in listed.items()}
        parts, train_content = {}, clip_notes.TrainContent(cls, cache, found["train"])
        for part, rows in found.items():
            if not rows:
                raise MissingMediaError(
                    f"{cls.name}: not one of the {len(listed[part])} clips of {part} is prepared; prepare again when "
                    "some are there"
                )
            absent = [name for i, name in enumerate(cls.classes) if i not in {label for _, label in rows}]
            if part == "train" and absent:
                raise LabelError(f"{cls.name}: no clip of {', '.join(absent[:10])} is left to train on")
            part_notes = notes if part == "train" else Counter[str]()  # what is odd about the lists is said once
            part_notes = part_notes + Counter(missing=len(listed[part]) - len(rows), classes_absent=len(absent))
            part_notes += Counter(reasons[key] for name, _ in listed[part] if (key := cls.clip(name)) in reasons)
            if part != "train":
                part_notes += train_content.shared(rows)
            parts[part] = cls(options, cache, rows, len(listed[part]), part_notes)
        return DataModule(**parts)

    # ---- what people are told
    @classmethod
    def describe_lists(cls, options: Any) -> list[str]:
        """What the lists hold, before anything is prepared, in lines for people.

        Raises:
            DataError: A list is not the published one, damaged, or contradicts another.
        """
        return clip_notes.describe_lists(cls, options)

    @classmethod
    def describe(cls, options: Any) -> list[str]:
        """What ``verify`` adds: lists, sizes beside the published ones, what was odd, files that are the same."""
        return clip_notes.describe(cls, options)
