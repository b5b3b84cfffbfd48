"""One dataset, or one suite of tables, in full, as ``python -m benchmarks list KIND NAME`` shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.cli.listing import own_docstring
from benchmarks.cli.terminal import items, labelled, laid_out, wrapped
from benchmarks.config.method_defaults import adaptive_lr
from benchmarks.config.suite import load, path_of, read
from datasets.core.card import Card
from datasets.core.card_page import committed_results, facts
from datasets.registry import DATASETS, card, option_table
from ogm.registry import find


def dataset(name: str) -> Iterator[str]:
    """A registered dataset: what the list says of it, how to get it, its options, quirks, and the recipe of a run."""
    cls, own = find(name, DATASETS, "dataset"), own_docstring(name)
    if own is None:
        yield from _card(name, card(name))
    else:
        yield name
        yield from laid_out(own)
    options = [f"dataset_args.{option}={default}: {values}" for option, values, default in option_table(cls)]
    yield from items("Options", options)
    settings = [*_settings(cls.training_recipe), f"lr={adaptive_lr(name)}, where optimizer=adam or adamw is chosen"]
    yield from items("Recipe of a run", settings)


def _card(name: str, about: Card) -> Iterator[str]:
    told = facts(name, about, committed_results())
    yield f"{name}: {told.pop('what')}"
    how = {"state": about.state(name), "how": about.how_to_get, "citation": about.citation}
    yield from labelled({title: [text] for title, text in {**told, **how}.items()}, 11)
    yield from items("Quirks", about.quirks)
    yield from ["", *about.example] if about.example else []


def _settings(recipe: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The settings of a recipe as a command line takes them."""
    for name, value in recipe.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}={value}"


def suite(name: str) -> Iterator[str]:
    """A suite of this project, or a file of the user's own: what it is for, its data, tables and rows, and its runs.

    Raises:
        ConfigError: There is no such suite, or its file has mistakes.
    """
    path = path_of(name)
    spec, whole = read(path), load(name)
    yield f"{path.stem}: {spec.title}"
    yield from wrapped(" ".join(_head(path)), "  ")
    yield ""
    rows = {
        "runs": [f"{len(whole.configs())}, and those that they build on; shortened by --quick"],
        "data": [f"{data.name} (dataset={data.dataset}): {', '.join(data.tables)}" for data in spec.data],
        "made by": [f"python -m benchmarks reproduce --suite {name}"],
    }
    yield from labelled(rows, 11)
    for key, table in spec.tables.items():
        yield from items(f"{key}: {table.title}", [row.label for row in table.rows])


def _head(path: Path) -> Iterator[str]:
    """The comment at the head of a file, without its signs."""
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            return
        yield line.lstrip("# ")
