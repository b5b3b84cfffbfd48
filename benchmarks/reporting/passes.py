"""The passes of training in a table: those of its rows relative to those of what they are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

EXPLAINED = (
    "samples that encoders encoded and differentiated in training, summed over modalities, with those of the runs that "
    "a run builds on; relative to the row compared with."
)


def relative_passes(counts: Mapping[str, Sequence[float] | None], bases: set[str]) -> dict[str, float]:
    """The passes of a table's rows in terms of those of the row that all others are compared with.

    Args:
        counts: Label -> the passes of its runs, for every row whose runs are all done; None: not all were counted.
        bases: The labels that rows are compared with.

    Returns:
        Label -> mean of its runs over that of the baseline. Empty unless every row was counted and all are compared
        with the same row, which took some passes.
    """
    means = {label: sum(count) / len(count) for label, count in counts.items() if count}
    if len(means) < len(counts) or len(bases) != 1:
        return {}
    base = means.get(next(iter(bases)))
    return {label: mean / base for label, mean in means.items()} if base else {}
