"""The unit of replication: one draw of the data. Runs on the same data share its samples, and its test set's errors.

Two training seeds on one data set say how much training varies; only another draw of the data says how far a result
carries over to other data. Intervals and tests therefore count units, not runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DRAWS = ("data_seed",)  # the options of data sets that draw their samples anew

Unit = tuple[tuple[str, Any], ...]


def unit_of(dataset_args: Mapping[str, Any]) -> Unit:
    """The draw of the data that a run is made on.

    Args:
        dataset_args: The options of its data set.

    Returns:
        ``(("data_seed", 3),)``; empty for a data set that is always the same, whose runs are all one unit.
    """
    return tuple((name, dataset_args[name]) for name in DRAWS if name in dataset_args)
