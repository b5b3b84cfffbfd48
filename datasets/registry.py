"""Names to datasets. Nothing is imported until it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ogm.registry import find

if TYPE_CHECKING:
    from datasets.base import DataModule

DATASETS: dict[str, str] = {
    "synthav": "datasets.synthav:SynthAV",
    "avmnist": "datasets.avmnist:AVMNIST",
    "crema_d": "datasets.crema_d:CremaD",
}


def load(name: str, args: Mapping[str, Any]) -> DataModule:
    """The three splits of a dataset. Raises DataError where they cannot be had, with the command that helps."""
    return find(name, DATASETS, "dataset").module(**args)  # type: ignore[no-any-return]
