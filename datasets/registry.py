"""Names to datasets. Nothing is imported until it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ogm.registry import find

if TYPE_CHECKING:
    from datasets.core.base import DataModule

DATASETS: dict[str, str] = {
    "synthav": "datasets.synthav:SynthAV",
    "avmnist": "datasets.avmnist:AVMNIST",
    "crema_d": "datasets.crema_d:CremaD",
    "ave": "datasets.ave:AVE",
    "kinetics_sounds": "datasets.kinetics_sounds:KineticsSounds",
    "vggsound": "datasets.vggsound:VGGSound",
    "ucf101": "datasets.ucf101:UCF101",
    "manifest": "datasets.manifest:Manifest",
    "cmu_mosi": "datasets.cmu_mosi:CMUMOSI",
    "cmu_mosei": "datasets.cmu_mosei:CMUMOSEI",
    "cg_mnist": "datasets.cg_mnist:CGMNIST",
}


def load(name: str, args: Mapping[str, Any]) -> DataModule:
    """The three splits of a dataset. Raises DataError where they cannot be had, with the command that helps."""
    return find(name, DATASETS, "dataset").module(**args)  # type: ignore[no-any-return]


def fingerprints(name: str, args: Mapping[str, Any]) -> dict[str, str]:
    """Split -> one word for what its samples are and how they were prepared: two different data never share one."""
    return {split: data.fingerprint for split, data in load(name, args).splits().items()}


def ready(name: str, args: Mapping[str, Any]) -> bool:
    """Can it be loaded at once? Embedded data always can."""
    dataset = find(name, DATASETS, "dataset")
    return not hasattr(dataset, "ready") or bool(dataset.ready(**args))


def getting(name: str) -> str:
    """The one command that gets a dataset: to fetch it, or to prepare the files that are there."""
    dataset = find(name, DATASETS, "dataset")
    return f"python -m datasets {'prepare' if dataset.raw_available() else 'download'} {name}"


def prepare(name: str, args: Mapping[str, Any]) -> None:
    """Make a dataset ready, where it is not embedded. Safe to repeat. Raises DataError."""
    dataset = find(name, DATASETS, "dataset")
    if hasattr(dataset, "prepare"):
        dataset.prepare(**args)
