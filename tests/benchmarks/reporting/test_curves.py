"""Curves: means over the runs, of all rows of a table while they can be told apart, or of those that are chosen."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from benchmarks.config.run_config import ConfigError, configure
from benchmarks.config.suite import Row, Suite, Table
from benchmarks.records.record import RunRecord
from benchmarks.records.suite_file import Comparison, Recorded, save
from benchmarks.reporting.curves import MOST, check_chosen, curve_rows, curves
from benchmarks.reporting.tables import format_table
from tests.helpers.commands import run_here
from tests.helpers.records import filled, record, small

ACCURACIES = [[0.80, 0.82, 0.78], [0.85, 0.83, 0.87]]


def many(count: int) -> tuple[Suite, dict[str, RunRecord]]:
    """Vanilla and settings of ogm, the second half of them above it."""
    rows = [Row("vanilla", (configure({"epochs": 4}),))]
    for i in range(1, count):
        settings = {"epochs": 4, "method": "ogm", "method_args.alpha": i / count}
        rows.append(Row(f"ogm {i}", (configure(settings),), "vanilla"))
    accuracies = [0.7] + [0.5 + 0.4 * i / count for i in range(1, count)]
    records = {row.configs[0].key: record(row.configs[0], a) for row, a in zip(rows, accuracies, strict=True)}
    return Suite("many", "Many", (Table("many", "Many", "synthav", "SynthAV", tuple(rows)),)), records


def shown(suite: Suite, records: dict[str, RunRecord], *chosen: str) -> tuple[list[str], str]:
    rows, words = curve_rows(format_table(suite.tables[0], records), records, chosen)
    return [row.label for row in rows], words


def test_curves_are_means_over_runs() -> None:
    suite = small()
    records = filled(suite, ACCURACIES)
    made = curves(format_table(suite.tables[0], records), records).figure
    assert [axes.get_title(loc="left") for axes in made.axes] == [
        "fused accuracy (%)",
        "audio branch accuracy (%)",
        "visual branch accuracy (%)",
        "discrepancy ratio, audio",
    ]
    fused = made.axes[0].lines
    assert list(fused[0].get_xdata()) == [1, 2, 3, 4]
    assert list(fused[0].get_ydata()) == pytest.approx([20, 82, 79, 80])  # the best on test, then on validation
    assert list(fused[1].get_ydata()) == pytest.approx([21.25, 87, 84, 85])
    band = made.axes[0].collections[1].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((21.25 - 0.5, 87 + 2))


def test_curves_with_gaps_are_drawn() -> None:
    suite = small(seeds=1)
    records = {
        key: dataclasses.replace(r, curves={"test/accuracy": [0.1, None, 0.3, 0.4]})
        for key, r in filled(suite, [[0.8], [0.8]]).items()
    }
    made = curves(format_table(suite.tables[0], records), records).figure
    assert len(made.axes) == 1
    assert np.isnan(made.axes[0].lines[0].get_ydata()[1])


def test_all_rows_are_shown_while_they_can_be_told_apart() -> None:
    suite, records = many(MOST)
    assert len(shown(suite, records)[0]) == MOST
    lines = curves(format_table(suite.tables[0], records), records).figure.axes[0].lines
    assert len({(line.get_color(), str(line._dash_pattern)) for line in lines}) == MOST


def test_of_more_the_best_the_baseline_and_the_worst_are_shown() -> None:
    suite, records = many(MOST + 1)
    labels, words = shown(suite, records)
    assert labels == ["vanilla", "ogm 1", f"ogm {MOST}"]
    assert words.startswith(f"Of {MOST + 1} settings the best, the worst and what they are compared with")
    picture = curves(format_table(suite.tables[0], records), records)
    assert picture.caption.startswith(words)
    assert "A branch is a modality's own part" in picture.caption


def test_chosen_rows_are_shown_by_label_or_method() -> None:
    suite, records = many(MOST + 2)
    assert shown(suite, records, "ogm 3", "vanilla")[0] == ["vanilla", "ogm 3"]
    with pytest.raises(ConfigError, match=f"--curves: {MOST + 1} rows .* can show {MOST}"):
        shown(suite, records, "ogm")
    with pytest.raises(ConfigError, match="did you mean 'vanilla'"):
        check_chosen(suite.tables, ["vanila"])


def test_a_row_that_is_not_trained_over_epochs_has_no_curve() -> None:
    suite = small()
    records = filled(suite, ACCURACIES)
    for config in suite.tables[0].rows[1].configs:
        once = {name: curve[:1] for name, curve in records[config.key].curves.items()}
        records[config.key] = dataclasses.replace(records[config.key], curves=once)
    assert shown(suite, records) == (["vanilla"], "Not trained over epochs: ogm_ge.")


def test_the_command_takes_the_names(tmp_path: Path) -> None:
    suite = small()
    for made in filled(suite, ACCURACIES).values():
        made.save(tmp_path)
    save(tmp_path, Recorded(Comparison(given={}, methods=["vanilla", "ogm_ge"], seeds=3).made_from(), suite))
    words = ["python", "-m", "benchmarks", "tables", str(tmp_path), "--curves"]
    refused = run_here([*words, "ogm_gee"])
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and "did you mean 'ogm_ge'" in refused.stderr
    assert not (tmp_path / "README.md").exists()
    assert run_here([*words, "ogm_ge"]).returncode == 0
    assert "1 of 2 settings, as chosen." in (tmp_path / "README.md").read_text()
