"""What is known of each method, from its class: for ``list methods`` on a terminal, and for the page of the docs."""

from __future__ import annotations

import inspect
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.cli.method_text import MethodText, method_text, one_line
from benchmarks.config.method_defaults import METHODS, Default
from datasets.registry import DATASETS
from ogm.registry import STRATEGIES, find, nearest
from ogm.strategy import Strategy

LEGEND = """\
balances: how many modalities
cost: encoder forward passes + backward passes of one training step with two modalities; joint training has 2 + 1
defaults: the class's own; behind "here", what a dataset's runs use instead, and whose settings these are
tune draws: what python -m benchmarks tune draws an option from; of every method it draws the learning rate, too
options are set with method_args.NAME=VALUE; one method in full: python -m benchmarks list methods NAME"""
_NEEDS = {
    "needs_additive": "a fusion whose logits are the sum or mean of unimodal ones",
    "needs_whole_batch": "the whole batch at once",
    "needs_engine": "the suite's training loop",
    "needs_optimizer": "the optimizer, whose updates it scales",
}


def print_short() -> None:
    """Print every method: idea, kind, cost, needs, paper, code and defaults, as wide as the terminal."""
    for name in STRATEGIES:
        cls = find(name, STRATEGIES, "method")
        text = method_text(cls)
        print(heading(name, cls), *_wrapped(text.idea, "  "), sep="\n")
        for what, lines in facts(name, cls, text).items():
            print(*_labelled(what, lines), sep="\n")
        print()
    print(*(line for text in LEGEND.splitlines() for line in _wrapped(text, "", "  ")), sep="\n")


def print_full(name: str) -> None:
    """Print one method: what the list says of it, and steps, options and differences.

    Args:
        name: Its id.

    Raises:
        ValueError: If there is none of that name; the message has the nearest one.
    """
    if name not in STRATEGIES:
        hint = nearest(name, STRATEGIES) or ";"
        raise ValueError(f"no method is called {name!r}{hint} python -m benchmarks list methods prints them all")
    cls = find(name, STRATEGIES, "method")
    text = method_text(cls)
    print(heading(name, cls), *_wrapped(text.idea, "  "), "", sep="\n")
    for what, lines in facts(name, cls, text).items():
        print(*_labelled(what, lines), sep="\n")
    if text.algorithm:
        print("", "Steps", *_laid_out(text.algorithm), sep="\n")
    if shown := options(cls):
        print("", "Options", sep="\n")
    for option, default in shown.items():
        print(f"  {default}", *_wrapped(text.options.get(option, ""), "      "), sep="\n")
    for title, entries in (("Differences", text.differences), ("References", text.references)):
        if entries:
            print("", title, *(line for entry in entries for line in _wrapped(entry, "  - ", "    ")), sep="\n")


def markdown() -> str:
    """The page of the docs: an entry for each method."""
    parts = [
        "# Methods",
        "Written from the classes by `python -m tests.paper_and_code`; `python -m benchmarks list methods NAME` prints "
        "the steps and the differences of one, too.",
        "\n".join(f"- {line}" for line in LEGEND.splitlines()[:-1]),
    ]
    for name in STRATEGIES:
        cls = find(name, STRATEGIES, "method")
        text = method_text(cls)
        path = f"{cls.__module__.replace('.', '/')}.py"
        parts += [f"## {name}", f"{cls.title or name}. {text.idea}" if cls.title else text.idea]
        rows = [f"- {what}: {'; '.join(lines)}" for what, lines in facts(name, cls, text).items()]
        parts.append("\n".join([*rows, f"- steps: [{path}](../{path})"]))
        if text.options:
            shown = options(cls)
            parts.append("\n".join(f"- `{shown[name]}`: {meaning}" for name, meaning in text.options.items()))
    return "\n\n".join(parts) + "\n"


def heading(name: str, cls: type[Strategy]) -> str:
    """The id of a method, and its full name if it has one of its own."""
    title = vars(cls).get("title", "")
    return f"{name}: {title}" if title else name


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


def _width() -> int:
    return min(max(shutil.get_terminal_size().columns, 40), 120)


def _wrapped(text: str, first: str, rest: str | None = None) -> list[str]:
    """Lines no wider than the terminal; words such as addresses stay whole."""
    return textwrap.wrap(
        text,
        _width(),
        initial_indent=first,
        subsequent_indent=first if rest is None else rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _labelled(what: str, lines: list[str]) -> Iterator[str]:
    """The lines of one heading, with hanging indents."""
    for number, line in enumerate(lines):
        yield from _wrapped(line, f"  {what + ':':<12}" if number == 0 else " " * 14, " " * 16)


def _laid_out(algorithm: str) -> Iterator[str]:
    """Paragraphs and numbered steps of a docstring, wrapped anew."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", algorithm)):
        yield from [""] * (number > 0)
        for item in re.split(r"\n(?= *(?:\d+\.|-) )", paragraph):  # a step begins its own line
            indent = "  " + " " * (len(item) - len(item.lstrip()))
            hanging = "   " if re.match(r" *(?:\d+\.|-) ", item) else ""
            yield from _wrapped(one_line(item), indent, indent + hanging)
