"""Records to pictures: accuracies, and how they came about as curves. The same records give the same bytes."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from benchmarks.config.suite import Row, Table
from benchmarks.records.record import RunRecord
from benchmarks.reporting.frames import SELECTION, modalities, state
from benchmarks.reporting.tables import ACCURACY, FormattedTable

# Okabe and Ito's palette, told apart by colour-blind eyes; shapes and dashes say the same once more.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "^", "s", "D", "v", "P")
DASHES = ("-", "--", "-.", (0, (2, 1)), (0, (5, 1, 1, 1, 1, 1)), ":")
RULE, INK, ALARM = "#D5D9E0", "#222222", "#A00000"
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "text.parse_math": False,  # a $ in a label is a $
    "svg.hashsalt": "ogm-bench",
    "svg.fonttype": "path",  # looks the same everywhere
    "pdf.fonttype": 42,
}
CURVE_METHODS = (
    "vanilla",
    "ogm_ge",
    "ogm",
    "ge_noise",
    "static_lr",
    "modality_dropout",
)  # whose curves are drawn, first 4


NAMES = {"accuracies": "accuracies", "ranks": "mean ranks", "curves": "course of training"}  # of the figures of a table


def render(figure: Figure, kind: str) -> bytes:
    """An svg, pdf or png without a date."""
    stamp = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    file = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, format=kind, metadata=stamp, dpi=150)
    return file.getvalue()


@matplotlib.rc_context(STYLE)
def accuracies(table: FormattedTable) -> Figure:
    """Fused accuracy with its std over the runs; each modality's branch (open) and probe (filled)."""
    rows = table.numbers
    y = np.arange(len(rows))
    figure, axes = _one_line_each(table.title, rows["row"], height=1.4 + 0.3 * len(rows))
    look: dict[str, Any] = {"marker": "o", "color": INK, "ms": 6}
    mean, std = (rows[f"{SELECTION}_{part}"] for part in ("mean", "std"))
    axes.errorbar(mean, y, xerr=std, ls="", capsize=2.5, lw=1.2, **look)
    handles = [Line2D([], [], ls="", label="fused, ± std over runs", **look)]
    names = [c.removeprefix("branch_").removesuffix("_mean") for c in rows if c.startswith("branch_") and "_mean" in c]
    for i, name in enumerate(names):
        for kind, offset in (("branch", 0.16), ("probe", -0.16)):
            look = _marker(i, filled=kind == "probe")
            axes.plot(rows[f"{kind}_{name}_mean"], y - offset, ls="", **look)
            handles.append(Line2D([], [], ls="", label=f"{name} {kind}", **look))
    if rows["published"].notna().any():
        look = {"marker": "|", "color": INK, "ms": 13, "mew": 1.8}
        axes.plot(rows["published"], y, ls="", **look)
        handles.append(Line2D([], [], ls="", label="published", **look))
    bases = rows["against"].dropna().unique()
    if len(bases) == 1:
        look = {"color": INK, "lw": 0.8, "ls": ":"}
        axes.axvline(float(rows.loc[rows["row"] == bases[0], f"{SELECTION}_mean"].iloc[0]), zorder=0.5, **look)
        handles.append(Line2D([], [], label=bases[0], **look))
    right = axes.get_yaxis_transform()
    for i, (broken, text) in enumerate(zip(rows["state"], table.cells[ACCURACY], strict=True)):
        if broken:
            axes.text(0.01, i, textwrap.shorten(broken, 70), va="center", color=ALARM, style="italic", transform=right)
        else:
            axes.text(1.01, i, text, va="center", transform=right)
    axes.margins(x=0.03)
    axes.set_xlabel("test accuracy (%), epoch chosen by validation")
    columns = math.ceil(len(handles) / math.ceil(len(handles) / 5))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    return figure


@matplotlib.rc_context(STYLE)
def ranks(table: FormattedTable) -> Figure:
    """Mean rank over the units with its interval, where there is one, and the letters of the groups."""
    rows = table.numbers[table.numbers["mean_rank"].notna()].sort_values("mean_rank", kind="stable")
    y = np.arange(len(rows))
    figure, axes = _one_line_each(table.title, rows["row"], height=1.2 + 0.24 * len(rows))
    axes.hlines(y, rows["mean_rank_low"], rows["mean_rank_high"], color=INK, lw=1.2)
    axes.plot(rows["mean_rank"], y, ls="", marker="o", color=INK, ms=5)
    for i, letters in enumerate(rows["group"]):
        axes.text(1.01, i, letters, va="center", transform=axes.get_yaxis_transform())
    interval = ", 95 % interval (bootstrap over units)" if rows["mean_rank_low"].notna().any() else ""
    axes.set_xlabel(f"mean rank{interval}")
    return figure


def _one_line_each(title: str, labels: Sequence[str], height: float) -> tuple[Figure, Axes]:
    """A figure with a labelled line for each row of a table, the first at the top: row i is at y = i."""
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.subplots()
    y = np.arange(len(labels))
    axes.hlines(y, 0, 1, transform=axes.get_yaxis_transform(), color=RULE, lw=0.7, zorder=0)
    axes.set_yticks(y, labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_title(title, loc="left")
    return figure, axes


def _marker(i: int, *, filled: bool) -> dict[str, Any]:
    colour = COLOURS[i % len(COLOURS)]
    shape = MARKERS[i % len(MARKERS)]
    return {"marker": shape, "color": colour, "mfc": colour if filled else "white", "ms": 5, "mew": 1.2}


@matplotlib.rc_context(STYLE)
def curves(table: FormattedTable, records: Mapping[str, RunRecord]) -> Figure:
    """Per epoch: fused test accuracy, each modality's own, and the discrepancy ratio; mean and ± std over the runs."""
    rows = curve_rows(table.table)
    panels = _panels([records[c.key] for row in rows for c in row.configs if c.key in records])
    height = max(1, math.ceil(len(panels) / 4))
    width = max(1, math.ceil(len(panels) / height))
    figure = Figure(figsize=(2.6 * max(width, 2), 2.3 * height + 0.8), layout="constrained")
    grid = figure.subplots(height, width, squeeze=False)
    for axes, (curve, title) in zip(grid.flat, panels, strict=False):
        axes.set_title(title, loc="left")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        percent = "accuracy" in curve
        if not percent:
            axes.axhline(1, color=INK, lw=0.8, ls=":")
        for i, row in enumerate(rows):
            if not state(row, records):
                _band(axes, [records[c.key].curves.get(curve, ()) for c in row.configs], 100 if percent else 1, i)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    handles = [Line2D([], [], color=COLOURS[i], ls=DASHES[i]) for i in range(len(rows))]
    labels = [f"{row.label} ({why})" if (why := state(row, records)) else row.label for row in rows]
    figure.legend(handles, labels, loc="outside lower center", ncols=max(len(rows), 1), frameon=False)
    figure.suptitle(table.title, x=0.01, ha="left", fontsize=10)
    return figure


def curve_rows(table: Table) -> list[Row]:
    """At most four rows, in the table's order: the methods whose course is the point; of many fusions, one."""
    trained = [row for row in table.rows if row.configs and row.configs[0].epochs > 1]
    rows = [row for row in trained if row.configs[0].method in CURVE_METHODS] or trained[:4]
    if len(rows) > 4:
        fusions = [row.configs[0].fusion for row in rows]
        kept = "concat" if "concat" in fusions else fusions[0]
        rows = [row for row in rows if row.configs[0].fusion == kept]
        rows = sorted(rows, key=lambda row: CURVE_METHODS.index(row.configs[0].method))[:4]
    return [row for row in table.rows if row in rows]


def _panels(records: Sequence[RunRecord]) -> list[tuple[str, str]]:
    """(curve, title) of all that these records have. Of two modalities, one's ratio is the other's inverse."""
    names = modalities(records)
    ratios = names[:1] if len(names) == 2 else names
    panels = [("test/accuracy", "fused accuracy (%)")]
    panels += [(f"test/accuracy/{m}", f"{m} branch accuracy (%)") for m in names]
    panels += [(f"train/discrepancy_ratio/{m}", f"discrepancy ratio, {m}") for m in ratios]
    return [panel for panel in panels if any(panel[0] in r.curves for r in records)]


def _band(axes: Axes, series: Sequence[Sequence[float | None]], scale: float, i: int) -> None:
    y = scale * np.array(series, dtype=float)  # (runs, epochs); None, an epoch without the number, becomes NaN
    if y.size == 0:
        return
    epochs, mean = np.arange(1, y.shape[1] + 1), y.mean(axis=0)
    axes.plot(epochs, mean, color=COLOURS[i], ls=DASHES[i], lw=1.6)
    if len(y) > 1:
        std = y.std(axis=0, ddof=1)
        axes.fill_between(epochs, mean - std, mean + std, color=COLOURS[i], alpha=0.18, lw=0)
