"""Fusions and encoders in tables to read on a terminal, as ``python -m benchmarks list`` prints them."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.config.parts import facts
from models.registry import ENCODERS, FAMILIES, FUSIONS

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
    told = {name: facts("encoder", name) for name in ENCODERS}
    told |= {f"{family}:NAME": facts("encoder family", family) for family in FAMILIES}
    for name, row in told.items():
        table.add_row(name, *(row[column] for column in columns))
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
