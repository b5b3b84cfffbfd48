"""Names to datasets. Nothing is imported until it is asked for."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.core.card import Card
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
    "ravdess": "datasets.ravdess:RAVDESS",
    "grid": "datasets.grid:Grid",
    "mfeat": "datasets.mfeat:MFeat",
}


def card(name: str) -> Card:
    """The card of a dataset, without importing the dataset.

    Importing one brings torch and the decoders, which takes seconds, and a list of all datasets should not wait for
    that. The card is therefore read from the source, where it is a call with literal values.

    Args:
        name: A registered dataset.

    Returns:
        What its class calls ``card``.

    Raises:
        ValueError: No dataset is called ``name``, or its source has no such card.
    """
    module = DATASETS.get(name, "").partition(":")[0]
    if not module or module in sys.modules:
        return find(name, DATASETS, "dataset").card  # type: ignore[no-any-return]
    return card_in_source(name)


def card_in_source(name: str) -> Card:
    """As ``card``, always from the source."""
    module, _, class_name = DATASETS[name].partition(":")
    spec = importlib.util.find_spec(module)
    source = Path(spec.origin).read_text("utf-8") if spec and spec.origin else ""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Assign([ast.Name("card")], ast.Call(ast.Name("Card"), [], keywords)):
                return Card(**{str(one.arg): ast.literal_eval(one.value) for one in keywords})
    raise ValueError(f"{module}: the class {class_name} has no line `card = Card(...)`")


def option_table(dataset: type[Any]) -> list[tuple[str, str, str]]:
    """The options of a dataset, as far as it declares them in a class ``Options``: name, values and default."""
    fields = getattr(getattr(dataset, "Options", None), "model_fields", {})
    return [
        (name, _values(field.annotation), str(field.get_default(call_default_factory=True)))
        for name, field in fields.items()
    ]


def _values(annotation: Any) -> str:
    """The values that an option takes, as short as a table needs them."""
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return re.sub(r"typing\.|^Literal\[(.*)\]$", r"\1", text).replace("Literal[", "[")


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


def command_to_get(name: str) -> str:
    """The one command that gets a dataset: to fetch it, or to prepare the files that are there."""
    dataset = find(name, DATASETS, "dataset")
    if dataset.raw_available():
        return f"python -m datasets prepare {name}"
    return f"python -m datasets download {name}"


def prepare(name: str, args: Mapping[str, Any]) -> None:
    """Make a dataset ready, where it is not embedded. Safe to repeat. Raises DataError."""
    dataset = find(name, DATASETS, "dataset")
    if hasattr(dataset, "prepare"):
        dataset.prepare(**args)
