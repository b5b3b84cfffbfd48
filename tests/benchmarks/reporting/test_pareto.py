"""Accuracy against passes: what the records counted, in the table, in runs.csv and in the figure."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from matplotlib.text import Annotation

from benchmarks.config.suite import Suite
from benchmarks.records.passes import passes
from benchmarks.records.record import RunRecord
from benchmarks.reporting import report
from benchmarks.reporting.figures import COLOURS
from benchmarks.reporting.pareto import on_front, pareto
from benchmarks.reporting.runs import runs_frame
from benchmarks.reporting.tables import format_table, to_latex
from tests.helpers.records import filled, small

LABELS = ("vanilla", "ogm_ge", "ogm")
ACCURACIES = (0.70, 0.80, 0.75)
COUNTS = {  # forwards, backwards, and those before
    "vanilla": (100, 100, 0, 0),
    "ogm_ge": (200, 100, 60, 40),  # twice as many in all
    "ogm": (300, 300, 0, 0),
}


def counted(seeds: int = 5) -> tuple[Suite, dict[str, RunRecord]]:
    suite = small(LABELS, seeds=seeds)
    suite = dataclasses.replace(suite, tables=(dataclasses.replace(suite.tables[0], ranked=True),))
    records = filled(suite, [[a + 0.01 * s for s in range(seeds)] for a in ACCURACIES])
    for row in suite.tables[0].rows:
        names = ("encoder_forwards", "encoder_backwards", "encoder_forwards_before", "encoder_backwards_before")
        for config in row.configs:
            made = records[config.key]
            cost = {**made.cost, **dict(zip(names, map(float, COUNTS[row.label]), strict=True))}
            records[config.key] = dataclasses.replace(made, cost=cost)
    return suite, records


def test_passes_are_in_the_table_and_in_runs_csv() -> None:
    suite, records = counted()
    made = format_table(suite.tables[0], records)
    assert dict(zip(made.cells["setting"], made.cells["passes"], strict=True)) == {
        "vanilla": "1.0\N{MULTIPLICATION SIGN}",
        "ogm_ge": "2.0\N{MULTIPLICATION SIGN}",
        "ogm": "3.0\N{MULTIPLICATION SIGN}",
    }
    assert "samples that encoders encoded and differentiated" in dict(made.notes)["Passes"]
    assert r"2.0$\times$" in to_latex(made)
    frame = runs_frame(list(records.values()))
    assert dict(zip(frame["method"], frame["passes"], strict=True)) == {"vanilla": 200, "ogm_ge": 400, "ogm": 600}


def test_records_without_counts_have_no_such_figure_and_no_such_words() -> None:
    suite, records = counted()
    key = suite.tables[0].rows[2].configs[0].key
    records[key] = dataclasses.replace(records[key], cost={"seconds": 1.0})
    assert passes(records[key]) is None
    made = dict(report.files(suite, records))
    assert not [name for name in made if "passes" in name]
    for name in ("README.md", "report.html", "tables/table2-synthav.md"):
        text = re.sub(rb"<script.*?</script>", b"", made[name], flags=re.DOTALL)  # the page's program knows the word
        assert b"passes" not in text.lower()
    assert runs_frame(list(records.values()))["passes"].isna().sum() == 3  # one for each selection


def test_a_table_that_is_not_ranked_has_no_passes() -> None:
    suite, records = counted()
    plain = dataclasses.replace(suite.tables[0], ranked=False)
    assert "passes" not in format_table(plain, records).cells


def test_points_stand_at_passes_and_accuracy_and_the_front_is_filled() -> None:
    suite, records = counted()
    picture = pareto(format_table(suite.tables[0], records), records)
    axes, legend = picture.figure.axes
    others, front, steps = axes.lines[:3]
    assert list(others.get_xdata()) == [3] and list(others.get_ydata()) == pytest.approx([76])  # seeds 0 to 4, less 1
    assert sorted(front.get_xdata()) == [1, 2] and front.get_color() == COLOURS[1]
    assert list(steps.get_xdata()) == [1, 2] and list(steps.get_ydata()) == pytest.approx([71, 81])
    segments = [s for c in axes.collections for s in c.get_segments()]
    assert len(segments) == 3 and "95 % intervals" in picture.caption
    half = 2.7764 * np.std([0, 1, 2, 3, 4], ddof=1) / np.sqrt(5)  # t(.975, 4)
    assert np.ptp(segments[0][:, 1]) == pytest.approx(2 * half, rel=1e-3)
    words = [text.get_text() for text in legend.texts]
    assert words == [
        *("1", "ogm_ge: On-the-fly Gradient Modulation with Generalization Enhancement"),
        *("2", "ogm: On-the-fly Gradient Modulation"),
        *("3", "vanilla: Joint training without balancing"),
    ]


def test_few_units_have_no_intervals() -> None:
    suite, records = counted(seeds=2)
    picture = pareto(format_table(suite.tables[0], records), records)
    assert not picture.figure.axes[0].collections and "interval" not in picture.caption


def test_rows_without_a_mean_are_named() -> None:
    """Only the baseline is done."""
    suite, records = counted()
    for row in suite.tables[0].rows[1:]:
        del records[row.configs[0].key]
    picture = pareto(format_table(suite.tables[0], records), records)
    assert [text.get_text() for text in picture.figure.axes[0].texts] == ["1"]
    assert "without a mean: ogm_ge, ogm." in picture.caption


def test_numbers_do_not_cover_each_other() -> None:
    """All three at the same place."""
    suite, records = counted()
    table = format_table(suite.tables[0], records)
    table.numbers["passes"] = 1.0
    table.numbers["val_best_mean"] = 80.0
    axes = pareto(table, records).figure.axes[0]
    places = [text.xyann for text in axes.texts if isinstance(text, Annotation)]
    assert len(places) == 3
    apart = [np.abs(np.subtract(a, b)) for i, a in enumerate(places) for b in places[:i]]
    assert all(dx >= 5 or dy >= 8 for dx, dy in apart)  # a digit's width and height, in points of 1/72 inch


def test_the_front_has_what_no_other_beats() -> None:
    assert on_front([1, 1, 2, 3, 3], [70, 80, 75, 85, 85]) == [False, True, False, True, True]
