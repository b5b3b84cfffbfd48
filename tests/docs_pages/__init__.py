"""Pages of docs/ whose numbers are made from the records: ``python -m tests.docs_pages`` writes them anew.

The words are in the folder of this file, with a name for each number. What the words claim is checked where the
numbers are made: a claim that the records or the repository's files do not bear is a ValueError, and its sentence has
to change.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.docs_pages.evidence import which_method
from tests.docs_pages.facts import faq, reproduce_crema_d, statistics
from tests.readme_parts import Results

WIDTH = 120
TEMPLATES = Path(__file__).parent
DOCS = TEMPLATES.parents[1] / "docs"
FOLDERS = ("compare-grid", "compare-synthav", "compare-mfeat", "synthav", "tune-synthav")
PAGES: dict[str, Callable[[Mapping[str, Results]], dict[str, str]]] = {
    "which_method": which_method,
    "faq": faq,
    "reproduce_crema_d": reproduce_crema_d,
    "statistics": statistics,
}


def read_all() -> dict[str, Results]:
    return {name: Results(name) for name in FOLDERS}


def page(name: str, made: Mapping[str, Results]) -> str:
    """A page with its numbers. Raises ValueError for a claim that they do not bear."""
    text = (TEMPLATES / f"{name}.md").read_text("utf-8").format(**PAGES[name](made))
    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if i % 2 else "\n".join(map(_wrapped, part.split("\n"))) for i, part in enumerate(parts))


def _wrapped(line: str) -> str:
    """A line that a number has made too long, in several; a row of a table stays one."""
    if len(line) <= WIDTH or line.startswith("|"):
        return line
    indent = "  " if line.startswith(("- ", "  ")) else ""
    return textwrap.fill(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
