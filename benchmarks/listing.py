"""What there is to choose from, in tables to read on a terminal: python -m benchmarks list ..."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.defaults import METHODS, RECIPES, Default
from ogm.registry import STRATEGIES, find
from ogm.strategy import Strategy

_LEGEND = """\
modalities: how many it balances
passes: encoder forward passes + backward passes of one training step with two modalities; joint training has 2 + 1
defaults: the class's own; below, what a dataset's runs use instead, and where that comes from (benchmarks/defaults.py)
set them with method_args.NAME=VALUE"""


def methods() -> None:
    """Every method: id, category, paper, modalities, passes of a step, stages, defaults per dataset."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=False)
    table.add_column("id", style="bold", no_wrap=True)
    for name in ("category", "paper", "modalities", "passes", "stages and defaults"):
        table.add_column(name)
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
    console = Console()
    if not console.is_terminal:
        console.width = 200  # whole lines for grep and files
    console.print(table)
    console.print(_LEGEND, highlight=False)


def example(cls: type[Strategy], name: str) -> Strategy:
    """A strategy with its usual options; what it cannot do without, such as which modality, is filled in."""
    usual = METHODS[name].everywhere if name in METHODS else {}
    missing = {p.name: "audio" for p in inspect.signature(cls).parameters.values() if p.default is p.empty}
    return cls(**{**missing, **usual})


def defaults(cls: type[Strategy]) -> str:
    """The constructor's options, as they would be given."""
    parameters = inspect.signature(cls).parameters.values()
    return " ".join(f"{p.name}={'?' if p.default is p.empty else p.default}" for p in parameters)


def overrides(default: Default | None) -> list[str]:
    """What datasets use in place of the constructor's options: one line for each different set of values."""
    if default is None:
        return []
    lines: dict[str, list[str]] = {}
    for dataset in RECIPES:
        values = _written({**default.everywhere, **default.per_dataset.get(dataset, {})})
        if values:
            lines.setdefault(values, []).append(dataset)
    everywhere = {
        values: "everywhere" if len(names) == len(RECIPES) else ", ".join(names) for values, names in lines.items()
    }
    return [f"{where}: {values}" for values, where in everywhere.items()] + [f"({default.source})"]


def _written(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items())
