"""A suite's tables and figures as one web page: a single file, without scripts, that loads nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from benchmarks.config.run_config import RunConfig
from benchmarks.config.suite import Suite
from benchmarks.reporting.tables import QUICK, FormattedTable

TEXT_COLUMNS = ("setting", "compared with")  # aligned to the left
ACROSS_DATA = "Differences over the options of the data"  # above the figures that many tables make together
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


class Drawing(NamedTuple):
    """A figure as it is shown: the name of its file without ending, what it shows, its caption, its SVG."""

    file: str
    name: str
    caption: str
    svg: bytes


def page(
    suite: Suite,
    progress: str,
    tables: Sequence[FormattedTable],
    drawings: Mapping[str, Sequence[Drawing]],
    without_result: Sequence[tuple[RunConfig, str, str]],
) -> str:
    """The page as HTML. All text is escaped by the template; the drawings are our own SVG.

    Args:
        suite: The suite.
        progress: How far it has come, in a sentence.
        tables: Its tables.
        drawings: The figures of each table, by its slug; under the empty one, those of the whole suite.
        without_result: (run, state, reason) of every run that has no result.

    Returns:
        A whole document.
    """
    return _ENVIRONMENT.get_template("page.html.jinja").render(
        suite=suite,
        progress=progress,
        quick=QUICK,
        text_columns=TEXT_COLUMNS,
        without_result=without_result,
        tables=[
            {
                "slug": table.table.slug,
                "title": table.title,
                "columns": list(table.cells),
                "rows": list(zip(table.numbers["state"], table.cells.to_dict("records"), strict=True)),
                "figures": _shown(drawings.get(table.table.slug, ())),
                "notes": table.notes,
            }
            for table in tables
        ],
        across_data=ACROSS_DATA,
        figures=_shown(drawings.get("", ())),
    )


def _shown(drawings: Sequence[Drawing]) -> list[tuple[str, Markup, str]]:
    return [(drawing.name, Markup(inline(drawing.svg)), drawing.caption) for drawing in drawings]


def inline(svg: bytes) -> str:
    """An SVG file's drawing alone. Ids that nothing refers to go, since those of two figures would collide."""
    text = re.sub(r"<metadata>.*?</metadata>", "", svg.decode(), flags=re.DOTALL)
    text = text[text.index("<svg") :]
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    return re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", text)
