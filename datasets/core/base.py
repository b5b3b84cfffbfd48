"""What every dataset promises."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import ogm
from datasets.core.card import Card
from datasets.core.lazy import torch
from datasets.core.sample_keys import SampleKey


@dataclass
class ScanReport:
    """What a scan found. ``listed`` and ``found`` are numbers of samples; ``notes`` counts each oddity by its name.

    ``independent`` is how many samples there are where several share a recording; None: all that are found.
    """

    listed: int
    found: int
    per_class: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    independent: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON, for a record."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class MultimodalDataset:
    """Samples with a name, a label and one tensor per modality; torch's loaders take it as a map-style dataset.

    A subclass fills ``ids`` and ``labels`` when it is made, without decoding anything, and decodes in ``load``. One
    whose tensors lie ready in memory (or in a memory map) overrides ``batch`` with one gather, and draws what is random
    in ``augment``, for a whole batch, on the training device.
    """

    name: ClassVar[str]
    card: ClassVar[Card]
    training_recipe: ClassVar[Mapping[str, Any]] = {}  # settings of a run on it: benchmarks.config.run_config.RunConfig
    adaptive_lr: ClassVar[float] = 1e-3  # of Adam and AdamW: SGD's learning rate means nothing to them
    modalities: tuple[str, ...]
    classes: Sequence[str]  # declared; label = position
    ids: Sequence[str]
    labels: Sequence[int]
    recipe: Mapping[str, Any]  # everything that changes a tensor: preset, sizes, rates
    present: torch.Tensor | None = None  # (N, M) bool, where modalities can be missing
    generated: ClassVar[bool] = False  # samples are a function of the options, this source and NumPy alone
    static: bool = False  # ``batch`` does the same for every seed; what is random happens in ``augment`` alone
    report: ScanReport

    @classmethod
    def recipe_for(cls, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings of a run with these options of the dataset: ``training_recipe``, whatever they are.

        A dataset whose files decide (somebody's own data) overrides it. It is asked whenever a run is configured, so it
        reads no more than a list.

        Args:
            args: The options that are given; not checked yet.

        Raises:
            DataError: A list that decides cannot be read.
        """
        return cls.training_recipe

    @classmethod
    def resplit(cls, args: Mapping[str, Any], number: int) -> dict[str, Any]:
        """The options of one of several splits of the same data, for a comparison that is to be replicated.

        Args:
            args: The options that have been chosen; they stay as they are.
            number: Which split, from 0. After the last one the first comes again, with what else can be drawn anew.

        Returns:
            Further options; none where these options leave one split.
        """
        return {}

    def load(self, i: int, rng: torch.Generator | None) -> dict[str, torch.Tensor]:
        """One sample.

        Args:
            i: Its position.
            rng: Decides all that is random; None for evaluation, where nothing is.

        Returns:
            float32 tensors by modality: a spectrogram (1, F, T), frames (C, T, H, W), an image (C, H, W), a sequence
            (L, D). A modality that is missing is zeros.
        """
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        """``dataset[i]`` as evaluation sees it; ``dataset[i, seed]`` with the random choices of that seed."""
        i, rng = (key, None) if isinstance(key, int) else (key[0], torch.Generator().manual_seed(key[1]))
        return {**self.load(i, rng), "label": self.labels[i], "index": i, "id": self.ids[i]}

    def batch(self, keys: Sequence[SampleKey]) -> ogm.Batch:
        """Many samples at once.

        Args:
            keys: Positions for evaluation, or pairs (position, seed) for training; not both in one batch.

        Returns:
            ``inputs[m]`` (B, ...), ``label`` (B,) and ``index`` (B,). A training batch is complete only after
            ``augment``, which runs on the training device.
        """
        items = [self[key] for key in keys]
        return ogm.Batch(
            {m: torch.stack([item[m] for item in items]) for m in self.modalities},
            torch.tensor([item["label"] for item in items]),
            torch.tensor([item["index"] for item in items]),
        )

    def augment(self, batch: ogm.Batch, seeds: Sequence[int]) -> ogm.Batch:
        """Random changes of a training batch, on the device it lies on.

        Args:
            batch: What ``batch`` returned, perhaps on another device since.
            seeds: One per sample; each decides all that is random about its sample.

        Returns:
            The batch as a model sees it.
        """
        return batch

    @property
    def fingerprint(self) -> str:
        """One word (12 hex digits) for which samples these are and how they were prepared."""
        identity = (
            self.name,
            sorted(self.recipe.items()),
            list(self.classes),
            list(zip(self.ids, self.labels, strict=True)),
        )
        return hashlib.sha256(repr(identity).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class DataModule:
    """The three splits of one dataset, prepared one way. Selection is by ``val``; ``test`` is only ever looked at."""

    train: MultimodalDataset
    val: MultimodalDataset
    test: MultimodalDataset

    def splits(self) -> dict[str, MultimodalDataset]:
        """``train``, ``val`` and ``test`` by name."""
        return {"train": self.train, "val": self.val, "test": self.test}
