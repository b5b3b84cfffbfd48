"""What people read about a suite, made from its records: tables, figures, a README and a page."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from benchmarks.config.run_config import ConfigError, RunConfig
from benchmarks.config.suite import Suite
from benchmarks.records.record import RunRecord, write_whole
from benchmarks.records.store import records_by_key
from benchmarks.records.suite_file import read
from benchmarks.reporting import figures, tables
from benchmarks.reporting.curves import check_chosen, curve_rows, curves
from benchmarks.reporting.figures import Picture
from benchmarks.reporting.heatmap import heatmaps
from benchmarks.reporting.page import ACROSS_DATA, Drawing, page
from benchmarks.reporting.page_data import Chapter
from benchmarks.reporting.pareto import has_passes, pareto
from benchmarks.reporting.published import PUBLISHED
from benchmarks.reporting.runs import runs_frame
from benchmarks.reporting.tables import FormattedTable, escape_markdown, has_ranks

BETWEEN = 3  # characters between two columns on a terminal


def write(
    suite: Suite,
    folder: Path,
    *,
    published: Path = PUBLISHED,
    chosen: Sequence[str] = (),
    compared: Sequence[str] = (),
) -> list[Path]:
    """Write runs.csv, tables/, figures/, README.md and report.html of a results folder, from its records alone.

    Args:
        suite: The folder's tables and their runs. Records of other runs are in runs.csv only.
        folder: The results folder.
        published: The file with the numbers that papers print.
        chosen: Labels of rows, or ids of methods, whose curves are drawn; none: those that ``curve_rows`` takes.
        compared: Labels of rows, or ids of methods, whose differences to what they are compared with are drawn, in this
            order; none: no such figure.

    Returns:
        The files.

    Raises:
        ConfigError: Nothing is called as a chosen name is, the chosen rows are too many, or none of those in
            ``compared`` is compared with another row.
        ValueError: A record cannot be used; nothing is written then.
        Unwritable: A file cannot be written.
    """
    records = records_by_key(folder)
    contents = dict(files(suite, records, published, chosen, compared))
    for name, content in contents.items():
        write_whole(folder / name, content)
    return [folder / name for name in contents]


def show(suite: Suite, folder: Path) -> None:
    """Print the suite's tables on the terminal, each with as many of its columns as there is room for."""
    records = records_by_key(folder)
    console = Console()
    if not console.is_terminal:
        console.width = 220  # whole lines for files
    for formatted in tables.format_tables(suite.tables, records, quick=suite.quick):
        grid = Grid(title=escape(formatted.title), box=box.SIMPLE_HEAD, pad_edge=False)
        widths = fitting(formatted.cells, console.width)
        for column, width in widths.items():
            grid.add_column(escape(column), justify="left" if column == "setting" else "right", width=width)
        for row in formatted.cells[list(widths)].itertuples(index=False):
            grid.add_row(*(escape(str(x)) for x in row))
        console.print(grid)
        if left_out := [column for column in formatted.cells if column not in widths]:
            whole = folder / "tables" / f"{formatted.table.slug}.md"
            console.print(f"no room for {', '.join(left_out)}: see {whole}", markup=False, highlight=False)


def fitting(cells: pd.DataFrame, width: int) -> dict[str, int]:
    """The first columns of a table that a terminal has room for, with the width of each: headings wrap, cells do not.

    Args:
        cells: The table, as text.
        width: Of the terminal, in characters.
    """
    widths: dict[str, int] = {}
    for column in cells:
        texts = [*str(column).split(), *(str(x) for x in cells[column])]
        widths[str(column)] = max(cell_len(text) for text in texts)
        if sum(widths.values()) + BETWEEN * len(widths) > width and len(widths) > 1:
            del widths[str(column)]
            break
    return widths


def files(
    suite: Suite,
    records: Mapping[str, RunRecord],
    published: Path = PUBLISHED,
    chosen: Sequence[str] = (),
    compared: Sequence[str] = (),
) -> Iterator[tuple[str, bytes]]:
    """Path below the results folder and content of every file that ``write`` writes."""
    check_chosen(suite.tables, chosen)
    check_chosen(suite.tables, compared, "--rows")
    formatted = tables.format_tables(suite.tables, records, quick=suite.quick, published=published)
    if compared and not any(figures.chosen_rows(table, compared) for table in formatted):
        raise ConfigError([f"--rows: of {', '.join(compared)} none is compared with another row"])
    drawings: dict[str, list[Drawing]] = {}
    yield "runs.csv", tables.to_csv(runs_frame(list(records.values()))).encode()
    for table in formatted:
        slug = table.table.slug
        yield f"tables/{slug}.csv", tables.to_csv(table.numbers).encode()
        yield f"tables/{slug}.md", tables.to_markdown(table).encode()
        yield f"tables/{slug}.tex", tables.to_latex(table).encode()
        for picture in pictures(table, records, chosen, compared):
            drawings.setdefault(slug, []).append(_drawn(f"{slug}-{picture.kind}", picture))
            yield from _picture_files(drawings[slug][-1], picture)
    for picture in [] if suite.quick else heatmaps(suite, records):
        drawings.setdefault("", []).append(_drawn(picture.kind, picture))
        yield from _picture_files(drawings[""][-1], picture)
    yield "README.md", readme(suite, formatted, records, drawings).encode()
    yield "report.html", page(suite.title, [_chapter(suite, formatted, records)], drawings).encode()


def page_of(folders: Sequence[tuple[Suite, Path]], title: str, published: Path = PUBLISHED) -> str:
    """One page of several results folders, without figures.

    Args:
        folders: Each suite with the folder that its records are in.
        title: What stands above the page.
        published: The file with the numbers that papers print.

    Returns:
        The page as HTML.

    Raises:
        ValueError: A record cannot be used.
    """
    chapters = []
    for suite, folder in folders:
        records = records_by_key(folder)
        formatted = tables.format_tables(suite.tables, records, quick=suite.quick, published=published)
        chapters.append(_chapter(suite, formatted, records))
    return page(title, chapters, {})


def write_live_page(folder: Path) -> None:
    """Write ``report.html`` of a results folder whose runs are being made: what is done so far, without figures.

    Args:
        folder: The folder; one without a ``suite.json`` has no tables, so that nothing is written.

    Raises:
        ValueError: A record cannot be used.
        Unwritable: The page cannot be written.
    """
    made = read(folder)
    if made is not None:
        write_whole(folder / "report.html", page_of([(made.suite, folder)], made.suite.title).encode())


def _chapter(suite: Suite, formatted: Sequence[FormattedTable], records: Mapping[str, RunRecord]) -> Chapter:
    return Chapter(suite, progress(suite, records), formatted, records, runs_without_result(suite, records))


def pictures(
    table: FormattedTable, records: Mapping[str, RunRecord], chosen: Sequence[str], compared: Sequence[str]
) -> Iterator[Picture]:
    """The figures of a table, in the order in which they stand below it."""
    yield figures.accuracies(table)
    if labels := figures.chosen_rows(table, compared):
        yield figures.differences(table, labels)
    if has_passes(table):
        yield pareto(table, records)
    if has_ranks(table):
        yield figures.ranks(table)
    if curve_rows(table, records, chosen)[0]:
        yield curves(table, records, chosen)


def _drawn(file: str, picture: Picture) -> Drawing:
    return Drawing(file, picture.name, picture.caption, figures.render(picture.figure, "svg"))


def _picture_files(drawing: Drawing, picture: Picture) -> Iterator[tuple[str, bytes]]:
    yield f"figures/{drawing.file}.svg", drawing.svg
    yield f"figures/{drawing.file}.pdf", figures.render(picture.figure, "pdf")


def readme(
    suite: Suite,
    formatted: Sequence[FormattedTable],
    records: Mapping[str, RunRecord],
    drawings: Mapping[str, Sequence[Drawing]],
) -> str:
    """The suite's tables and figures (by the names of their files) as one Markdown file."""
    parts = [f"# {escape_markdown(suite.title)}"]
    if suite.quick:
        parts.append(f"**{tables.QUICK}**: {tables.QUICK_RANKS_NOTHING}")
    parts.append(f"{progress(suite, records)} Made from the records: what is written here by hand is lost next time.")
    for variant, group in itertools.groupby(formatted, key=lambda table: table.table.variant):
        parts.append(f"## {escape_markdown(variant)}")
        for table in group:
            parts.append(tables.to_markdown(table).rstrip())
            parts += _images(table.title, drawings.get(table.table.slug, ()))
    if "" in drawings:
        parts += [f"## {ACROSS_DATA}", *_images(suite.title, drawings[""])]
    parts.append("## Runs without a result")
    lines = [f"{run.title}: {state}: {reason}" for run, state, reason in runs_without_result(suite, records)]
    parts.append("\n".join(f"- {escape_markdown(line)}" for line in lines) or "None.")
    return "\n\n".join(parts) + "\n"


def _images(title: str, drawings: Sequence[Drawing]) -> Iterator[str]:
    for drawing in drawings:
        yield f"![{escape_markdown(title)}: {escape_markdown(drawing.name)}](figures/{drawing.file}.svg)"
        if drawing.caption:
            yield escape_markdown(f"Figure, {drawing.name}. {drawing.caption}")


def progress(suite: Suite, records: Mapping[str, RunRecord]) -> str:
    """How far the suite has come, in one sentence."""
    configs = suite.configs()
    count = Counter(records[c.key].status if c.key in records else "missing" for c in configs)
    states = ", ".join(f"{count[s]} {s}" for s in ("done", "diverged", "failed", "skipped", "missing") if count[s])
    minutes = sum(records[c.key].cost.get("seconds", 0.0) for c in configs if c.key in records) / 60
    return f"{len(configs)} runs ({states}), {minutes:.1f} minutes of run time in all."


def runs_without_result(suite: Suite, records: Mapping[str, RunRecord]) -> list[tuple[RunConfig, str, str]]:
    """(run, state, reason) of every run of the suite that has no result."""
    out = []
    for config in suite.configs():
        record = records.get(config.key)
        if record is None:
            out.append((config, "missing", "there is no record of it"))
        elif record.status != "done":
            out.append((config, record.status, record.reason))
    return out
