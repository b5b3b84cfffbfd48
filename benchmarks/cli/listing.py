"""Methods, fusions and encoders in tables to read on a terminal: what ``python -m benchmarks list`` prints."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.config.method_defaults import METHODS, Default
from benchmarks.speed.example_input import CLASSES, SHAPES
from datasets.registry import DATASETS
from models.encoders.resnet import ResNet18
from models.fusion import Fusion
from models.model import MultimodalModel
from models.registry import ENCODERS, FAMILIES, FUSIONS
from ogm.registry import STRATEGIES, find
from ogm.strategy import Strategy

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
        cls = find(name, STRATEGIES, "strategy")
        forward, backward = example(cls, name).passes(2) if cls.trains else (0, 0)
        most = cls.most_modalities
        texts = [cls.stages, defaults(cls), *overrides(METHODS.get(name)), *searched(METHODS.get(name))]
        table.add_row(
            name,
            cls.category,
            cls.paper,
            "2 or more" if most is None else "2" if most == 2 else f"2 to {most}",
            f"{forward} + {backward}",
            escape("\n".join(text for text in texts if text)),
        )
    _print(table, _METHODS)


def print_fusions() -> None:
    """Print every fusion: id, needs, additive or not, unimodal logits, parameters, source, defaults."""
    table = _table("needs", "additive", "unimodal logits", "parameters", "source", "defaults")
    for name in FUSIONS:
        cls = find(name, FUSIONS, "fusion")
        logits = "exact parts" if cls.is_additive else "own classifiers" if cls.has_unimodal_heads else "others at zero"
        additive = "yes" if cls.is_additive else "no"
        options = defaults(cls, "dims", "num_classes")
        table.add_row(name, cls.input_kind, additive, logits, f"{fusion_parameters(cls):,}", cls.source, options)
    _print(table, _FUSIONS)


def print_encoders() -> None:
    """Print every encoder: id, inputs it takes with its parameters there, what it gives, weights, source, defaults."""
    table = _table("audio", "visual", "gives", "weights", "source", "defaults")
    for name in ENCODERS:
        cls = find(name, ENCODERS, "encoder")
        sizes = [encoder_parameters(cls, shape) for shape in SHAPES.values()]
        gives = "features, maps, tokens" if any(size and size[1] for size in sizes) else "features"
        counts = [f"{size[0]:,}" if size else "-" for size in sizes]
        weights = "scratch, imagenet, file" if "weights" in inspect.signature(cls).parameters else "scratch"
        table.add_row(name, *counts, gives, weights, cls.source, defaults(cls, "shape"))
    for family, weights in (("torchvision", "scratch, imagenet, file"), ("timm", "scratch, file")):
        cls = find(family, FAMILIES, "encoder family")
        source = "timm, an extra: pip install timm" if family == "timm" else cls.source
        table.add_row(f"{family}:NAME", "", "", "features", weights, source, defaults(cls, "shape", "name"))
    _print(table, _ENCODERS)


def fusion_parameters(cls: type[Fusion]) -> int:
    """How many parameters a fusion adds to two ResNet-18s, for six classes."""
    with torch.device("meta"):  # sizes without values
        encoders = {m: ResNet18((1, 32, 32)) for m in SHAPES}
        model = MultimodalModel(encoders, cls({m: e.dim for m, e in encoders.items()}, CLASSES))
    inside = sum(p.numel() for e in encoders.values() for p in e.parameters())
    return sum(p.numel() for p in model.parameters()) - inside


def encoder_parameters(cls: type[Any], shape: tuple[int, ...]) -> tuple[int, bool] | None:
    """How large an encoder is for one kind of input.

    Args:
        cls: The encoder's class.
        shape: The shape of a sample.

    Returns:
        Its number of parameters, and whether it shows its maps; None if it takes no such inputs.
    """
    try:
        with torch.device("meta"):
            encoder = cls(shape)
    except ValueError:
        return None
    return sum(p.numel() for p in encoder.parameters()), bool(encoder.widths)


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


def example(cls: type[Strategy], name: str) -> Strategy:
    """A strategy with its usual options; one that it cannot do without, such as a modality's name, is filled in."""
    usual = METHODS[name].everywhere if name in METHODS else {}
    missing = {p.name: "audio" for p in inspect.signature(cls).parameters.values() if p.default is p.empty}
    return cls(**{**missing, **usual})


def defaults(cls: type[Any], *given: str) -> str:
    """The options of a class's constructor with their defaults, but for those that every caller gives."""
    parameters = [p for p in inspect.signature(cls).parameters.values() if p.name not in given]
    return " ".join(f"{p.name}={'?' if p.default is p.empty else p.default}" for p in parameters)


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
