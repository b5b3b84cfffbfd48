"""What is known of a method from its class: kind, cost, needs, papers, defaults."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from benchmarks.config.method_defaults import METHODS, Default
from benchmarks.config.method_text import MethodText
from datasets.registry import DATASETS
from ogm.strategy import Strategy

_NEEDS = {
    "needs_additive": "a fusion whose logits are the sum or mean of unimodal ones",
    "needs_whole_batch": "the whole batch at once",
    "needs_engine": "the suite's training loop",
    "needs_optimizer": "the optimizer, whose updates it scales",
}


def facts(name: str, cls: type[Strategy], text: MethodText) -> dict[str, list[str]]:
    """What the list says of a method beside its idea.

    Args:
        name: Its id.
        cls: Its class.
        text: Its docstring.

    Returns:
        Heading -> lines; a heading that has nothing to say is left out.
    """
    forward, backward = example(cls, name).passes(2) if cls.trains else (0, 0)
    most = cls.most_modalities
    default = METHODS.get(name)
    found: dict[str, list[str]] = {
        "kind": [cls.category],
        "balances": ["2 or more" if most is None else "2" if most == 2 else f"2 to {most}"],
        "cost": [f"{forward} + {backward}", *([cls.stages] if cls.stages else [])],
        "needs": [words for attribute, words in _NEEDS.items() if getattr(cls, attribute)],
        "predicts": [] if cls.prediction == "fused" else [cls.prediction],
        "paper": [*(text.papers if text.references else [cls.paper]), *text.arxiv],
        "code": text.code,
        "defaults": [" ".join(options(cls).values())],
        "here": overrides(default),
        "tune draws": searched(default),
    }
    return {what: lines for what, lines in found.items() if any(lines)}


def example(cls: type[Strategy], name: str) -> Strategy:
    """A strategy with its usual options; one that it cannot do without, such as a modality's name, is filled in."""
    usual = METHODS[name].everywhere if name in METHODS else {}
    missing = {p.name: "audio" for p in inspect.signature(cls).parameters.values() if p.default is p.empty}
    return cls(**{**missing, **usual})


def options(cls: type[Any], *given: str) -> dict[str, str]:
    """Option -> "option=default" of a class's constructor, but for those that every caller gives."""
    parameters = [p for p in inspect.signature(cls).parameters.values() if p.name not in given]
    return {p.name: f"{p.name}={'?' if p.default is p.empty else p.default}" for p in parameters}


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
