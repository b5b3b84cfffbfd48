"""A dataset of one's own, for --dataset-file: two modalities of noise around the prototypes of four classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from datasets.core.base import DataModule, MultimodalDataset, ScanReport

CLASSES = ("north", "east", "south", "west")
SIZES = {"train": 256, "val": 64, "test": 64}


class TwoNoises(MultimodalDataset):
    """``left`` and ``right``: (16,) float32 each; ``right`` is twice as noisy."""

    name = "two_noises"
    modalities = ("left", "right")
    classes = CLASSES
    training_recipe: ClassVar[Mapping[str, Any]] = {
        "encoders": {"left": "mlp", "right": "mlp"},
        "epochs": 5,
        "batch_size": 32,
        "lr": 0.05,
        "schedule": "constant",
    }
    adaptive_lr: ClassVar[float] = 1e-3

    def __init__(self, split: str, noise: float) -> None:
        size = SIZES[split]
        random = torch.Generator().manual_seed(sorted(SIZES).index(split))
        prototypes = torch.randn(len(CLASSES), 16, generator=torch.Generator().manual_seed(9))
        label = torch.arange(size) % len(CLASSES)
        self.tensors = {
            m: prototypes[label] + noise * scale * torch.randn(size, 16, generator=random)
            for m, scale in zip(self.modalities, (1, 2), strict=True)
        }
        self.ids, self.labels = [f"{split}-{i}" for i in range(size)], label.tolist()
        self.recipe = {"noise": noise, "size": size}
        self.report = ScanReport(size, size)

    @classmethod
    def module(cls, *, noise: float = 1.0) -> DataModule:
        """The three splits; the options are what ``dataset_args.noise=...`` gives."""
        return DataModule(**{split: cls(split, noise) for split in SIZES})

    def load(self, i: int, rng: torch.Generator | None) -> dict[str, Tensor]:
        return {m: x[i] for m, x in self.tensors.items()}
