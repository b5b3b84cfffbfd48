"""What is told of a method on pages and in lists, as lines under headings. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.config.method_defaults import METHODS, Default
from datasets.registry import DATASETS


def described(told: Mapping[str, str], name: str) -> dict[str, list[str]]:
    """What the list says of a method beside its idea.

    Args:
        told: Its facts, as ``benchmarks.config.parts`` has them.
        name: Its id.

    Returns:
        Heading -> lines; a heading that has nothing to say is left out.
    """
    default = METHODS.get(name)
    found = {what: text.splitlines() for what, text in told.items() if what not in ("title", "idea", "options")} | {
        "defaults": [" ".join(told["options"].splitlines())],
        "here": overrides(default),
        "tune draws": searched(default),
    }
    return {what: lines for what, lines in found.items() if any(lines)}


def options(told: Mapping[str, str]) -> dict[str, str]:
    """Option -> "option=default"."""
    return {shown.partition("=")[0]: shown for shown in told["options"].splitlines()}


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
    return [_as_settings(default.search)] if default is not None and default.search else []


def _as_settings(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items())
