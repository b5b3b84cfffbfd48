"""Which rows of somebody's own CSV train, validate and test, and how many will train."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from datasets.core.errors import DataError, ManifestError
from datasets.core.grouped_splits import VAL_PARTS, FoldOptions, grouped_split
from datasets.core.manifest_file import Listing, Outline, Sample

VAL = 0.1  # of train, where the CSV has no val


def samples_to_train_on(outline: Outline, folds: int | None) -> int:
    """About how many samples will train, from the number of rows alone: it decides how long a run is.

    It does not depend on which fold is the test, nor on who is in a group, so that all runs of a comparison are of one
    length.

    Args:
        outline: The number of rows of each split.
        folds: Into how many parts the rows are split anew; None where they keep their column split.
    """
    if folds is not None:
        return outline.rows.total() * (folds - 1) * (VAL_PARTS - 1) // (folds * VAL_PARTS)
    return outline.rows["train"] - (0 if outline.rows["val"] else round(VAL * outline.rows["train"]))


def rows_by_split(path: Path, listing: Listing, options: FoldOptions) -> tuple[dict[str, list[Sample]], int]:
    """The rows of each split, and how many of val were carved from train. Raises ManifestError, LabelError."""
    if options.folds is not None:
        rows = listing.samples
        try:
            found = grouped_split([row.label for row in rows], [row.group for row in rows], options)
        except DataError as error:
            raise type(error)(f"{path}, column group: {error}") from error
        return {name: [rows[i] for i in chosen] for name, chosen in asdict(found).items()}, len(found.val)
    parts: dict[str, list[Sample]] = {"train": [], "val": [], "test": []}
    for row in listing.samples:
        parts[row.split].append(row)
    if parts["val"]:
        return parts, 0
    chosen = _validation_ids(parts["train"])
    if not chosen:
        raise ManifestError(f"{path}: no class has two rows of train, so none can be val; add some")
    val, train = ([row for row in parts["train"] if (row.id in chosen) == part] for part in (True, False))
    return {**parts, "train": train, "val": val}, len(chosen)


def _validation_ids(train: Sequence[Sample]) -> set[str]:
    """Who of train becomes val: a tenth of each class, at least one of two, by ascending sha256 of the id."""
    by_class: dict[str, list[str]] = defaultdict(list)
    for row in train:
        by_class[row.label].append(row.id)
    chosen: set[str] = set()
    for names in by_class.values():
        names.sort(key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        chosen.update(names[: max(round(VAL * len(names)), 1)] if len(names) > 1 else [])
    return chosen
