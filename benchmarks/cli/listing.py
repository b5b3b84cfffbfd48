"""Methods, fusions and encoders in tables to read on a terminal: what ``python -m benchmarks list`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.config.method_defaults import METHODS, Default
from benchmarks.config.parts import facts
from datasets.registry import DATASETS
from models.registry import ENCODERS, FAMILIES, FUSIONS
from ogm.registry import STRATEGIES

_METHODS = """\
modalities: how many it balances
passes: encoder forward passes + backward passes of one training step with two modalities; joint training has 2 + 1
defaults: the class's own; below, what a dataset's runs use instead, and its source
tune searches: what python -m benchmarks tune draws an option from; of every method it searches the learning rate, too
set them with method_args.NAME=VALUE"""

_FUSIONS = """\
needs: of the encoders; every one of ours gives maps and tokens, torchvision's and timm's give features only
additive: the fused logits are the sum or mean of the unimodal ones
unimodal logits: where scores and curves come from
parameters: of all but the encoders, for two ResNet-18s (512 wide) and six classes
options are set with fusion_args.NAME=VALUE"""

_ENCODERS = """\
audio, visual: parameters for CREMA-D's spectrogram (1, 257, 188) and frames (3, T, 224, 224); -: not for such inputs
gives: what fusions can get of it
weights: initialised from scratch, from ImageNet's (weights=imagenet) or from a file (weights=PATH)
chosen with encoders.MODALITY=ID, options set with encoder_args.MODALITY.NAME=VALUE"""


def print_methods() -> None:
    """Print every method: id, category, paper, modalities, passes of a step, stages, defaults, what to search."""
    table = _table("category", "paper", "modalities", "passes", "stages and defaults")
    for name in STRATEGIES:
        told = facts("method", name)
        texts = [told["stages"], told["defaults"], *overrides(METHODS.get(name)), *searched(METHODS.get(name))]
        columns = (told[column] for column in ("category", "paper", "modalities", "passes"))
        table.add_row(name, *columns, escape("\n".join(text for text in texts if text)))
    _print(table, _METHODS)


def print_fusions() -> None:
    """Print every fusion: id, needs, additive or not, unimodal logits, parameters, source, defaults."""
    columns = ("needs", "additive", "unimodal logits", "parameters", "source", "defaults")
    table = _table(*columns)
    for name in FUSIONS:
        told = facts("fusion", name)
        table.add_row(name, *(told[column] for column in columns))
    _print(table, _FUSIONS)


def print_encoders() -> None:
    """Print every encoder: id, inputs it takes with its parameters there, what it gives, weights, source, defaults."""
    columns = ("audio", "visual", "gives", "weights", "source", "defaults")
    table = _table(*columns)
    for name in ENCODERS:
        told = facts("encoder", name)
        table.add_row(name, *(told[column] for column in columns))
    for family in FAMILIES:
        told = facts("encoder family", family)
        table.add_row(f"{family}:NAME", *(told.get(column, "") for column in columns))
    _print(table, _ENCODERS)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=False)
    table.add_column("id", style="bold", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right" if name in ("parameters", "audio", "visual") else "left")
    return table


def _print(table: Table, legend: str) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 200  # whole lines for grep and files
    console.print(table)
    console.print(legend, highlight=False)


def overrides(default: Default | None) -> list[str]:
    """What datasets use in place of the constructor's options: one line for each different set of values."""
    if default is None:
        return []
    datasets_of: dict[str, list[str]] = {}
    for dataset in DATASETS:
        values = _as_settings({**default.everywhere, **default.per_dataset.get(dataset, {})})
        if values:
            datasets_of.setdefault(values, []).append(dataset)
    lines = [
        f"{'everywhere' if len(names) == len(DATASETS) else ', '.join(names)}: {values}"
        for values, names in datasets_of.items()
    ]
    return [*lines, f"({default.source})"]


def searched(default: Default | None) -> list[str]:
    """One line with what a search draws a method's options from, if there is something to search."""
    if default is None or not default.search:
        return []
    return [f"tune searches: {_as_settings(default.search)}"]


def _as_settings(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items())
