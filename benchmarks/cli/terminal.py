"""Text for a terminal: no wider than it is, and through a pager where it is longer."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from benchmarks.config.method_text import one_line


def show(lines: Iterable[str]) -> None:
    """Print lines; on a terminal with fewer rows, through the pager that MANPAGER or PAGER names (``less`` otherwise).

    Args:
        lines: The lines, without their ends.
    """
    text = "\n".join(lines) + "\n"
    if sys.stdout.isatty() and text.count("\n") >= shutil.get_terminal_size().lines:
        import pydoc

        pydoc.pager(text)
        return
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:  # who reads has seen enough, as `head` has; nothing more may be written, at the end neither
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def wrapped(text: str, first: str, rest: str | None = None) -> list[str]:
    """Lines no wider than the terminal; words such as addresses stay whole.

    Args:
        text: A paragraph.
        first: What its first line begins with.
        rest: What its other lines begin with; the same if None.
    """
    width = min(max(shutil.get_terminal_size().columns, 40), 120)
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=first if rest is None else rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def labelled(rows: Mapping[str, Sequence[str]], column: int) -> Iterator[str]:
    """Headings and their lines, with hanging indents.

    Args:
        rows: Heading -> lines.
        column: How wide the headings are, with their colons and the space behind.
    """
    for heading, lines in rows.items():
        for number, line in enumerate(lines):
            first = f"  {heading + ':':<{column}}" if number == 0 else " " * (column + 2)
            yield from wrapped(line, first, " " * (column + 4))


def items(title: str, entries: Iterable[str]) -> Iterator[str]:
    """A title, and a list below it; nothing if the list is empty."""
    lines = [line for entry in entries for line in wrapped(entry, "  - ", "    ")]
    yield from ["", title, *lines] if lines else []


def laid_out(docstring: str) -> Iterator[str]:
    """Paragraphs and numbered steps of a docstring, wrapped anew."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", docstring)):
        yield from [""] * (number > 0)
        for item in re.split(r"\n(?= *(?:\d+\.|-) )", paragraph):  # a step begins its own line
            indent = "  " + " " * (len(item) - len(item.lstrip()))
            hanging = "   " if re.match(r" *(?:\d+\.|-) ", item) else ""
            yield from wrapped(one_line(item), indent, indent + hanging)
