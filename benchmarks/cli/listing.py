"""What there is to choose from, in tables to read on a terminal: python -m benchmarks list ..."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.config.method_defaults import METHODS, Default
from datasets.registry import DATASETS
from models.encoders.resnet import ResNet18
from models.fusion import Fusion
from models.model import MultimodalModel
from models.registry import ENCODERS, FAMILIES, FUSIONS
from ogm.registry import STRATEGIES, find
from ogm.strategy import Strategy

# A sample of CREMA-D in the preset ``paper``: the spectrogram of 3 s and one frame; six emotions.
SHAPES = {"audio": (1, 257, 188), "visual": (3, 1, 224, 224)}
CLASSES = 6

_LEGEND = """\
modalities: how many it balances
passes: encoder forward passes + backward passes of one training step with two modalities; joint training has 2 + 1
defaults: the class's own; below, what a dataset's runs use instead, and its source
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


def methods() -> None:
    """Every method: id, category, paper, modalities, passes of a step, stages, defaults per dataset."""
    table = _table("category", "paper", "modalities", "passes", "stages and defaults")
    for name in STRATEGIES:
        cls = find(name, STRATEGIES, "strategy")
        forward, backward = example(cls, name).passes(2) if cls.trains else (0, 0)
        most = cls.most_modalities
        how = [cls.stages] if cls.stages else []
        how += [said for said in (defaults(cls), *overrides(METHODS.get(name))) if said]
        table.add_row(
            name,
            cls.category,
            cls.paper,
            "2 or more" if most is None else "2" if most == 2 else f"2 to {most}",
            f"{forward} + {backward}",
            escape("\n".join(how)),
        )
    _show(table, _LEGEND)


def fusions() -> None:
    """Every fusion: id, needs, additive or not, unimodal logits, parameters, source, defaults."""
    table = _table("needs", "additive", "unimodal logits", "parameters", "source", "defaults")
    for name in FUSIONS:
        cls = find(name, FUSIONS, "fusion")
        alone = "exact parts" if cls.is_additive else "own classifiers" if cls.has_unimodal_heads else "others at zero"
        additive = "yes" if cls.is_additive else "no"
        said = defaults(cls, "dims", "num_classes")
        table.add_row(name, cls.input_kind, additive, alone, f"{fusion_parameters(cls):,}", cls.source, said)
    _show(table, _FUSIONS)


def encoders() -> None:
    """Every encoder: id, inputs it takes with parameters there, what it gives, weights, source, defaults."""
    table = _table("audio", "visual", "gives", "weights", "source", "defaults")
    for name in ENCODERS:
        cls = find(name, ENCODERS, "encoder")
        counts = {m: encoder_parameters(cls, shape) for m, shape in SHAPES.items()}
        known = [made for made in counts.values() if made is not None]
        gives = "features, maps, tokens" if any(shown for _, shown in known) else "features"
        said = [f"{made[0]:,}" if made else "-" for made in counts.values()]
        given = "scratch, imagenet, file" if "weights" in inspect.signature(cls).parameters else "scratch"
        table.add_row(name, *said, gives, given, cls.source, defaults(cls, "shape"))
    for family, given in (("torchvision", "scratch, imagenet, file"), ("timm", "scratch, file")):
        cls = find(family, FAMILIES, "encoder family")
        source = "timm, an extra: pip install timm" if family == "timm" else cls.source
        table.add_row(f"{family}:NAME", "", "", "features", given, source, defaults(cls, "shape", "name"))
    _show(table, _ENCODERS)


def fusion_parameters(cls: type[Fusion]) -> int:
    """What a fusion adds to two ResNet-18s, six classes."""
    parts = {m: ResNet18((1, 32, 32)) for m in SHAPES}
    model = MultimodalModel(parts, cls({m: e.dim for m, e in parts.items()}, CLASSES))
    inside = sum(p.numel() for e in parts.values() for p in e.parameters())
    return sum(p.numel() for p in model.parameters()) - inside


def encoder_parameters(cls: type[Any], shape: tuple[int, ...]) -> tuple[int, bool] | None:
    """(parameters, does it show its maps) for an input of this shape; None if it takes no such inputs."""
    try:
        made = cls(shape)
    except ValueError:
        return None
    return sum(p.numel() for p in made.parameters()), bool(made.widths)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=False)
    table.add_column("id", style="bold", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right" if name in ("parameters", "audio", "visual") else "left")
    return table


def _show(table: Table, legend: str) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 200  # whole lines for grep and files
    console.print(table)
    console.print(legend, highlight=False)


def example(cls: type[Strategy], name: str) -> Strategy:
    """A strategy with its usual options; what it cannot do without, such as which modality, is filled in."""
    usual = METHODS[name].everywhere if name in METHODS else {}
    missing = {p.name: "audio" for p in inspect.signature(cls).parameters.values() if p.default is p.empty}
    return cls(**{**missing, **usual})


def defaults(cls: type[Any], *given: str) -> str:
    """The constructor's options, as they would be given; without those that it is ``given`` anyway."""
    parameters = [p for p in inspect.signature(cls).parameters.values() if p.name not in given]
    return " ".join(f"{p.name}={'?' if p.default is p.empty else p.default}" for p in parameters)


def overrides(default: Default | None) -> list[str]:
    """What datasets use in place of the constructor's options: one line for each different set of values."""
    if default is None:
        return []
    lines: dict[str, list[str]] = {}
    for dataset in DATASETS:
        values = _written({**default.everywhere, **default.per_dataset.get(dataset, {})})
        if values:
            lines.setdefault(values, []).append(dataset)
    everywhere = {
        values: "everywhere" if len(names) == len(DATASETS) else ", ".join(names) for values, names in lines.items()
    }
    return [f"{where}: {values}" for values, where in everywhere.items()] + [f"({default.source})"]


def _written(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items())
