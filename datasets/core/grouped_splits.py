"""Repeated grouped splits of one fixed data set: every group (a speaker, a clip) is on one side of each split.

A split is part ``fold`` of ``folds`` parts as test; each ``split_seed`` divides the groups into parts anew. Everything
is decided by sha256 of names, not by a random library, and does not depend on the order of the samples.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, Field, model_validator

from datasets.core.errors import DataError, LabelError

VAL_PARTS = 10  # the training groups are divided into so many parts, of which one validates


class FoldOptions(BaseModel):
    """The arguments of a data set that can be split again and again; a base beside ``Options``."""

    folds: int | None = Field(None, ge=2)  # parts, each of which is the test once; None: the data set's own split
    fold: int = Field(0, ge=0)  # which part is the test
    split_seed: int = Field(0, ge=0)  # how the groups are divided into parts

    @model_validator(mode="after")
    def _fold_is_a_part(self) -> Self:
        if self.folds is None and (self.fold or self.split_seed):
            raise ValueError("fold and split_seed belong to folds=NUMBER, such as folds=5")
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"fold={self.fold}: with folds={self.folds} there are 0 to {self.folds - 1}")
        return self

    def split_recipe(self) -> dict[str, Any]:
        """What of it belongs into ``MultimodalDataset.recipe``: nothing for the data set's own split."""
        return {} if self.folds is None else {n: getattr(self, n) for n in ("folds", "fold", "split_seed")}


@dataclass(frozen=True)
class GroupedSplit:
    """Positions of samples, in ascending order."""

    train: list[int]
    val: list[int]
    test: list[int]


def resplit_options(args: Mapping[str, Any], folds: int | None, number: int) -> dict[str, int]:
    """The options of split ``number`` of a series: all folds, then all folds of the next ``split_seed``.

    Args:
        args: What has been chosen already, not checked yet. Where a fold or a ``split_seed`` has, there is no series,
            and all splits are that one.
        folds: How many folds there are where ``args`` does not say; None: then there is no series.
        number: From 0.

    Returns:
        ``folds``, ``fold`` and ``split_seed``; nothing where there is no series.
    """
    given = args.get("folds", folds)
    if {"fold", "split_seed"} & args.keys() or not isinstance(given, int) or given < 2:
        return {}
    return {"folds": given, "fold": number % given, "split_seed": number // given}


def grouped_parts(labels: Sequence[str], groups: Sequence[str], parts: int, word: str) -> list[int]:
    """Divide samples into parts of like size and like shares of every class, with each group in one part.

    Groups are taken in a random order, large ones first (by powers of two), and each goes to the part where it leaves
    the classes divided most evenly (least sum of squared shares). scikit-learn's StratifiedGroupKFold does the same in
    the order of how unevenly the classes are spread in a group; it depends on the order of the samples, and splits of
    different seeds have more in common.

    Args:
        labels: Of each sample.
        groups: Of each sample.
        parts: How many.
        word: What the random order depends on, beside the names of the groups.

    Returns:
        The part of each sample.

    Raises:
        DataError: There are fewer groups than parts.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for label, group in zip(labels, groups, strict=True):
        counts[group][label] += 1
    if len(counts) < parts:
        raise DataError(f"{len(counts)} groups cannot be divided into {parts} parts; make folds smaller")
    total = Counter(labels)

    def place(group: str) -> tuple[int, str]:
        digest = hashlib.sha256(f"{word}|{group}".encode()).hexdigest()
        return -counts[group].total().bit_length(), digest

    filled: list[Counter[str]] = [Counter() for _ in range(parts)]
    part_of: dict[str, int] = {}
    for left, group in zip(range(len(counts), 0, -1), sorted(counts, key=place), strict=True):
        own = sorted(counts[group].items())  # so that a sum of fractions has one value
        empty = [part for part in range(parts) if not filled[part]]
        part_of[group] = min(
            empty if len(empty) == left else range(parts),  # no part stays without a group
            key=lambda part: (sum((2 * filled[part][c] + n) * n / total[c] ** 2 for c, n in own), part),
        )
        filled[part_of[group]] += counts[group]
    return [part_of[group] for group in groups]


def grouped_split(labels: Sequence[str], groups: Sequence[str], options: FoldOptions) -> GroupedSplit:
    """Split ``options.fold``: test, and of the other groups about a tenth of the samples as validation.

    Args:
        labels: Of each sample.
        groups: Of each sample, such as its speaker; none is on two sides.
        options: With ``folds`` given.

    Raises:
        DataError: There are fewer groups than folds, or too few to validate.
        LabelError: A class has no sample left to train on.
    """
    if options.folds is None:
        raise ValueError("folds is not given")
    if len(set(groups)) < max(options.folds, 3):
        raise DataError(
            f"{len(set(groups))} groups, but folds={options.folds} takes at least {max(options.folds, 3)}; make folds "
            "smaller, or the groups finer"
        )
    parts = grouped_parts(labels, groups, options.folds, f"folds|{options.split_seed}")
    test = [i for i, part in enumerate(parts) if part == options.fold]
    rest = [i for i, part in enumerate(parts) if part != options.fold]
    rest_labels, rest_groups = [labels[i] for i in rest], [groups[i] for i in rest]
    if (held := len(set(rest_groups))) < 2:
        raise DataError(f"fold {options.fold} leaves {held} group to train and validate on; make folds larger")
    word = f"validation|{options.split_seed}|{options.fold}"
    rest_parts = grouped_parts(rest_labels, rest_groups, min(VAL_PARTS, held), word)

    def quality(part: int) -> tuple[int, int, int]:
        """Classes left to train on, then classes that validate; else the first part."""
        pairs = list(zip(rest_labels, rest_parts, strict=True))
        return len({c for c, p in pairs if p != part}), len({c for c, p in pairs if p == part}), -part

    chosen = max(set(rest_parts), key=quality)
    train = [i for i, part in zip(rest, rest_parts, strict=True) if part != chosen]
    val = [i for i, part in zip(rest, rest_parts, strict=True) if part == chosen]
    if absent := sorted(set(labels) - {labels[i] for i in train}):
        raise LabelError(
            f"fold {options.fold} of split_seed {options.split_seed} has no sample of {', '.join(absent[:10])} left to "
            "train on: its groups are too few; take another split_seed, more folds, or finer groups"
        )
    return GroupedSplit(train, val, test)
