"""Batches whose order, augmentation and split over ranks are functions of (seed, epoch) alone.

A dataset that is ``static`` and small is read once and then lies on the training device, where batches are gathered;
one that is larger is gathered from its memory maps, batch by batch, so that its size does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datasets.core.base import MultimodalDataset
from datasets.core.sample_keys import SampleKey, sample_index, sample_seeds
from ogm.seeds import fold_in
from ogm.types import Batch, EpochSampling

RESIDENT_BYTES = 256 << 20  # that a dataset may take on the device; a larger one is read by workers, batch by batch
CHUNK = 1024  # samples read at once to fill it


class Loader:
    """Feeds one split to an engine. The number of workers and of ranks changes nothing but the speed.

    The trick: the sampler hands the dataset pairs (sample, seed), so a worker has no randomness of its own, and a batch
    is cut from the *global* order before each rank takes every R-th row of it.
    """

    def __init__(
        self,
        dataset: MultimodalDataset,
        *,
        batch_size: int,
        seed: int = 0,
        workers: int = 0,
        drop_last: bool = True,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        resident: int = RESIDENT_BYTES,
    ) -> None:
        self.dataset, self.batch_size, self.seed, self.workers = dataset, batch_size, seed, workers
        self.drop_last, self.device, self.num_samples = drop_last, torch.device(device), len(dataset)
        self.dtype, self.resident = dtype, resident
        self._resident: dict[bool, Batch | None] = {}
        if drop_last and 0 < self.num_samples < batch_size:
            raise ValueError(
                f"{self.num_samples} training samples do not fill one batch of {batch_size}: make batch_size smaller"
            )

    def epoch(self, number: int, sampling: EpochSampling | None = None) -> Batches:
        """This rank's part of one shuffled, augmented epoch: the same batches whenever it is asked again."""
        chosen = self._every_sample() if sampling is None else sampling
        index = chosen.index
        order = torch.randperm(len(index), generator=torch.Generator().manual_seed(fold_in(self.seed, "order", number)))
        ready = dist.is_available() and dist.is_initialized()
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if ready else (0, 1)
        parts = chosen.cut(order, self.batch_size, ranks, drop_last=self.drop_last)
        rows = [part[rank::ranks] for part in parts]
        keys = _EpochKeys(index, rows, self.seed, number)
        keep = None if sampling is None else [sampling.keep[r] for r in rows]
        return Batches(self, keys, [len(p) for p in parts], keep, [chosen.group_of(p) for p in parts])

    def _every_sample(self) -> EpochSampling:
        """Every sample once, with all its modalities."""
        keep = torch.ones(self.num_samples, len(self.dataset.modalities), dtype=torch.bool)
        return EpochSampling(torch.arange(self.num_samples), keep)

    def all(self) -> Iterable[Batch]:
        """Every sample once, in order, not augmented, on every rank alike."""
        keys: list[Sequence[SampleKey]] = [
            p.tolist() for p in torch.split(torch.arange(self.num_samples), self.batch_size)
        ]
        return Batches(self, keys, [len(p) for p in keys])

    def resident_batch(self, training: bool) -> Batch | None:
        """All samples on the device, as ``batch`` makes them to train or to evaluate; None if there are too many.

        They are read when first asked for, and judged by the size of one of them.
        """
        training = training and type(self.dataset).augment is not MultimodalDataset.augment  # else they are the same
        if training not in self._resident:
            keys: list[SampleKey] = (
                [(i, 0) for i in range(self.num_samples)] if training else list(range(self.num_samples))
            )
            self._resident[training] = None
            if (
                keys
                and self.dataset.static
                and _size_in_bytes(self.dataset.batch(keys[:1])) * len(keys) <= self.resident
            ):
                parts = [self.dataset.batch(keys[i : i + CHUNK]).to(self.device) for i in range(0, len(keys), CHUNK)]
                self._resident[training] = _concatenate(parts)
        return self._resident[training]


class _EpochKeys(Sequence[Sequence[SampleKey]]):
    """The keys of an epoch's batches, made when a batch is: (sample, seed of its place in the epoch)."""

    def __init__(self, samples: Tensor, rows: Sequence[Tensor], seed: int, epoch: int) -> None:
        self.samples, self.rows, self.seed, self.epoch = samples, rows, seed, epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: Any) -> Any:
        rows = self.rows[number].tolist()
        samples = self.samples[self.rows[number]].tolist()
        return [(i, fold_in(self.seed, "augment", self.epoch, r)) for i, r in zip(samples, rows, strict=True)]


class Batches:
    """One pass over a list of batches, each a list of keys of the dataset."""

    def __init__(
        self,
        loader: Loader,
        keys: Sequence[Sequence[SampleKey]],
        sizes: Sequence[int],
        keep: Sequence[Tensor] | None = None,
        groups: Sequence[int | None] | None = None,
    ) -> None:
        self.loader, self.keys, self.sizes, self.keep, self.groups = loader, keys, sizes, keep, groups

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Batch]:
        dataset, workers = self.loader.dataset, self.loader.workers
        training = isinstance(self.keys, _EpochKeys)
        resident_batch = self.loader.resident_batch(training)
        source: Iterable[Batch] = map(dataset.batch, self.keys)
        if resident_batch is not None:
            source = (_gather(resident_batch, keys) for keys in self.keys)
        elif workers:
            source = DataLoader(
                _BatchDataset(dataset),
                batch_size=None,
                sampler=self.keys,
                num_workers=workers,
                pin_memory=self.loader.device.type == "cuda",
                collate_fn=_as_is,
            )
        for number, batch in enumerate(source):
            keys = self.keys[number]
            index = sample_index(keys)
            for k, m in enumerate(dataset.modalities):
                if dataset.present is not None:
                    batch.present[m] = dataset.present[index, k].to(batch.index.device)
                if self.keep is not None:
                    batch.present[m] = batch.has_all([m]) & self.keep[number][:, k].to(batch.index.device)
            batch.global_size = self.sizes[number]
            batch = batch.to(self.loader.device)
            if training:
                batch = dataset.augment(batch, sample_seeds(keys))
            batch = batch.to(self.loader.device, self.loader.dtype)
            batch.group = None if self.groups is None else self.groups[number]
            yield batch


def _gather(resident_batch: Batch, keys: Sequence[SampleKey]) -> Batch:
    """A batch of its own, gathered on the device that the samples lie on."""
    rows = sample_index(keys)
    rows = rows.to(resident_batch.label.device, non_blocking=True)
    return Batch(
        {m: x.index_select(0, rows) for m, x in resident_batch.inputs.items()},
        resident_batch.label.index_select(0, rows),
        rows,
        {m: x.index_select(0, rows) for m, x in resident_batch.present.items()},
        None if resident_batch.weight is None else resident_batch.weight.index_select(0, rows),
    )


def _concatenate(parts: Sequence[Batch]) -> Batch:
    one = parts[0]
    return Batch(
        {m: torch.cat([p.inputs[m] for p in parts]) for m in one.inputs},
        torch.cat([p.label for p in parts]),
        torch.cat([p.index for p in parts]),
        {m: torch.cat([p.present[m] for p in parts]) for m in one.present},
        None if one.weight is None else torch.cat([p.weight for p in parts if p.weight is not None]),
    )


def _size_in_bytes(batch: Batch) -> int:
    return sum(x.nbytes for x in batch.inputs.values())


class _BatchDataset(Dataset[Batch]):
    """A dataset seen as a sequence of batches, so that a worker makes a whole batch at once."""

    def __init__(self, dataset: MultimodalDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, keys: Sequence[SampleKey]) -> Batch:
        return self.dataset.batch(keys)


def _as_is(batch: Any) -> Any:
    return batch
