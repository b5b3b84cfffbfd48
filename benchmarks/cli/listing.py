"""Fusions and encoders in tables to read on a terminal, as ``python -m benchmarks list`` prints them."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.config.method_facts import options
from benchmarks.speed.example_input import CLASSES, SHAPES
from models.encoders.resnet import ResNet18
from models.fusion import Fusion
from models.model import MultimodalModel
from models.registry import ENCODERS, FAMILIES, FUSIONS
from ogm.registry import find

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


def print_fusions() -> None:
    """Print every fusion: id, needs, additive or not, unimodal logits, parameters, source, defaults."""
    table = _table("needs", "additive", "unimodal logits", "parameters", "source", "defaults")
    for name in FUSIONS:
        cls = find(name, FUSIONS, "fusion")
        logits = "exact parts" if cls.is_additive else "own classifiers" if cls.has_unimodal_heads else "others at zero"
        additive = "yes" if cls.is_additive else "no"
        shown = _defaults(cls, "dims", "num_classes")
        table.add_row(name, cls.input_kind, additive, logits, f"{fusion_parameters(cls):,}", cls.source, shown)
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
        table.add_row(name, *counts, gives, weights, cls.source, _defaults(cls, "shape"))
    for family, weights in (("torchvision", "scratch, imagenet, file"), ("timm", "scratch, file")):
        cls = find(family, FAMILIES, "encoder family")
        source = "timm, an extra: pip install timm" if family == "timm" else cls.source
        table.add_row(f"{family}:NAME", "", "", "features", weights, source, _defaults(cls, "shape", "name"))
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


def _defaults(cls: type[Any], *given: str) -> str:
    """The options of a class's constructor with their defaults, but for those that every caller gives."""
    return " ".join(options(cls, *given).values())
