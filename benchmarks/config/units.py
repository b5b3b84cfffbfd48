"""The unit of replication: one draw of the data, or one split of a data set that cannot be drawn anew.

Runs on the same data share its samples, and its test set's errors. Two training seeds on one data set say how much
training varies; only another draw of the data says how far a result carries over to other data. Intervals and tests
therefore count units, not runs. Splits of one data set are a substitute: their training sets overlap, so they are no
independent draws, and their intervals are wider for it (see ``benchmarks.reporting.statistics.resampled_t_p``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from datasets.registry import DATASETS
from ogm.registry import find

DRAWS = ("data_seed",)  # the options of data sets that draw their samples anew: independent units
RESPLITS = ("fold", "split_seed")  # those that choose other test samples of the same data: units that overlap
# Those that combine the same recordings anew. The recordings that are tested stay the same, so these make no units (an
# interval over them can cover as little as 80 %): they are averaged within one, as training seeds are.
REPAIRINGS = ("pair_seed",)

Unit = tuple[tuple[str, Any], ...]


def unit_of(dataset_args: Mapping[str, Any]) -> Unit:
    """The draw or split of the data that a run is made on.

    Args:
        dataset_args: The options of its data set.

    Returns:
        ``(("data_seed", 3),)``; empty for a data set that is always the same, whose runs are all one unit.
    """
    return _chosen(dataset_args, (*DRAWS, *RESPLITS))


def sample_of(dataset_args: Mapping[str, Any]) -> Unit:
    """As ``unit_of``, with everything else that changes the samples: runs are paired where this is the same."""
    return _chosen(dataset_args, (*DRAWS, *RESPLITS, *REPAIRINGS))


def overlapping(units: Collection[Unit]) -> bool:
    """Whether some of these units are splits of the same draw, so that they share samples to train on."""
    return len({tuple(part for part in unit if part[0] in DRAWS) for unit in units}) < len(set(units))


def name_of_data(dataset: str, dataset_args: Mapping[str, Any]) -> str:
    """What tells the data of several tables apart: ``grid noise_db=-5``; all draws and splits of them have one name.

    Args:
        dataset: The data set.
        dataset_args: The options of its data set; those of its recipe are left out.
    """
    recipe = find(dataset, DATASETS, "dataset").training_recipe if dataset in DATASETS else {}
    usual, split = recipe.get("dataset_args", {}), (*DRAWS, *RESPLITS, *REPAIRINGS, "folds")
    told = {name: x for name, x in dataset_args.items() if name not in split and (name, x) not in usual.items()}
    return " ".join([dataset, *(f"{name}={x}" for name, x in sorted(told.items()))])


def _chosen(dataset_args: Mapping[str, Any], names: Collection[str]) -> Unit:
    return tuple((name, dataset_args[name]) for name in names if name in dataset_args)
