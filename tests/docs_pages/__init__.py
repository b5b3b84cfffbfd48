"""Pages of docs/ whose numbers are made from the records: ``python -m tests.docs_pages`` writes them anew.

The words are in the folder of this file, with a name for each number. What the words claim is checked where the
numbers are made: a claim that the records or the repository's files do not bear is a ValueError, and its sentence has
to change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.reporting.method_names import title_of
from ogm.registry import STRATEGIES
from tests.docs_pages.evidence import which_method
from tests.docs_pages.facts import faq, reproduce_crema_d, statistics
from tests.docs_pages.results import results
from tests.readme_parts import Results, fill_lines

TEMPLATES = Path(__file__).parent
DOCS = TEMPLATES.parents[1] / "docs"
PAGES: dict[str, Callable[[Mapping[str, Results]], dict[str, str]]] = {
    "results": results,
    "which_method": which_method,
    "faq": faq,
    "reproduce_crema_d": reproduce_crema_d,
    "statistics": statistics,
}


def page(name: str, made: Mapping[str, Results]) -> str:
    """A page with its numbers. Raises ValueError for a claim that they do not bear."""
    text = (TEMPLATES / f"{name}.md").read_text("utf-8").format(**PAGES[name](made))
    text = with_full_names(text)
    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if i % 2 else wrapped(part) for i, part in enumerate(parts))


def with_full_names(text: str) -> str:
    """Where a method is first named in a sentence, its full name follows in brackets."""
    blocks = re.split(r"(\n\n)", text)
    for name in STRATEGIES:
        title = title_of(name)
        for i, block in enumerate(blocks):
            if title and f"`{name}`" in block and not block.startswith(("|", "#")):
                if title.lower() not in block.lower():
                    start, _, end = block.partition(f"`{name}`")
                    after = f"; {end[2:]}" if end.startswith(" (") else f"){end}"
                    blocks[i] = f"{start}`{name}` ({title}{after}"
                break
    return "".join(blocks)


def wrapped(text: str) -> str:
    """Paragraphs and entries of lists, as long as lines may be; tables and headings stay as they are."""
    blocks = []
    for block in text.split("\n\n"):
        items = [block] if block.strip().startswith(("|", "#")) else re.split(r"\n(?=- )", block)
        blocks.append("\n".join(item if item.strip().startswith(("|", "#")) else _filled(item) for item in items))
    return "\n\n".join(blocks)


def _filled(text: str) -> str:
    """One paragraph, with the line breaks before and after it."""
    core = text.strip("\n")
    before, _, after = text.partition(core) if core else (text, "", "")
    indent = "  " if core.startswith("- ") else ""
    return f"{before}{fill_lines(core, indent)}{after}"
