"""What is known of each method, from its class: for ``list methods`` on a terminal, and for the page of the docs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks.cli.terminal import labelled, wrapped
from benchmarks.config import parts
from benchmarks.config.method_facts import described, options
from benchmarks.config.method_text import method_text
from ogm.registry import STRATEGIES

LEGEND = """\
balances: how many modalities
cost: encoder forward passes + backward passes of one training step with two modalities; joint training has 2 + 1
defaults: the class's own; behind "here", what a dataset's runs use instead, and whose settings these are
tune draws: what `python -m benchmarks tune` draws an option from; of every method it draws the learning rate, too
options are set with method_args.NAME=VALUE; one method in full: python -m benchmarks list methods NAME"""
COLUMN = 12  # as wide as the longest heading


def short() -> Iterator[str]:
    """Every method: idea, kind, cost, needs, paper, code and defaults."""
    for name in STRATEGIES:
        told = parts.facts("method", name)
        yield heading(name, told)
        yield from wrapped(told["idea"], "  ")
        yield from labelled(described(told, name), COLUMN)
        yield ""
    for text in LEGEND.splitlines():
        yield from wrapped(text, "", "  ")


def markdown() -> str:
    """The page of the docs: an entry for each method."""
    page = [
        "# Methods",
        "Written from the classes by `python -m tests.paper_and_code`; `python -m benchmarks list methods NAME` prints "
        "the steps and the differences of one, too.",
        "\n".join(f"- {line}" for line in LEGEND.splitlines()[:-1]),
    ]
    for name, place in STRATEGIES.items():
        told = parts.facts("method", name)
        path = f"{place.partition(':')[0].replace('.', '/')}.py"
        page += [f"## {name}", f"{told['title']}. {told['idea']}" if told["title"] else told["idea"]]
        rows = [f"- {what}: {'; '.join(lines)}" for what, lines in described(told, name).items()]
        page.append("\n".join([*rows, f"- steps: [{path}](../{path})"]))
        if meanings := method_text(parts.docstring(place)).options:
            shown = options(told)
            page.append("\n".join(f"- `{shown[option]}`: {meaning}" for option, meaning in meanings.items()))
    return "\n\n".join(page) + "\n"


def heading(name: str, told: Mapping[str, str]) -> str:
    """The id of a method, and its full name if it has one of its own."""
    return f"{name}: {told['title']}" if told["title"] else name
