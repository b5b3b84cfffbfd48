"""Tables over splits of one data set: what their unit is, which interval and test they have, and what they lack."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pytest
from scipy import stats

from benchmarks.config.run_config import configure
from benchmarks.config.suite import Row, Table
from benchmarks.records.record import RunRecord
from benchmarks.reporting.frames import table_frame
from benchmarks.reporting.replication import overlap_ratio
from benchmarks.reporting.tables import FormattedTable, format_table
from tests.helpers.records import record

REPORT = {"train": {"listed": 80, "found": 80}, "val": {"listed": 10, "found": 10}, "test": {"listed": 20, "found": 20}}
GAINS = [0.05, 0.01, 0.09, 0.03, 0.07, 0.05]


def table(places: Sequence[dict[str, Any]], methods: Sequence[str] = ("vanilla", "ogm_ge")) -> Table:
    """The first method and others compared with it on AV-MNIST, a run for each of these options of the data."""
    rows = [
        Row(
            method,
            tuple(
                configure({"dataset": "avmnist", "method": method, "seed": seed, "dataset_args": place, "epochs": 4})
                for seed, place in enumerate(places)
            ),
            methods[0] if method != methods[0] else None,
        )
        for method in methods
    ]
    return Table("compare", "On splits", "avmnist", "AV-MNIST", tuple(rows), ranked=True)


def folds(count: int, pairings: int = 1) -> list[dict[str, Any]]:
    return [{"split": "speaker_folds", "fold": f, "pair_seed": p} for p in range(pairings) for f in range(count)]


def filled(asked: Table, gains: Sequence[float], report: dict[str, Any] = REPORT) -> dict[str, RunRecord]:
    """Runs of the first row with 70 %, of the others with as much more as this."""
    records = {}
    for row in asked.rows:
        for config, gain in zip(row.configs, gains, strict=True):
            made = record(config, 0.7 + (gain if row.against else 0))
            records[config.key] = dataclasses.replace(made, data={**made.data, "report": report})
    return records


def shown(made: FormattedTable) -> tuple[dict[str, str], dict[str, str]]:
    return made.cells.set_index("setting").loc["ogm_ge"].to_dict(), dict(made.notes)


def test_folds_have_the_corrected_interval_and_test_and_say_so() -> None:
    asked = table(folds(6))
    cells, notes = shown(format_table(asked, filled(asked, GAINS)))
    # mean 5, variance 8: t(.975, 5) x sqrt(8 x (1/6 + 20/80)) = 2.5706 x 1.8257 = 4.69
    assert cells["difference to vanilla"] == "+5.0 [+0.3, +9.7]"
    p = 2 * stats.t.sf(5 / math.sqrt(8 * (1 / 6 + 1 / 4)), 5)
    assert cells["p (Holm)"] == f"{p:.3f}" == "0.041" and cells["wins"] == "6/6"
    assert notes["Unit"].startswith("a split of one data set (fold); there are 6. They share samples to train on")
    assert "corrected resampled t over splits (Nadeau and Bengio 2003)" in notes["Difference"]
    assert "times 1/6 + 0.25, which is samples tested on" in notes["Difference"]
    assert "two-sided corrected resampled t-test over splits" in notes["Difference"]
    assert "sign-flip" not in str(notes) and "bootstrap" not in str(notes) and "[" not in cells["mean rank"]


def test_draws_of_the_data_keep_their_interval() -> None:
    places = [{"data_seed": s} for s in range(6)]
    asked = table([])
    rows = [
        dataclasses.replace(
            row, configs=tuple(configure({"method": row.label, "dataset_args": p, "epochs": 4}) for p in places)
        )
        for row in asked.rows
    ]
    asked = dataclasses.replace(asked, dataset="synthav", rows=tuple(rows))
    cells, notes = shown(format_table(asked, filled(asked, GAINS)))
    assert cells["difference to vanilla"] == "+5.0 [+2.0, +8.0]" and cells["p (Holm)"] == "0.031"
    assert notes["Unit"].startswith("a draw of the data (data_seed)") and "Nadeau" not in str(notes)


def test_recordings_are_counted_where_several_samples_share_one() -> None:
    """Ten images for each clip that is tested, one for each that trains: 500 of 2,000 recordings, not 5,000 pairs."""
    asked = table(folds(6))
    report = {
        "train": {"listed": 2000, "found": 2000},
        "test": {"listed": 5000, "found": 5000, "independent": 500},
    }
    assert overlap_ratio(asked.rows[0].configs, filled(asked, GAINS, report)) == 0.25


def test_pairings_of_one_fold_are_averaged() -> None:
    asked = table(folds(6, pairings=2))
    shifted = [*(g + 0.01 for g in GAINS), *(g - 0.01 for g in GAINS)]
    numbers = table_frame(asked, filled(asked, shifted)).set_index("row").loc["ogm_ge"]
    once = table_frame(table(folds(6)), filled(table(folds(6)), GAINS)).set_index("row").loc["ogm_ge"]
    assert (numbers["units"], numbers["pairs"]) == (6, 6)
    names = ["difference_mean", "difference_low", "difference_high", "p"]
    assert list(numbers[names]) == pytest.approx(list(once[names]))


def test_other_pairs_alone_are_one_unit() -> None:
    asked = table([{"pair_seed": s} for s in range(6)])
    cells, notes = shown(format_table(asked, filled(asked, GAINS)))
    assert cells["difference to vanilla"] == "+5.0 (+1.0 to +9.0)" and "p (Holm)" not in cells
    assert "there is one" in notes["Unit"]


def test_rows_with_other_pairs_are_not_compared() -> None:
    first, second = table(folds(6)).rows[0], table([{**p, "pair_seed": 1} for p in folds(6)]).rows[1]
    with pytest.raises(ValueError, match="do not share their seeds"):
        table_frame(dataclasses.replace(table(folds(6)), rows=(first, second)), {})


def test_too_few_folds_show_a_range() -> None:
    asked = table(folds(4))
    cells, notes = shown(format_table(asked, filled(asked, GAINS[:4])))
    assert cells["difference to vanilla"] == "+4.5 (+1.0 to +9.0)" and "p (Holm)" not in cells
    assert notes["Difference"].endswith(
        "No p-value: it takes at least 5 splits. No interval: it takes at least 5 units."
    )


def test_records_that_do_not_count_their_samples_get_no_interval() -> None:
    asked = table(folds(6))
    cells, notes = shown(format_table(asked, filled(asked, GAINS, {})))
    assert cells["difference to vanilla"] == "+5.0 (+1.0 to +9.0)" and "p (Holm)" not in cells
    assert "records do not say how many samples they trained and tested on" in notes["Difference"]


def test_repeated_folds_are_units_each() -> None:
    places = [{"path": "own.csv", "folds": 3, "fold": s % 3, "split_seed": s // 3} for s in range(6)]
    asked = table(folds(6))
    rows = [
        dataclasses.replace(
            row,
            configs=tuple(c.model_copy(update={"dataset_args": p}) for c, p in zip(row.configs, places, strict=True)),
        )
        for row in asked.rows
    ]
    asked = dataclasses.replace(asked, rows=tuple(rows))
    _, notes = shown(format_table(asked, filled(asked, GAINS)))
    assert "(fold, split_seed); there are 6" in notes["Unit"] and "times 1/6 + 0.25" in notes["Difference"]
