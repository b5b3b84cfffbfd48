"""How a loader names the samples of a batch: by position, for training with the seed of their random choices."""

from __future__ import annotations

from collections.abc import Sequence

from datasets.core.lazy import torch

SampleKey = int | tuple[int, int]
"""``i``: sample i as evaluation sees it, nothing is random. ``(i, seed)``: sample i with the choices of that seed."""


def sample_index(keys: Sequence[SampleKey]) -> torch.Tensor:
    """Positions of samples in their dataset.

    Args:
        keys: The samples of a batch.

    Returns:
        (B,) int64.
    """
    return torch.tensor([key if isinstance(key, int) else key[0] for key in keys], dtype=torch.int64)


def sample_seeds(keys: Sequence[SampleKey]) -> list[int]:
    """The seeds of a training batch, one per sample; empty for evaluation."""
    return [key[1] for key in keys if not isinstance(key, int)]


def random_numbers(seeds: Sequence[int], *shape: int) -> torch.Tensor:
    """Uniform numbers for a batch, from one random stream per sample: neither its batch nor its worker matters.

    Args:
        seeds: The seed of each sample.
        shape: How many numbers a sample needs.

    Returns:
        (B, *shape) in [0, 1).
    """
    return torch.stack([torch.rand(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
