"""Where in the space of two options of a data set a method gains: a heat map of differences to its baseline."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from benchmarks.config.run_config import RunConfig
from benchmarks.config.suite import OWN, Row, Suite, Table
from benchmarks.config.units import DRAWS
from benchmarks.records.record import RunRecord
from benchmarks.reporting.figures import ALARM, INK, RULE, STYLE, Picture
from benchmarks.reporting.frames import state, table_frame
from benchmarks.reporting.method_names import titles
from benchmarks.reporting.statistics import LEAST_UNITS
from benchmarks.reporting.tables import format_number

LEAST_CELLS = 4  # fewer are no map
GREY = "#DDDDDD"  # of a cell whose interval or range includes 0
WIDTH = 13.0  # inches that panels side by side may take

Cell = tuple[float, float]
Pair = tuple[RunConfig, RunConfig]  # a run and that of the row it is compared with, over the same seeds


@dataclass(frozen=True)
class Comparison:
    """A row and its baseline, with their runs from every table that has both with the same settings."""

    dataset: str
    label: str
    against: str
    pairs: tuple[Pair, ...]


def heatmaps(suite: Suite, records: Mapping[str, RunRecord]) -> list[Picture]:
    """A heat map for each data set and two numeric options of it in which the suite's runs differ.

    Nothing has to be declared: tables, or the runs of a row, that differ in exactly two options (draws of the data
    apart), at LEAST_CELLS places, have a map. Options that a preset sets are read from the records.
    """
    found: dict[tuple[str, Cell | tuple[str, str]], list[Comparison]] = {}
    for comparison in comparisons(suite.tables):
        options = varied_options(comparison.pairs, records)
        places = {place_of(config, records, options) for config, _ in comparison.pairs} if len(options) == 2 else set()
        if len(places - {None}) >= LEAST_CELLS:
            found.setdefault((comparison.dataset, (options[0], options[1])), []).append(comparison)
    return [heatmap(compared, records, (str(options[0]), str(options[1]))) for (_, options), compared in found.items()]


def comparisons(tables: Sequence[Table]) -> list[Comparison]:
    """Every row that is compared with another, joined over the tables where all but the data and the seeds is alike."""
    joined: dict[tuple[str, str, str, str], dict[tuple[str, str], Pair]] = {}
    for table in tables:
        rows = {row.label: row for row in table.rows}
        for row in table.rows:
            if row.against is not None and row.rule == rows[row.against].rule == OWN:
                for pair in zip(row.configs, rows[row.against].configs, strict=False):
                    settings = [c.model_dump(mode="json", exclude={"dataset_args", "seed"}) for c in pair]
                    alike = (table.dataset, row.label, row.against, json.dumps(settings, sort_keys=True))
                    joined.setdefault(alike, {})[pair[0].key, pair[1].key] = pair
    return [
        Comparison(dataset, label, against, tuple(pairs.values()))
        for (dataset, label, against, _), pairs in joined.items()
    ]


def _numbers(config: RunConfig, records: Mapping[str, RunRecord]) -> dict[str, float]:
    """The numeric options of a run's data: those that were given, and those that its record says it had."""
    record = records.get(config.key)
    recipe: Any = record.data.get("recipe", {}) if record else {}
    return {
        name: value
        for name, value in {**recipe, **config.dataset_args}.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in DRAWS
    }


def varied_options(pairs: Sequence[Pair], records: Mapping[str, RunRecord]) -> list[str]:
    """The numeric options of the data set that the runs differ in, in alphabetical order."""
    values: dict[str, set[float]] = {}
    for config, _ in pairs:
        for name, value in _numbers(config, records).items():
            values.setdefault(name, set()).add(value)
    return sorted(name for name, different in values.items() if len(different) > 1)


def place_of(config: RunConfig, records: Mapping[str, RunRecord], options: Sequence[str]) -> Cell | None:
    """The values of two options of a run's data; None where only a record would say them, and there is none."""
    numbers = _numbers(config, records)
    return (numbers[options[0]], numbers[options[1]]) if all(name in numbers for name in options) else None


def differences(
    compared: Comparison, records: Mapping[str, RunRecord], options: tuple[str, str]
) -> dict[Cell, dict[str, Any]]:
    """Place -> the numbers of the row there, as ``table_frame`` has them, from the runs on that data alone."""
    at: dict[Cell, list[Pair]] = {}
    for pair in compared.pairs:
        place = place_of(pair[0], records, options)
        if place is not None:
            at.setdefault(place, []).append(pair)
    cells = {}
    for place, pairs in at.items():
        base = Row(compared.against, tuple(theirs for _, theirs in pairs))
        row = Row(compared.label, tuple(ours for ours, _ in pairs), compared.against)
        frame = table_frame(Table("cell", "", compared.dataset, "", (base, row)), records)
        numbers: dict[str, Any] = frame.to_dict("records")[1]
        cells[place] = numbers | {"state": state(row, records) or state(base, records)}
    return cells


@matplotlib.rc_context(STYLE)
def heatmap(compared: Sequence[Comparison], records: Mapping[str, RunRecord], options: tuple[str, str]) -> Picture:
    """A panel for each comparison, each with a colour scale of its own that is white at 0.

    Args:
        compared: Rows on one data set.
        records: Key -> record.
        options: The names of the options on the horizontal and the vertical axis.
    """
    cells = [differences(comparison, records, options) for comparison in compared]
    xs, ys = (sorted({place[i] for found in cells for place in found}) for i in (0, 1))
    panel = 1.5 + 0.95 * len(xs)
    across = max(1, min(int(WIDTH / panel), len(compared)))
    down = math.ceil(len(compared) / across)
    size = (across * panel, down * (0.85 + 0.52 * len(ys)) + 0.2)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for axes, comparison, found in zip(grid.flat, compared, cells, strict=False):
        bar = figure.colorbar(_panel(axes, found, xs, ys), ax=axes, label="difference (points)")
        bar.outline.set_visible(False)
        axes.set_title(f"{comparison.label} \N{MINUS SIGN} {comparison.against}", loc="left", fontsize=9)
        axes.set_xlabel(options[0])
        axes.set_ylabel(options[1])
    for axes in grid.flat[len(compared) :]:
        axes.set_axis_off()
    dataset = compared[0].dataset
    caption = (
        f"Differences in test accuracy on {dataset}, in percentage points, paired by draw of the data: the mean, and "
        f"below it {_spread(cells)}. Grey: these include 0, so that there is no evidence of a difference. Hatched: no "
        "result, as there are no runs or not all of them are done. Each panel has its own colours."
    )
    rows = [Row(c.label, tuple(ours for ours, _ in c.pairs)) for c in compared]
    if names := titles(rows):
        caption += f" Methods: {'; '.join(f'{method}: {title}' for method, title in names.items())}."
    name = f"differences over {options[0]} and {options[1]}"
    return Picture(f"heatmap-{dataset}-{options[0]}-{options[1]}", name, caption, figure)


def _spread(cells: Sequence[Mapping[Cell, Mapping[str, Any]]]) -> str:
    """What the second line of a cell is; where units differ in number, cells may have either."""
    units = {int(n["pairs"]) for found in cells for n in found.values() if not n["state"]}
    interval = f"[its 95 % interval, Student's t over {_span([n for n in units if n >= LEAST_UNITS])} units]"
    extremes = f"(the least to the greatest of {_span([n for n in units if n < LEAST_UNITS])})"
    kinds = [interval] * any(n >= LEAST_UNITS for n in units) + [extremes] * any(n < LEAST_UNITS for n in units)
    return " or ".join(kinds) or "its interval"


def _span(counts: Sequence[int]) -> str:
    if not counts:
        return ""
    return str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _panel(axes: Axes, found: Mapping[Cell, Mapping[str, Any]], xs: Sequence[float], ys: Sequence[float]) -> QuadMesh:
    """One comparison: a cell with its numbers where there is a result, coloured if that is evidence; else hatching."""
    limit = max((abs(n["difference_mean"]) for n in found.values() if not n["state"]), default=0) or 1.0
    values = np.full((len(ys), len(xs)), math.nan)
    axes.patch.set(facecolor="#F2F2F2", edgecolor="#BBBBBB", hatch="////", lw=0)
    for (x, y), numbers in found.items():
        i, j = ys.index(y), xs.index(x)
        mean = numbers["difference_mean"]
        if numbers["state"]:
            axes.text(j, i, numbers["state"], ha="center", va="center", fontsize=7, color=ALARM, wrap=True)
            continue
        if _includes_zero(numbers):
            axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=GREY, edgecolor="white"))
        else:
            values[i, j] = mean
        colour = "white" if abs(values[i, j]) > 0.6 * limit else INK  # NaN, a grey cell, is not above it
        axes.text(j, i, _cell_text(numbers), ha="center", va="center", fontsize=7.5, color=colour)
    edges = [np.arange(n + 1) - 0.5 for n in (len(xs), len(ys))]
    mesh = axes.pcolormesh(
        *edges, np.ma.masked_invalid(values), cmap="RdBu", vmin=-limit, vmax=limit, edgecolors="white", lw=1
    )
    axes.set_xticks(range(len(xs)), [f"{x:g}" for x in xs])
    axes.set_yticks(range(len(ys)), [f"{y:g}" for y in ys])
    axes.tick_params(length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(RULE)
    return mesh


def _ends(numbers: Mapping[str, Any]) -> tuple[float, float]:
    """Of the interval; of too few units for one, the least and the greatest difference."""
    names = ("least", "greatest") if math.isnan(numbers["difference_low"]) else ("low", "high")
    return numbers[f"difference_{names[0]}"], numbers[f"difference_{names[1]}"]


def _includes_zero(numbers: Mapping[str, Any]) -> bool:
    low, high = _ends(numbers)
    return low <= 0 <= high


def _cell_text(numbers: Mapping[str, Any]) -> str:
    """The mean difference and, below it, its interval, or the range of too few units for one."""
    mean = format_number(numbers["difference_mean"], sign=True)
    low, high = (format_number(end, sign=True) for end in _ends(numbers))
    if not math.isnan(numbers["difference_low"]):
        return f"{mean}\n[{low}, {high}]"
    return f"{mean}\n({low} to {high})" if numbers["pairs"] > 1 else mean
