"""A suite's tables and figures as one web page: a single file, without scripts, that asks nobody for anything."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape

from benchmarks.config.run_config import RunConfig
from benchmarks.config.suite import Suite
from benchmarks.reporting.tables import QUICK, Sheet

STYLE = """
:root { color-scheme: light dark; --ink: #1c1f24; --soft: #5b6472; --line: #d9dde3; --back: #fff; --alarm: #a00000 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --soft: #a3abb7; --line: #3a404a; --back: #15181c; --alarm: #ff8a80 }
}
body { margin: 0 auto; padding: 1.2rem; max-width: 84rem; color: var(--ink); background: var(--back);
  font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.6rem; line-height: 1.2 } h2 { font-size: 1.2rem; margin-top: 3rem }
a { color: inherit } nav ul { columns: 20rem; padding-left: 1.2rem }
.quick { border: 2px solid var(--alarm); color: var(--alarm); padding: .4rem .8rem; font-weight: 600 }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .8rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line) }
thead th { vertical-align: bottom; white-space: normal; min-width: 3.5rem; border-bottom: 2px solid var(--soft) }
tbody th { position: sticky; left: 0; background: var(--back); text-align: left; font-weight: 600 }
td.text, th.text { text-align: left } td.alarm { color: var(--alarm); font-style: italic; white-space: normal }
figure { margin: 1.2rem 0; background: #fff; border: 1px solid var(--line); overflow-x: auto }
figure svg { display: block; width: 100%; min-width: 38rem; max-width: 62rem; height: auto; margin: auto }
dl { font-size: .85rem; color: var(--soft); overflow-wrap: anywhere }
dt { float: left; clear: left; font-weight: 600; margin-right: .5rem } dd { margin: 0 0 .3rem }
"""


def page(
    suite: Suite,
    progress: str,
    made: Sequence[Sheet],
    drawn: Mapping[str, bytes],
    troubles: Sequence[tuple[RunConfig, str, str]],
) -> str:
    """``drawn``: the SVG of each figure, by its name."""
    title = escape(suite.title)
    links = "\n".join(f'<li><a href="#{escape(s.table.slug)}">{escape(s.title)}</a></li>' for s in made)
    failed = "\n".join(
        f"<li><strong>{escape(state)}</strong> {escape(run.title)}: {escape(reason)}</li>"
        for run, state, reason in troubles
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{title}</h1>
{f'<p class="quick">{QUICK}</p>' if suite.quick else ""}
<p>{escape(progress)}</p>
<nav><ul>
{links}
</ul></nav>
{"".join(_section(sheet, drawn) for sheet in made)}
<section>
<h2>Runs without a result</h2>
{f"<ul>{failed}</ul>" if failed else "<p>None.</p>"}
</section>
</body>
</html>
"""


def _section(sheet: Sheet, drawn: Mapping[str, bytes]) -> str:
    slug = sheet.table.slug
    pictures = "\n".join(
        f'<figure role="img" aria-label="{escape(f"{sheet.title}: {what}")}">{inline(drawn[f"{slug}-{kind}"])}</figure>'
        for kind, what in (("bars", "accuracies"), ("curves", "course of training"))
    )
    notes = "\n".join(f"<dt>{escape(what)}</dt><dd>{escape(words)}</dd>" for what, words in sheet.notes)
    return f"""<section id="{escape(slug)}">
<h2>{escape(sheet.title)}</h2>
<div class="wide">{_table(sheet)}</div>
{pictures}
<dl>
{notes}
</dl>
</section>
"""


def _table(sheet: Sheet) -> str:
    head = "".join(f'<th scope="col"{_look(column)}>{escape(column)}</th>' for column in sheet.cells)
    lines = []
    for state, row in zip(sheet.numbers["state"], sheet.cells.to_dict("records"), strict=True):
        cells = [
            f'<th scope="row">{escape(text)}</th>'
            if column == "setting"
            else f"<td{_look(column, alarm=bool(state) and text == state)}>{escape(text)}</td>"
            for column, text in row.items()
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{chr(10).join(lines)}\n</tbody>\n</table>"


def _look(column: str, *, alarm: bool = False) -> str:
    if alarm:
        return ' class="alarm"'
    return ' class="text"' if column in ("setting", "compared with") else ""


def inline(svg: bytes) -> str:
    """An SVG file's drawing alone. Ids that nothing refers to go, since those of two figures would collide."""
    text = re.sub(r"<metadata>.*?</metadata>", "", svg.decode(), flags=re.DOTALL)
    text = text[text.index("<svg") :]
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    return re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
