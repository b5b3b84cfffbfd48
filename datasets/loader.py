"""Batches whose order, augmentation and split over ranks are functions of (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader

from datasets.base import MultimodalDataset
from ogm.context import fold_in
from ogm.types import Batch, Draws

Key = int | tuple[int, int]


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
    ) -> None:
        self.dataset, self.batch_size, self.seed, self.workers = dataset, batch_size, seed, workers
        self.drop_last, self.device, self.num_samples = drop_last, torch.device(device), len(dataset)
        self.dtype = dtype
        if drop_last and 0 < self.num_samples < batch_size:
            raise ValueError(
                f"{self.num_samples} training samples do not fill one batch of {batch_size}: make batch_size smaller"
            )

    def epoch(self, number: int, draws: Draws | None = None) -> Batches:
        """This rank's part of one shuffled, augmented epoch: the same batches whenever it is asked again."""
        index = torch.arange(self.num_samples) if draws is None else draws.index
        order = torch.randperm(len(index), generator=torch.Generator().manual_seed(fold_in(self.seed, "order", number)))
        ready = dist.is_available() and dist.is_initialized()
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if ready else (0, 1)
        parts = [p for p in torch.split(order, self.batch_size) if len(p) == self.batch_size or not self.drop_last]
        rows = [part[rank::ranks] for part in parts]
        keys: list[Sequence[Key]] = [
            [(int(index[r]), fold_in(self.seed, "augment", number, int(r))) for r in part] for part in rows
        ]
        return Batches(self, keys, [len(p) for p in parts], None if draws is None else [draws.keep[r] for r in rows])

    def all(self) -> Iterable[Batch]:
        """Every sample once, in order, not augmented, on every rank alike."""
        keys: list[Sequence[Key]] = [p.tolist() for p in torch.split(torch.arange(self.num_samples), self.batch_size)]
        return Batches(self, keys, [len(p) for p in keys])


class Batches:
    """One pass over a list of batches, each a list of keys of the dataset."""

    def __init__(
        self, loader: Loader, keys: Sequence[Sequence[Key]], sizes: Sequence[int], keep: Sequence[Tensor] | None = None
    ) -> None:
        self.loader, self.keys, self.sizes, self.keep = loader, keys, sizes, keep

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Batch]:
        dataset, workers = self.loader.dataset, self.loader.workers
        source: Iterable[Batch] = map(dataset.batch, self.keys)
        if workers:
            source = DataLoader(
                _Gather(dataset),
                batch_size=None,
                sampler=self.keys,
                num_workers=workers,  # type: ignore[arg-type]
                pin_memory=self.loader.device.type == "cuda",
                collate_fn=_as_is,
            )
        for number, batch in enumerate(source):
            for k, m in enumerate(dataset.modalities):
                if dataset.present is not None:
                    batch.present[m] = dataset.present[batch.index, k]
                if self.keep is not None:
                    batch.present[m] = batch.have([m]) & self.keep[number][:, k]
            batch.global_size = self.sizes[number]
            batch = batch.to(self.loader.device)
            keys = self.keys[number]
            if keys and not isinstance(keys[0], int):
                batch = dataset.augment(batch, [seed for _, seed in keys])  # type: ignore[misc]
            yield batch.to(self.loader.device, self.loader.dtype)


class _Gather:
    """A dataset seen as a sequence of batches, so that a worker makes a whole batch at once."""

    def __init__(self, dataset: MultimodalDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, keys: Sequence[Key]) -> Batch:
        return self.dataset.batch(keys)


def _as_is(batch: Batch) -> Batch:
    return batch
