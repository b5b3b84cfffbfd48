"""The tables of a search, and what rows cost in passes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from benchmarks.config.run_config import ConfigError, configure
from benchmarks.config.suite import Trial
from benchmarks.runner.experiment import resolve
from benchmarks.tuning.passes import Passes, declared, passes_of, write_passes
from benchmarks.tuning.request import Tuning
from benchmarks.tuning.tables import after_search, before_search, with_epochs
from tests.helpers.records import record, stopped

ASKED = Tuning(given={"epochs": 10}, methods=["vanilla", "ume", "umt"], trials=3, seeds=2)
EQUAL = Passes({"vanilla": 40.0, "ume": 40.0, "umt": 40.0}, False)


def found(**numbers: int) -> dict[str, Trial]:
    """Row -> its trial of this number."""
    trials = before_search(ASKED).trials
    return {t.row: t for t in trials if numbers.get(t.row, 0) == t.number}


def test_before_the_search_tuned_rows_have_no_runs() -> None:
    suite = before_search(ASKED)
    main, gain = suite.tables
    assert [row.label for row in main.rows] == [
        "vanilla", "vanilla (tuned)", "ume", "ume (tuned)", "umt", "umt (tuned)"
    ]  # fmt: skip
    assert main.ranked and [len(row.configs) for row in main.rows] == [2, 0, 2, 0, 2, 0]
    assert len(suite.trials) == 9 and len(suite.configs()) == 9 * 2 + 3 * 2
    assert [row.against for row in gain.rows] == [None, "vanilla", None, "ume", None, "umt"]


def test_tuned_rows_have_fresh_units_and_the_best_settings() -> None:
    main = after_search(ASKED, found(vanilla=1, umt=2), EQUAL).tables[0]
    rows = {row.label: row for row in main.rows}
    tuned = rows["umt (tuned)"]
    best = found(umt=2)["umt"].configs[0]
    assert [(c.method_args, c.lr) for c in tuned.configs] == [(best.method_args, best.lr)] * 2
    assert [(c.seed, c.dataset_args["data_seed"]) for c in tuned.configs] == [(0, 0), (1, 1)]
    assert (rows["umt"].against, tuned.against, rows["vanilla (tuned)"].against) == (
        "vanilla", "vanilla (tuned)", None
    )  # fmt: skip
    assert rows["ume (tuned: its default)"].configs == rows["ume"].configs


def test_tuned_rows_are_compared_with_the_tuned_baseline_also_where_its_default_won() -> None:
    rows = {row.label: row for row in after_search(ASKED, found(umt=1), EQUAL).tables[0].rows}
    assert rows["umt (tuned)"].against == "vanilla (tuned: its default)"


def test_at_equal_passes_the_baseline_and_the_ensemble_train_longer() -> None:
    best = found(vanilla=1, umt=2)
    _, _, equal = after_search(ASKED, best, Passes({"vanilla": 40.0, "ume": 50.0, "umt": 100.0}, True)).tables
    rows = {row.label: row for row in equal.rows}
    longer = rows["vanilla (tuned), 25 epochs"]
    assert [c.lr for c in longer.configs] == [best["vanilla"].configs[0].lr] * 2
    assert list(rows) == [
        longer.label, "ume (tuned: its default), 20 epochs",
        "vanilla (tuned)", "ume (tuned: its default)", "umt (tuned)",
    ]  # fmt: skip
    assert {row.against for row in equal.rows} == {None, longer.label} and longer.against is None
    assert equal.title == "At the passes of umt, 2.5 x vanilla's"


def test_there_is_no_such_table_where_nothing_costs_more() -> None:
    assert len(after_search(ASKED, found(), EQUAL).tables) == 2
    assert len(after_search(ASKED, found(), Passes({"umt": 10.0}, False)).tables) == 2


def test_the_steps_of_the_learning_rate_stay_at_their_shares_of_the_run() -> None:
    longer = with_epochs(configure({"epochs": 20, "lr_steps": [10, 16]}), 2.5)
    assert (longer.epochs, longer.lr_steps) == (50, (25, 40))


@pytest.mark.parametrize(
    ("method", "options", "passes"),
    [
        ("vanilla", {}, 4),  # two encoders forward and backward
        ("unimodal", {"modality": "audio"}, 2),
        ("ume", {}, 4),  # two unimodal runs
        ("umt", {}, 10),  # two teachers, which run along in every step
        ("mmpareto", {}, 6),  # two backward passes
    ],
)
def test_passes_that_methods_state(method: str, options: dict[str, Any], passes: int) -> None:
    run = configure({"method": method, "epochs": 5, **{f"method_args.{k}": v for k, v in options.items()}})
    assert declared(resolve(run)) == 5 * passes


def test_counted_passes_are_believed_if_every_record_has_them() -> None:
    best = found()
    counts = {"encoder_forwards": 100.0, "encoder_backwards": 60.0}
    before = {f"{name}_before": 2 * x for name, x in counts.items()}
    records = {}
    for label, trial in best.items():
        for config in trial.configs:
            cost = {"seconds": 1.0, **counts, **(before if label == "umt" else {})}
            records[config.key] = record(config, cost=cost)
    assert passes_of(best, records) == Passes({"vanilla": 160.0, "ume": 160.0, "umt": 480.0}, True)
    key = best["ume"].configs[1].key
    records[key] = dataclasses.replace(records[key], cost={"seconds": 1.0})
    assert passes_of(best, records) == Passes({"vanilla": 40.0, "ume": 40.0, "umt": 100.0}, False)
    records[key] = stopped(best["ume"].configs[1], "failed", "for a reason")
    assert passes_of(best, records) == Passes({"vanilla": 160.0, "umt": 480.0}, True)


def test_passes_csv_says_what_rows_cost(tmp_path: Path) -> None:
    path = write_passes(Passes({"vanilla": 40.0, "umt": 100.0}, False), "vanilla", tmp_path)
    assert path.read_text().splitlines()[1:] == [
        'vanilla,40,1.000,"stated, per training sample"', 'umt,100,2.500,"stated, per training sample"'
    ]  # fmt: skip
    write_passes(Passes({"umt": 100.0}, True), "vanilla", tmp_path)
    assert path.read_text().splitlines()[1:] == ["umt,100,,counted"]


def test_a_searchs_folder_is_its_own() -> None:
    def folder(**more: Any) -> str:
        return str(Tuning(**{"given": {}, "methods": ["vanilla", "ogm"], **more}).folder())

    plain = folder()
    assert plain.startswith("results/tune/synthav-concat-") and plain == folder(seeds=9)
    others = [folder(trials=9), folder(units=3), folder(tuning_seed=1), folder(given={"lr": 0.1})]
    assert len({plain, *others}) == 5
    assert ASKED.made_from().keys() == {"tune"}


def test_mistakes_are_all_named() -> None:
    with pytest.raises(ConfigError, match="'ogm_gee' is not one of"):
        before_search(Tuning(given={}, methods=["vanilla", "ogm_gee"]))
