"""Accuracy against the passes of training: what a gain costs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from benchmarks.records.record import RunRecord
from benchmarks.reporting.figures import COLOURS, INK, RULE, STYLE, Picture, set_title
from benchmarks.reporting.frames import SELECTION, accuracy_over_units
from benchmarks.reporting.method_names import legend_labels
from benchmarks.reporting.tables import FormattedTable

DIRECTIONS = 16  # in which a number may stand beside its point
DISTANCES = (8.0, 13.0, 19.0, 26.0, 34.0)  # from it, in points of 1/72 inch


def has_passes(table: FormattedTable) -> bool:
    """Whether its rows have passes relative to a baseline: a ranked table, of records that count them."""
    return "passes" in table.numbers and bool(table.numbers["passes"].notna().any())


def on_front(passes: Sequence[float], accuracies: Sequence[float]) -> list[bool]:
    """Which points no other beats: none has a higher accuracy at most as many passes, or as high a one at fewer."""
    points = list(zip(passes, accuracies, strict=True))
    return [not any((x <= a and y > b) or (x < a and y >= b) for x, y in points) for a, b in points]


@matplotlib.rc_context(STYLE)
def pareto(table: FormattedTable, records: Mapping[str, RunRecord]) -> Picture:
    """Selected test accuracy over relative passes, numbered by rank, with the Pareto front.

    Args:
        table: A table for which ``has_passes`` holds.
        records: Key -> record.
    """
    numbers = table.numbers[(table.numbers["passes"] > 0) & table.numbers[f"{SELECTION}_mean"].notna()]
    rows = {row.label: row for row in table.table.rows}
    shown = [rows[label] for label in numbers["row"]]
    x, y = numbers["passes"].to_numpy(), numbers[f"{SELECTION}_mean"].to_numpy()
    front = np.array(on_front(x, y))
    figure = Figure(figsize=(10.4, max(3.6, 1.0 + 0.152 * len(shown))), layout="constrained")
    axes, legend = figure.subplots(1, 2, width_ratios=(5.4, 5.0))
    several = _intervals(axes, table, records, numbers)
    axes.plot(x[~front], y[~front], ls="", marker="o", ms=5, color=INK, mfc="white")
    axes.plot(x[front], y[front], ls="", marker="o", ms=6, color=COLOURS[1])
    order = np.flatnonzero(front)[np.argsort(x[front], kind="stable")]
    axes.plot(x[order], y[order], drawstyle="steps-post", color=COLOURS[1], lw=1, zorder=1)
    _scales(axes, table, x)
    set_title(figure, table.title)
    base = str(table.numbers["against"].dropna().iloc[0])
    axes.set_xlabel(f"encoder passes of training, relative to {base}")
    axes.set_ylabel("test accuracy (%), epoch chosen by validation")
    _legend(legend, legend_labels(shown), front)
    figure.draw_without_rendering()  # from here on it is known where the points lie
    figure.set_layout_engine("none")
    corners = [point for a, b in itertools.pairwise(order) for point in ((x[a], y[a]), (x[b], y[a]))]
    _number(axes, np.column_stack([x, y]), front, corners + [(x[i], y[i]) for i in order[-1:]])
    interval = "Bars are 95 % intervals of the mean over the units. " if several else ""
    without = [str(label) for label in table.numbers["row"] if label not in set(numbers["row"])]
    missing = f" Not shown, without training or without a mean: {', '.join(without)}." if without else ""
    caption = (
        f"{interval}Passes are samples that encoders encoded and differentiated, with those of the runs that a run "
        "builds on. Filled: the Pareto front, settings that no other beats in accuracy at no more passes. The numbers "
        f"go by accuracy.{missing}"
    )
    return Picture("passes", "accuracy against passes", caption, figure)


def _intervals(axes: Axes, table: FormattedTable, records: Mapping[str, RunRecord], numbers: pd.DataFrame) -> bool:
    """Draw each mean's interval over the units; whether there are units enough for one."""
    drawn = False
    rows = {row.label: row for row in table.table.rows}
    for label, passes in zip(numbers["row"], numbers["passes"], strict=True):
        found = accuracy_over_units(rows[label], records)
        if found is not None and not math.isnan(found.low):
            axes.vlines(passes, found.low, found.high, color=INK, lw=0.8, alpha=0.45, zorder=1)
            drawn = True
    return drawn


def _scales(axes: Axes, table: FormattedTable, x: np.ndarray) -> None:
    """Passes on a logarithmic axis with plain numbers; a line at the accuracy and the passes of the baseline."""
    axes.set_xscale("log")
    low, high = x.min(), x.max()
    axes.set_xlim(low / 1.25, high * 1.25)
    ticks = [
        t
        for t in (0.1, 0.2, 0.5, 1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100, 200, 500)
        if low / 1.2 < t < high * 1.2
    ]
    if ticks:
        axes.set_xticks(ticks)
    else:
        axes.xaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}\N{MULTIPLICATION SIGN}"))
    axes.minorticks_off()
    bases = table.numbers["against"].dropna().unique()
    mean = table.numbers.set_index("row").loc[bases[0], f"{SELECTION}_mean"]
    axes.axhline(mean, color=RULE, lw=0.8, zorder=0)
    axes.axvline(1, color=RULE, lw=0.8, zorder=0)
    axes.margins(y=0.06)


def _legend(axes: Axes, labels: Sequence[str], front: np.ndarray) -> None:
    """What each number stands for, a line each; those on the front in its colour."""
    axes.set_axis_off()
    for i, label in enumerate(labels):
        look: dict[str, Any] = {"color": COLOURS[1] if front[i] else INK, "fontsize": 7.5, "va": "center"}
        y = 1 - (i + 0.5) / max(len(labels), 12)
        axes.text(0.05, y, str(i + 1), ha="right", transform=axes.transAxes, **look)
        axes.text(0.08, y, label, transform=axes.transAxes, **look)


def _number(axes: Axes, points: np.ndarray, front: np.ndarray, line: Sequence[tuple[float, float]]) -> None:
    """Write its number beside each point, in the nearest place that covers no point, no other number and no line."""

    def placed(xy: Any) -> np.ndarray:
        return np.asarray(axes.transData.transform(xy) * 72 / axes.figure.dpi)  # in points of 1/72 inch

    at, corners = placed(points), placed(line)
    taken = [(px - 3, py - 3, px + 3, py + 3) for px, py in at]
    taken += [(*np.minimum(a, b) - 0.5, *np.maximum(a, b) + 0.5) for a, b in itertools.pairwise(corners)]
    for i, (px, py) in enumerate(at):
        width = 5 * len(str(i + 1))
        spots = []
        for distance in DISTANCES:
            for turn in range(DIRECTIONS):
                angle = 2 * math.pi * turn / DIRECTIONS
                dx, dy = distance * math.cos(angle), distance * math.sin(angle)
                box = (px + dx - width / 2, py + dy - 4, px + dx + width / 2, py + dy + 4)
                spots.append((sum(_overlap(box, other) for other in taken), distance, dx, dy, box))
        _, distance, dx, dy, box = min(spots, key=lambda spot: spot[:2])
        taken.append(box)
        leader = {"arrowstyle": "-", "lw": 0.4, "color": INK, "shrinkA": 0, "shrinkB": 2}
        axes.annotate(
            str(i + 1),
            points[i],
            (dx, dy),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7.5,
            color=COLOURS[1] if front[i] else INK,
            arrowprops=leader if distance > DISTANCES[0] else None,
        )


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """The area that two boxes (left, bottom, right, top) share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
