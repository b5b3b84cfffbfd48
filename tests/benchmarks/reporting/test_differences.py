"""The figure of chosen rows: their differences to what they are compared with, in the order in which they are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks.__main__ import main
from benchmarks.records.suite_file import Comparison, Recorded, save
from benchmarks.reporting import report
from benchmarks.reporting.figures import chosen_rows, differences
from benchmarks.reporting.tables import format_table
from tests.helpers.records import HOSTILE, filled, small, stopped

LABELS = ("vanilla", "ogm_ge", "ogm")
SEEDS = 5
GAINS = (0.0, 0.10, -0.05)
ACCURACIES = [[0.7 + gain + 0.01 * seed * (1 + row) for seed in range(SEEDS)] for row, gain in enumerate(GAINS)]


def drawn(figure: Figure) -> tuple[list[str], list[float], list[tuple[float, float]], list[str]]:
    """Labels, means, spans and the texts beside them, from the top down."""
    (axes,) = figure.axes
    means = [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "o"]
    spans = [c.get_segments()[0][:, 0] for c in axes.collections if len(c.get_segments()) == 1]
    labels = [text.get_text() for text in axes.get_yticklabels()]
    return labels, means, [(float(a), float(b)) for a, b in spans], [text.get_text() for text in axes.texts]


def test_rows_are_found_by_label_or_method_in_the_order_of_the_names() -> None:
    suite = small(LABELS, seeds=SEEDS)
    table = format_table(suite.tables[0], filled(suite, ACCURACIES))
    assert chosen_rows(table, ["ogm", "ogm_ge", "ogm"]) == ["ogm", "ogm_ge"]
    assert chosen_rows(table, ["vanilla"]) == []  # compared with nothing


def test_difference_and_interval_stand_where_the_numbers_say() -> None:
    suite = small(LABELS, seeds=SEEDS)
    table = format_table(suite.tables[0], filled(suite, ACCURACIES))
    labels, means, spans, texts = drawn(differences(table, ["ogm", "ogm_ge"]).figure)
    assert labels == ["ogm", "ogm_ge"]
    assert means == pytest.approx([-1.0, 12.0])  # the gains, and 2 or 1 points per seed more, of seeds 0 to 4
    for span, mean, steps in zip(spans, means, (2.0, 1.0), strict=True):
        half = 2.7764 * np.std(steps * np.arange(SEEDS), ddof=1) / np.sqrt(SEEDS)  # t(.975, 4)
        assert span == pytest.approx((mean - half, mean + half), abs=1e-3)
    assert [text.split()[0] for text in texts] == ["\N{MINUS SIGN}1.0", "+12.0"]


def test_few_units_have_a_range_and_a_row_without_a_mean_says_why() -> None:
    suite = small(("vanilla", HOSTILE, "ogm"), seeds=3)
    records = filled(suite, [row[:3] for row in ACCURACIES])
    bad = suite.tables[0].rows[1].configs[1]
    records[bad.key] = stopped(bad, "diverged", "the loss is nan")
    table = format_table(suite.tables[0], records)
    labels, means, spans, texts = drawn(differences(table, [HOSTILE, "ogm"]).figure)
    assert labels == [HOSTILE, "ogm"] and "diverged" in texts[0]
    assert means == pytest.approx([-3.0]) and spans == [pytest.approx((-5.0, -1.0))]


def test_tables_draws_the_rows_that_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = small(LABELS, seeds=SEEDS)
    for made in filled(suite, ACCURACIES).values():
        made.save(tmp_path)
    save(tmp_path, Recorded(Comparison(given={}, methods=list(LABELS), seeds=SEEDS).made_from(), suite))
    assert main(["tables", str(tmp_path), "--rows", "ogm, ogm_ge"]) == 0
    assert (tmp_path / "figures" / "table2-synthav-differences.svg").exists()
    assert "differences of chosen settings" in (tmp_path / "README.md").read_text()
    capsys.readouterr()
    for names, says in (("oggm", "--rows: no row is called so"), ("vanilla", "--rows: of vanilla none is compared")):
        assert main(["tables", str(tmp_path), "--rows", names]) == 2
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1 and says in captured.err


def test_without_names_there_is_no_such_figure() -> None:
    suite = small(LABELS, seeds=SEEDS)
    assert not [name for name in dict(report.files(suite, filled(suite, ACCURACIES))) if "differences" in name]
