"""Suites as one web page: a single file that loads nothing. Plain tables, and scripts that make them interactive."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from benchmarks.reporting.across import across_data, ranked_data
from benchmarks.reporting.page_data import Chapter, anchor, data_block
from benchmarks.reporting.tables import QUICK, QUICK_RANKS_NOTHING, FormattedTable

TEXT_COLUMNS = ("setting", "compared with")  # aligned to the left
ACROSS_DATA = "Differences over the options of the data"  # above the figures that many tables make together
ASSETS = Path(__file__).parent / "assets"
LIBRARIES = "libraries.js"  # built, see assets/README.md
SCRIPTS = ("model.js", "table.js", "copy.js", "curves.js", "method.js", "page.js")  # one program, in this order
STYLES = ("libraries.css", "page.css")
LICENCES = ("LICENSE-tabulator.txt", "LICENSE-uplot.txt")
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


MOST_DRAWN = 2_500_000  # bytes of figures; with more the page would be slow to open


class Drawing(NamedTuple):
    """A figure as it is shown: the name of its file without ending, what it shows, its caption, its SVG."""

    file: str
    name: str
    caption: str
    svg: bytes


def page(title: str, chapters: Sequence[Chapter], drawings: Mapping[str, Sequence[Drawing]]) -> str:
    """The page as HTML. All text is escaped by the template; the drawings are our own SVG.

    Args:
        title: What stands above it.
        chapters: Its suites.
        drawings: The figures of each table, by its slug; under the empty one, those of the whole suite. For a page of
            several suites: none. Of more than MOST_DRAWN bytes the page says in which folder they are.

    Returns:
        A whole document. Its Content-Security-Policy allows the two scripts by their digests, and nothing else that
        runs or is loaded.
    """
    scripts = [asset(LIBRARIES), '"use strict";\n{\n' + "".join(map(asset, SCRIPTS)) + "}\n"]
    drawn = sum(len(drawing.svg) for figures in drawings.values() for drawing in figures)
    shown = drawings if drawn <= MOST_DRAWN else {}
    tables = [t for chapter in chapters for t in chapter.tables]
    return _ENVIRONMENT.get_template("page.html.jinja").render(
        title=title,
        policy=" ".join(digest(script) for script in scripts),
        styles=Markup("\n".join(map(asset, STYLES))),
        scripts=[Markup(script) for script in scripts],
        data=Markup(data_block(chapters)),
        licences="\n".join(map(asset, LICENCES)),
        quick=f"{QUICK}: {QUICK_RANKS_NOTHING}",
        text_columns=TEXT_COLUMNS,
        chapters=[
            {
                "suite": chapter.suite,
                "progress": chapter.progress,
                "without_result": chapter.without_result,
                "tables": [_section(anchor(number, t), t, shown) for t in chapter.tables],
            }
            for number, chapter in enumerate(chapters)
        ],
        across=[("", row) for row in across_data(tables).to_dict("records")] if len(ranked_data(tables)) > 1 else [],
        across_data=ACROSS_DATA,
        figures=_shown(shown.get("", ())),
        left_out=drawn > MOST_DRAWN,
    )


def asset(name: str) -> str:
    """The text of a file in assets/."""
    return (ASSETS / name).read_text(encoding="utf-8")


def digest(script: str) -> str:
    """What a Content-Security-Policy calls a script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _section(name: str, table: FormattedTable, drawings: Mapping[str, Sequence[Drawing]]) -> dict[str, Any]:
    return {
        "id": name,
        "title": table.title,
        "columns": list(table.cells),
        "rows": list(zip(table.numbers["state"], table.cells.to_dict("records"), strict=True)),
        "figures": _shown(drawings.get(table.table.slug, ())),
        "notes": table.notes,
    }


def _shown(drawings: Sequence[Drawing]) -> list[tuple[str, Markup, str]]:
    return [(drawing.name, Markup(inline(drawing.svg)), drawing.caption) for drawing in drawings]


def inline(svg: bytes) -> str:
    """An SVG file's drawing alone. Ids that nothing refers to go, since those of two figures would collide."""
    text = re.sub(r"<metadata>.*?</metadata>", "", svg.decode(), flags=re.DOTALL)
    text = text[text.index("<svg") :]
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    return re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", text)
