"""Tables to pictures: accuracies and ranks, and the style of all figures. The same records give the same bytes."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.reporting.frames import SELECTION
from benchmarks.reporting.tables import ACCURACY, BRANCH_AND_PROBE, FormattedTable

# Okabe and Ito's palette, told apart by colour-blind eyes; shapes and dashes say the same once more.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "^", "s", "D", "v", "P")
DASHES = ("-", "--", "-.", (0, (2, 1)), (0, (5, 1, 1, 1, 1, 1)), ":")
LETTERS_PER_INCH = 13  # of a title, wide letters counted
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


class Picture(NamedTuple):
    """A figure with what stands below it.

    Args:
        kind: The end of its file's name.
        name: What it shows, in a few words.
        caption: What a reader needs to read it, in sentences.
        figure: The figure.
    """

    kind: str
    name: str
    caption: str
    figure: Figure


def render(figure: Figure, kind: str) -> bytes:
    """An svg, pdf or png without a date."""
    stamp = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    file = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, format=kind, metadata=stamp, dpi=150)
    return file.getvalue()


@matplotlib.rc_context(STYLE)
def accuracies(table: FormattedTable) -> Picture:
    """Accuracy with its interval, or std over few runs; each modality's branch (open) and probe (filled)."""
    rows = table.numbers
    y = np.arange(len(rows))
    figure, axes = _one_line_each(table.title, rows["row"], height=1.4 + 0.3 * len(rows))
    look: dict[str, Any] = {"marker": "o", "color": INK, "ms": 6}
    mean, std, low, high = (rows[f"{SELECTION}_{part}"] for part in ("mean", "std", "low", "high"))
    spans = bool(low.notna().any())
    bars = np.stack([mean - low, high - mean]) if spans else np.stack([std, std])
    axes.errorbar(mean, y, xerr=bars, ls="", capsize=2.5, lw=1.2, **look)
    meaning = "95 % interval over units" if spans else "± std over runs"
    handles = [Line2D([], [], ls="", label=f"accuracy, {meaning}", **look)]
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
    columns = math.ceil(len(handles) / math.ceil(len(handles) / 4))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    caption = "Test accuracy of each setting, of the epoch with the best validation accuracy."
    caption += f" Of the modalities' marks: {BRANCH_AND_PROBE}" if names else ""
    return Picture("accuracies", "accuracies", caption, figure)


@matplotlib.rc_context(STYLE)
def ranks(table: FormattedTable) -> Picture:
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
    caption = "Rank by test accuracy, averaged over the draws of the data; 1 is the best."
    if (rows["group"] != "").any():
        caption += " Settings that share a letter, on the right, cannot be told apart."
    return Picture("ranks", "mean ranks", caption, figure)


def chosen_rows(table: FormattedTable, chosen: Sequence[str]) -> list[str]:
    """The labels of the rows that are called by a chosen name or use a method of that id, in the order of the names.

    Args:
        table: The table.
        chosen: Labels of its rows, or ids of methods.

    Returns:
        The labels of those that are compared with another row; empty if there are none.
    """
    rows = [row for row in table.table.rows if row.against is not None]
    asked = [
        row.label for name in chosen for row in rows if name == row.label or name in {c.method for c in row.configs[:1]}
    ]
    return list(dict.fromkeys(asked))


@matplotlib.rc_context(STYLE)
def differences(table: FormattedTable, labels: Sequence[str]) -> Picture:
    """The difference of some rows to what they are compared with, in the order given.

    Args:
        table: The table.
        labels: The labels of rows of it that are compared with another row, as ``chosen_rows`` returns them.
    """
    rows = table.numbers.set_index("row").loc[list(labels)]
    bases = list(dict.fromkeys(rows["against"]))
    names = (
        labels if len(bases) == 1 else [f"{x} \N{MINUS SIGN} {y}" for x, y in zip(labels, rows["against"], strict=True)]
    )
    figure, axes = _one_line_each(table.title, names, height=1.2 + 0.3 * len(labels))
    exact = rows["difference_low"].notna()
    low = rows["difference_low"].where(exact, rows["difference_least"])
    high = rows["difference_high"].where(exact, rows["difference_greatest"])
    cells = table.cells.set_index("setting")
    column = next((c for c in cells if c.startswith("difference")), None)
    for i, label in enumerate(labels):
        mean = rows["difference_mean"].iloc[i]
        if math.isnan(mean):
            words = textwrap.shorten(str(rows["state"].iloc[i]) or "no difference yet", 70)
            axes.text(0.01, i, words, va="center", color=ALARM, style="italic", transform=axes.get_yaxis_transform())
            continue
        axes.hlines(i, low.iloc[i], high.iloc[i], color=INK, lw=1.2, ls="-" if exact.iloc[i] else ":")
        axes.plot(mean, i, ls="", marker="o", color=INK, ms=6, mfc=INK if exact.iloc[i] else "white")
        shown = str(cells.loc[label, column]) if column else f"{mean:+.1f}"
        axes.text(1.01, i, shown, va="center", transform=axes.get_yaxis_transform())
    axes.axvline(0, color=INK, lw=0.8, ls=":", zorder=0.5)
    axes.margins(x=0.05)
    axes.set_xlabel(f"difference to {bases[0] if len(bases) == 1 else 'the other row'} (points of test accuracy)")
    caption = (
        "Test accuracy, of the epoch with the best validation accuracy, minus that of the row that it is compared "
        "with, paired by unit. Filled, solid: mean and 95 % interval over units. Open, dotted: mean and range, where "
        "the units are too few for an interval. Settings and order were chosen."
    )
    return Picture("differences", "differences of chosen settings", caption, figure)


def _one_line_each(title: str, labels: Sequence[str], height: float) -> tuple[Figure, Axes]:
    """A figure with a labelled line for each row of a table, the first at the top: row i is at y = i."""
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.subplots()
    y = np.arange(len(labels))
    axes.hlines(y, 0, 1, transform=axes.get_yaxis_transform(), color=RULE, lw=0.7, zorder=0)
    axes.set_yticks(y, labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    set_title(figure, title)
    return figure, axes


def set_title(figure: Figure, title: str) -> None:
    """A title from the figure's left edge on, in as many lines as its width makes of it."""
    letters = int(figure.get_figwidth() * LETTERS_PER_INCH)
    figure.suptitle("\n".join(textwrap.wrap(title, letters)), x=0.01, ha="left", fontsize=10)


def _marker(i: int, *, filled: bool) -> dict[str, Any]:
    colour = COLOURS[i % len(COLOURS)]
    shape = MARKERS[i % len(MARKERS)]
    return {"marker": shape, "color": colour, "mfc": colour if filled else "white", "ms": 5, "mew": 1.2}
