"""One method, fusion or encoder in full, as ``python -m benchmarks list KIND NAME`` shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.cli.method_page import COLUMN, heading
from benchmarks.cli.terminal import items, labelled, laid_out, wrapped
from benchmarks.config import parts
from benchmarks.config.method_facts import described
from benchmarks.config.method_text import method_text
from models.registry import FAMILIES


def method(name: str) -> Iterator[str]:
    """A registered method: what the list says of it, then its steps, options, differences and references."""
    told = parts.facts("method", name)
    return _page("method", name, heading(name, told), described(told, name), told["options"].splitlines())


def fusion(name: str) -> Iterator[str]:
    """A registered fusion: what the list says of it, then the same as of a method."""
    return _model_part("fusion", name, name, "fusion_args.NAME=VALUE")


def encoder(name: str) -> Iterator[str]:
    """A registered encoder, or one of another library, such as ``torchvision:resnet18``."""
    family = name.partition(":")[0]
    kind, entry = ("encoder family", family) if family in FAMILIES else ("encoder", name)
    title = f"{family}:NAME" if family in FAMILIES else name
    return _model_part(kind, entry, title, f"encoders.MODALITY={title} encoder_args.MODALITY.NAME=VALUE")


def _model_part(kind: str, name: str, title: str, chosen: str) -> Iterator[str]:
    told = parts.facts(kind, name)
    rows = {heading: [" ".join(text.splitlines())] for heading, text in told.items() if text}
    return _page(kind, name, title, {**rows, "set with": [chosen]}, told["defaults"].splitlines())


def _page(kind: str, name: str, title: str, rows: Mapping[str, Sequence[str]], options: Sequence[str]) -> Iterator[str]:
    """The lines of one page.

    Args:
        kind: One of ``benchmarks.config.parts.KINDS``.
        name: A registered name of this kind.
        title: The first line.
        rows: Heading -> lines, of what the list says of it.
        options: Each as "option=default".
    """
    text = method_text(parts.docstring(parts.KINDS[kind][name]))
    yield title
    yield from wrapped(text.idea, "  ")
    yield ""
    yield from labelled(rows, max(COLUMN, *(len(heading) + 2 for heading in rows)))
    if text.algorithm:
        yield from ["", "Notes" if kind.startswith("encoder") else "Steps", *laid_out(text.algorithm)]
    if options:
        yield from ["", "Options"]
    for option in options:
        yield f"  {option}"
        yield from wrapped(text.options.get(option.partition("=")[0], ""), "      ")
    yield from items("Differences", text.differences)
    yield from items("References", text.references)
