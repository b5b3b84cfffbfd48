"""What is known of each method, from its class: for ``list methods`` on a terminal, and for the page of the docs."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping

from benchmarks.config import parts
from benchmarks.config.method_facts import described, options
from benchmarks.config.method_text import method_text, one_line
from ogm.registry import STRATEGIES, nearest

LEGEND = """\
balances: how many modalities
cost: encoder forward passes + backward passes of one training step with two modalities; joint training has 2 + 1
defaults: the class's own; behind "here", what a dataset's runs use instead, and whose settings these are
tune draws: what python -m benchmarks tune draws an option from; of every method it draws the learning rate, too
options are set with method_args.NAME=VALUE; one method in full: python -m benchmarks list methods NAME"""


def print_short() -> None:
    """Print every method: idea, kind, cost, needs, paper, code and defaults, as wide as the terminal."""
    for name in STRATEGIES:
        told = parts.facts("method", name)
        print(heading(name, told), *_wrapped(told["idea"], "  "), *_labelled(told, name), "", sep="\n")
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
    told = parts.facts("method", name)
    text = method_text(parts.docstring(STRATEGIES[name]))
    print(heading(name, told), *_wrapped(text.idea, "  "), "", *_labelled(told, name), sep="\n")
    if text.algorithm:
        print("", "Steps", *_laid_out(text.algorithm), sep="\n")
    if shown := options(told):
        print("", "Options", sep="\n")
    for option, default in shown.items():
        print(f"  {default}", *_wrapped(text.options.get(option, ""), "      "), sep="\n")
    for title, entries in (("Differences", text.differences), ("References", text.references)):
        if entries:
            print("", title, *(line for entry in entries for line in _wrapped(entry, "  - ", "    ")), sep="\n")


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


def _labelled(told: Mapping[str, str], name: str) -> Iterator[str]:
    """The headings of a method and their lines, with hanging indents."""
    for what, lines in described(told, name).items():
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
