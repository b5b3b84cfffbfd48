"""Trials: what is tried, on which data, and which one wins."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.config import method_defaults
from benchmarks.config.method_defaults import METHODS
from benchmarks.config.run_config import RunConfig, configure
from benchmarks.config.search import Uniform
from benchmarks.config.suite import Row, Trial, compare
from benchmarks.config.units import sample_of
from benchmarks.records.record import RunRecord
from benchmarks.tuning.request import Tuning
from benchmarks.tuning.trials import on_unit, state, trials_of, winner, winners, write_trials
from tests.helpers.records import record, stopped


def asked(**more: Any) -> Tuning:
    return Tuning(**{"given": {}, "methods": ["vanilla"], **more})


def row(method: str, **given: Any) -> Row:
    return Row(method, (configure({"method": method, **given}),))


def test_trial_0_is_the_default_and_each_has_its_units() -> None:
    trials = trials_of(row("ogm_ge"), asked(trials=4, units=3))
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    default = configure({"method": "ogm_ge"})
    for trial in trials:
        assert [c.seed for c in trial.configs] == [c.dataset_args["data_seed"] for c in trial.configs]
        assert [c.seed for c in trial.configs] == [1000, 1001, 1002]
        assert len({(c.lr, str(c.method_args)) for c in trial.configs}) == 1
    assert (trials[0].configs[0].method_args, trials[0].configs[0].lr) == (default.method_args, default.lr)
    assert len({(t.configs[0].lr, t.configs[0].method_args["alpha"]) for t in trials}) == 4
    assert trials_of(row("ogm_ge"), asked(trials=9))[:4] == [
        replace(t, configs=t.configs[:2]) for t in trials
    ]  # more trials, or other units, change none


def test_every_run_is_one_that_the_command_line_can_name() -> None:
    for trial in trials_of(row("static_lr"), asked(trials=5)):
        for config in trial.configs:
            given = config.model_dump(mode="json", exclude={"files", "protocol"})
            assert configure(given).key == config.key


def test_what_is_given_is_not_searched_and_the_learning_rate_is_searched_around_it() -> None:
    given = {"method_args.lam": 0.9, "lr": 0.5}
    trials = trials_of(row("opm", **given), asked(given=given, trials=6))
    assert {t.configs[0].method_args["lam"] for t in trials} == {0.9}
    assert len({t.configs[0].method_args.get("q_base") for t in trials}) == 6
    assert all(0.125 <= t.configs[0].lr <= 2 for t in trials) and trials[0].configs[0].lr == 0.5


def test_no_default_for_one_modality_stays_in_a_trial() -> None:
    """SynthAV's default slows audio down; a trial names both modalities, so that nothing of this is merged into it."""
    assert configure({"method": "static_lr"}).method_args == {"factors": {"audio": 0.1}}
    factors = [t.configs[0].method_args["factors"] for t in trials_of(row("static_lr"), asked(trials=60))[1:]]
    slowed = [next(m for m, x in f.items() if x < 1) for f in factors if set(f) == {"audio", "visual"}]
    assert len(slowed) == 59 and 18 < slowed.count("audio") < 41


def test_a_default_that_names_a_modality_is_tried_and_does_not_compete() -> None:
    def competes(method: str, **given: Any) -> list[bool]:
        return [t.competes for t in trials_of(row(method, **given), asked(given=given, trials=3))]

    assert competes("static_lr") == competes("modality_dropout") == [False, True, True]
    assert competes("mslr", dataset="crema_d") == [False, True, True] and all(competes("mslr") + competes("ogm"))
    assert all(competes("kd_strong_to_weak", dataset="avmnist"))  # what kind of input a modality has is no advantage
    assert all(competes("static_lr", **{"method_args.factors": {"visual": 0.5}}))  # given, so for all trials


def test_an_option_more_moves_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    before = trials_of(row("ogm"), asked())
    default = METHODS["ogm"]
    more = method_defaults.Default(default.source, {}, default.per_dataset, {"end": Uniform(1, 9), **default.search})
    monkeypatch.setitem(METHODS, "ogm", more)
    for old, new in zip(before[1:], trials_of(row("ogm"), asked())[1:], strict=True):
        assert {**new.configs[0].method_args, "end": None} == {**old.configs[0].method_args, "end": None}
        assert new.configs[0].lr == old.configs[0].lr


def test_units_are_draws_of_the_data_or_training_seeds() -> None:
    drawn = on_unit(configure({}), {}, 1003)
    assert (drawn.seed, drawn.dataset_args["data_seed"]) == (1003, 1003)
    fixed = {"dataset_args": {"data_seed": 7}}
    one_draw = on_unit(configure(fixed), fixed, 1003)
    assert (one_draw.seed, one_draw.dataset_args["data_seed"]) == (1003, 7)
    without = on_unit(configure({"dataset": "crema_d"}), {}, 1003)
    assert without == configure({"dataset": "crema_d", "seed": 1003})


def test_units_are_splits_that_no_table_uses_where_the_data_can_be_split_anew() -> None:
    (row,) = compare({"dataset": "avmnist"}, ["vanilla"], 7).tables[0].rows
    split = on_unit(row.configs[0], {"dataset": "avmnist"}, 1003)
    assert (split.seed, split.dataset_args["fold"], split.dataset_args["pair_seed"]) == (1003, 1003 % 6, 1003 // 6)
    assert sample_of(split.dataset_args) not in {sample_of(c.dataset_args) for c in row.configs}
    chosen = {"dataset": "avmnist", "dataset_args": {"fold": 2}}
    assert on_unit(configure({**chosen, "dataset_args.split": "speaker_folds"}), chosen, 1003).dataset_args["fold"] == 2


# ---- judging


def config(number: int, unit: int) -> RunConfig:
    return configure({"method": "ogm", "method_args.alpha": (1 + number) / 10, "seed": 1000 + unit, "epochs": 4})


def tried(*values: tuple[float | str, ...]) -> tuple[list[Trial], dict[str, RunRecord]]:
    """Trials of one row, with the validation accuracy of each unit, or how its run ended."""
    trials, records = [], {}
    for number, of_units in enumerate(values):
        configs = tuple(config(number, unit) for unit in range(len(of_units)))
        trials.append(Trial("ogm", number, configs))
        for c, value in zip(configs, of_units, strict=True):
            if value == "missing":
                continue
            made = record(c)
            if isinstance(value, str):
                records[c.key] = stopped(c, value, "for a reason")
                continue
            curve = [0.0, 0.0, value, 0.0]
            data = {**made.data, "report": {"val": {"listed": 10, "found": 10}}}
            records[c.key] = record(c, curves={**made.curves, "val/accuracy": curve}, data=data)
    return trials, records


def test_the_best_of_those_that_compete_wins() -> None:
    trials, records = tried((0.9, 0.9), (0.5, 0.5), (0.6, 0.6))
    only = [replace(trials[0], competes=False), *trials[1:]]
    assert winner(only, records) == trials[2] and winner(only[:1], records) == only[0]


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ([(0.5, 0.5), (0.4, 0.7), (0.5, 0.5)], 1),
        ([(0.5, 0.6), (0.6, 0.5), (0.4, 0.7)], 0),  # ties go to the earlier one
        ([(0.1, 0.2, 0.3), (0.3, 0.2, 0.1), (0.2, 0.2, 0.2)], 0),  # whose sums as floats are not all equal
        ([(0.2, 0.2, 0.2), (0.1, 0.2, 0.3)], 0),
        ([(0.3, 0.3), (0.9, "diverged"), ("failed", 0.9), ("skipped", "skipped")], 0),
        ([("diverged", 0.9), (0.1, 0.1)], 1),
        ([("failed", "failed"), ("failed", "failed")], 0),
    ],
)
def test_the_best_mean_validation_accuracy_wins(values: list[tuple[float | str, ...]], best: int) -> None:
    trials, records = tried(*values)
    assert winner(trials, records) == trials[best]


def test_a_row_has_a_winner_when_all_its_trials_have_ended() -> None:
    trials, records = tried((0.5, 0.5), (0.6, "missing"))
    assert winners(trials, records) == {}
    trials, records = tried((0.5, 0.5), (0.6, "failed"))
    assert winners(trials, records) == {"ogm": trials[0]}


def test_trials_csv_shows_every_trial_and_how_it_ended(tmp_path: Path) -> None:
    trials, records = tried((0.5, 0.6), (0.7, "diverged"), ("missing", "skipped"))
    assert state(trials[2], records) == "missing 1/2, skipped 1/2: for a reason"
    path = write_trials(trials, records, tmp_path)
    lines = list(csv.DictReader(path.read_text().splitlines()))
    assert [line["chosen"] for line in lines] == ["", "", ""]  # a run is missing
    trials, records = tried((0.5, 0.6), (0.7, "diverged"), ("failed", "skipped"))
    lines = list(csv.DictReader(write_trials(trials, records, tmp_path).read_text().splitlines()))
    assert [(line["method"], line["trial"], line["val_accuracy"], line["chosen"]) for line in lines] == [
        ("ogm", "0", "0.550000", "yes"),
        ("ogm", "1", "", "no"),
        ("ogm", "2", "", "no"),
    ]
    assert [line["state"] for line in lines] == [
        "done",
        "diverged 1/2: for a reason",
        "failed 1/2, skipped 1/2: for a reason",
    ]
    assert lines[1]["options"] == '{"alpha":0.2}' and lines[0]["units"] == "data_seed=0,seed=1000 data_seed=0,seed=1001"
