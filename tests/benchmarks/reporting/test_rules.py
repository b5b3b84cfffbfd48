"""Rows that are read by another rule of prediction, and the intervals of accuracies over units."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.config.run_config import ConfigError
from benchmarks.config.suite import Suite, load
from benchmarks.records import suite_file
from benchmarks.records.record import RunRecord
from benchmarks.reporting.curves import curve_rows
from benchmarks.reporting.frames import table_frame
from benchmarks.reporting.tables import format_table
from tests.helpers.records import filled, small


def by_rules(seeds: int = 6) -> tuple[Suite, dict[str, RunRecord]]:
    """vanilla by its own rule and by the mean of probabilities, which is .05 better on every draw but the first."""
    suite = small(("vanilla", "averaged", "summed"), seeds)
    rows = suite.tables[0].rows
    read = [
        rows[0],
        dataclasses.replace(rows[1], configs=rows[0].configs, rule="prob_mean"),
        dataclasses.replace(rows[2], configs=rows[0].configs, rule="branch/audio"),
    ]
    suite = dataclasses.replace(suite, tables=(dataclasses.replace(suite.tables[0], rows=tuple(read)),))
    records = filled(small(("vanilla",), seeds), [[0.7 + 0.01 * s for s in range(seeds)]])
    for number, (key, made) in enumerate(records.items()):
        scores: Any = json.loads(json.dumps(made.scores))
        scores["test"]["prob_mean"]["accuracy"] += 0.05 * (number > 0)
        records[key] = dataclasses.replace(made, scores=scores)
    return suite, records


def test_a_rule_is_read_from_the_same_runs() -> None:
    suite, records = by_rules()
    frame = table_frame(suite.tables[0], records).set_index("row")
    own, averaged, branch = (frame.loc[label] for label in ("vanilla", "averaged", "summed"))
    assert averaged["val_best_mean"] == pytest.approx(own["val_best_mean"] + 5 * 5 / 6)
    assert averaged["difference_mean"] == pytest.approx(5 * 5 / 6) and (averaged["wins"], averaged["pairs"]) == (5, 6)
    assert branch["val_best_mean"] == pytest.approx(own["branch_audio_mean"])
    assert math.isnan(averaged["last_mean"]) and not math.isnan(own["last_mean"])  # logits are of the selected epoch
    formatted = format_table(suite.tables[0], records)
    assert "Rule" in dict(formatted.notes) and "No effect" not in dict(formatted.notes)
    assert [row.label for row in curve_rows(formatted, records)[0]] == ["vanilla"]


def test_a_rule_that_a_run_does_not_have_is_said() -> None:
    suite, records = by_rules()
    for key, made in records.items():
        scores = {split: {r: m for r, m in found.items() if r != "prob_mean"} for split, found in made.scores.items()}
        records[key] = dataclasses.replace(made, scores=scores)
    cells = format_table(suite.tables[0], records).cells.set_index("setting")
    assert cells.loc["averaged", "accuracy (by validation)"] == "no prediction by prob_mean"


@pytest.mark.parametrize(("units", "spans"), [(4, False), (5, True)])
def test_accuracies_have_an_interval_from_five_units_on(units: int, spans: bool) -> None:
    suite, records = by_rules(units)
    row = table_frame(suite.tables[0], records).iloc[0]
    assert math.isnan(row["val_best_low"]) == math.isnan(row["val_best_high"]) == (not spans)
    if spans:  # 2.776 is the quantile of Student's t with four degrees of freedom
        half = 2.776 * row["val_best_std"] / math.sqrt(5)
        assert row["val_best_high"] - row["val_best_mean"] == pytest.approx(half, rel=1e-3)
        assert row["val_best_mean"] - row["val_best_low"] == pytest.approx(half, rel=1e-3)


def test_rules_are_kept_in_the_folder(tmp_path: Path) -> None:
    suite, _ = by_rules()
    suite_file.save(tmp_path, suite_file.Recorded({"suite": {"name": "small", "quick": False}}, suite))
    made = suite_file.read(tmp_path)
    assert made is not None and [row.rule for row in made.suite.tables[0].rows] == ["own", "prob_mean", "branch/audio"]
    text = (tmp_path / "suite.json").read_text()
    assert text.count('"rule"') == 2  # the method's own is not written: other folders keep their bytes
    (tmp_path / "suite.json").write_text(text.replace('"prob_mean"', '"prob_men"'))
    with pytest.raises(ConfigError, match="rule"):
        suite_file.read(tmp_path)


def test_what_training_does_and_what_the_rule_does_share_their_runs() -> None:
    tables = {table.name: table for table in load("synthav").tables}
    runs = [{c.key for row in tables[name].rows for c in row.configs} for name in ("rules", "training")]
    assert runs[0] == runs[1] and len(runs[0]) == 6 * 16
    assert len(tables["rules"].rows) == 6 * 3 - 1  # encoders trained apart have no fused logits
