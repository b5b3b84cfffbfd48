"""How accuracies came about: curves over the epochs, of the rows of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from benchmarks.config.run_config import ConfigError, known
from benchmarks.config.suite import OWN, Row, Table
from benchmarks.records.record import RunRecord
from benchmarks.reporting.figures import COLOURS, DASHES, INK, STYLE, Picture, set_title
from benchmarks.reporting.frames import SELECTION, modalities, state
from benchmarks.reporting.method_names import legend_labels
from benchmarks.reporting.tables import BRANCH_AND_PROBE, FormattedTable

MOST = 12  # lines that colours and dashes tell apart in one panel
WITH_BANDS = 6  # rows; the bands of more would hide each other


@matplotlib.rc_context(STYLE)
def curves(table: FormattedTable, records: Mapping[str, RunRecord], chosen: Sequence[str] = ()) -> Picture:
    """Per epoch: fused test accuracy, each modality's own, and the discrepancy ratio, as means over the runs.

    Args:
        table: Its rows are drawn, see ``curve_rows``.
        records: Key -> record.
        chosen: Labels of rows, or ids of methods; none: the rows that ``curve_rows`` takes by itself.

    Returns:
        The figure, with ± std over the runs where the rows are few. A row without a mean has no line; the legend says
        why.
    """
    rows, which = curve_rows(table, records, chosen)
    panels = _panels([records[c.key] for row in rows for c in row.configs if c.key in records])
    labels = [
        f"{label} ({why})" if (why := state(row, records)) else label
        for label, row in zip(legend_labels(rows), rows, strict=True)
    ]
    across = 4 if len(rows) <= WITH_BANDS else 2  # many lines need larger panels
    down = max(1, math.ceil(len(panels) / across))
    width = max(2, math.ceil(len(panels) / down)) * (2.6 if across == 4 else 4.2)
    columns = max(1, min(len(rows), int(width / (0.6 + 0.075 * max(map(len, labels), default=1)))))
    height = (2.3 if across == 4 else 2.8) * down + 0.6 + 0.19 * math.ceil(len(rows) / columns)
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(down, max(1, math.ceil(len(panels) / down)), squeeze=False)
    for axes, (curve, title) in zip(grid.flat, panels, strict=False):
        axes.set_title(title, loc="left")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        percent = "accuracy" in curve
        if not percent:
            axes.axhline(1, color=INK, lw=0.8, ls=":")
        for i, row in enumerate(rows):
            if not state(row, records):
                series = [records[c.key].curves.get(curve, ()) for c in row.configs]
                _line(axes, series, 100 if percent else 1, i, band=len(rows) <= WITH_BANDS)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    handles = [Line2D([], [], **_look(i)) for i in range(len(rows))]
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    set_title(figure, table.title)
    spread = " with ± one standard deviation" if len(rows) <= WITH_BANDS else ""
    caption = f"{which} Test accuracy after each epoch, mean{spread} over the runs. {_explained(panels)}".rstrip()
    return Picture("curves", "course of training", caption, figure)


def curve_rows(
    table: FormattedTable, records: Mapping[str, RunRecord], chosen: Sequence[str] = ()
) -> tuple[list[Row], str]:
    """The rows whose curves are drawn, in the table's order, and what the caption says about it.

    Args:
        table: The table. Rows of which no run was evaluated after two epochs or more have no course.
        records: Key -> record.
        chosen: Labels of rows, or ids of methods.

    Returns:
        The chosen rows; without any, all rows; of more than MOST, the best and the worst by the accuracy that
        validation selected, and what they are compared with.

    Raises:
        ConfigError: More than MOST rows are chosen.
    """
    rows = [row for row in table.table.rows if row.rule == OWN]  # curves are of the method's own prediction
    trained = [row for row in rows if _has_course(row, records)]
    without = [row.label for row in rows if row.configs and row not in trained]
    rest = f"Not trained over epochs: {', '.join(without)}." if without else ""
    asked = [row for row in trained if row.label in chosen or row.configs[0].method in chosen]
    if len(asked) > MOST:
        raise ConfigError(
            [
                f"--curves: {len(asked)} rows of the table {table.title!r} are called so or use these methods, and a "
                f"figure can show {MOST}: give the labels of fewer rows"
            ]
        )
    if asked:
        return asked, f"{len(asked)} of {len(rows)} settings, as chosen."
    if len(trained) <= MOST:
        return trained, rest
    means = table.numbers.set_index("row")[f"{SELECTION}_mean"].loc[[row.label for row in trained]].dropna()
    if means.empty:
        return trained[:MOST], f"The first {MOST} of {len(trained)} settings: none has a mean yet."
    extremes = {str(means.idxmax()), str(means.idxmin())}
    labels = extremes | {row.against for row in trained if row.label in extremes}
    which = f"Of {len(trained)} settings the best, the worst and what they are compared with, by the selected accuracy."
    return [row for row in trained if row.label in labels], f"{which} {rest}".rstrip()


def _has_course(row: Row, records: Mapping[str, RunRecord]) -> bool:
    """Whether there are several epochs to show; of a row without a mean, whether there would be."""
    if not row.configs or row.configs[0].epochs < 2:
        return False
    return bool(state(row, records)) or any(len(c) > 1 for c in records[row.configs[0].key].curves.values())


def check_chosen(tables: Sequence[Table], chosen: Sequence[str], flag: str = "--curves") -> None:
    """Raise ConfigError, a line for each name, where a chosen one is that of no row and no method of any table."""
    rows = [row for table in tables for row in table.rows]
    names = dict.fromkeys([c.method for row in rows for c in row.configs] + [row.label for row in rows])
    mistakes = []
    for name in chosen:
        try:
            known(name, names)
        except ValueError as error:
            mistakes.append(f"{flag}: no row is called so, and none uses such a method: {error}")
    if mistakes:
        raise ConfigError(mistakes)


def _panels(records: Sequence[RunRecord]) -> list[tuple[str, str]]:
    """(curve, title) of all that these records have. Of two modalities, one's ratio is the other's inverse."""
    names = modalities(records)
    ratios = names[:1] if len(names) == 2 else names
    panels = [("test/accuracy", "fused accuracy (%)")]
    panels += [(f"test/accuracy/{m}", f"{m} branch accuracy (%)") for m in names]
    panels += [(f"train/discrepancy_ratio/{m}", f"discrepancy ratio, {m}") for m in ratios]
    return [panel for panel in panels if any(panel[0] in r.curves for r in records)]


def _explained(panels: Sequence[tuple[str, str]]) -> str:
    """What the words in the panels' titles mean."""
    words = []
    if any("branch" in title for _, title in panels):
        words.append(f"{BRANCH_AND_PROBE.partition(';')[0].capitalize()}.")
    if any("ratio" in title for _, title in panels):
        words.append(
            "The discrepancy ratio is the probability that a modality's branch gives to the true classes, over that of "
            "the other modality (the mean of the ratios to the others); at 1 (dotted) they are level."
        )
    return " ".join(words)


def _look(i: int) -> dict[str, Any]:
    """A line's colour and dash: of MOST no two are alike."""
    turn, colour = divmod(i, len(COLOURS))
    return {"color": COLOURS[colour], "ls": DASHES[(colour + turn) % len(DASHES)], "lw": 1.6}


def _line(axes: Axes, series: Sequence[Sequence[float | None]], scale: float, i: int, *, band: bool) -> None:
    y = scale * np.array(series, dtype=float)  # (runs, epochs); None, an epoch without the number, becomes NaN
    if y.size == 0:
        return
    epochs, mean = np.arange(1, y.shape[1] + 1), y.mean(axis=0)
    look = _look(i)
    axes.plot(epochs, mean, **look)
    if band and len(y) > 1:
        std = y.std(axis=0, ddof=1)
        axes.fill_between(epochs, mean - std, mean + std, color=COLOURS[i], alpha=0.18, lw=0)
