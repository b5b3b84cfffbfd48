"""What counts as a unit of replication, and the units that a comparison takes by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.config.suite import compare
from benchmarks.config.units import name_of_data, overlapping, sample_of, unit_of


def test_draws_and_splits_are_units_and_pairings_are_not() -> None:
    assert unit_of({"data_seed": 3, "preset": "default"}) == (("data_seed", 3),)
    assert unit_of({"split_seed": 1, "fold": 2, "folds": 5}) == (("fold", 2), ("split_seed", 1))
    assert unit_of({"pair_seed": 1, "fold": 2}) == (("fold", 2),)
    assert sample_of({"pair_seed": 1, "fold": 2}) == (("fold", 2), ("pair_seed", 1))
    assert unit_of({}) == ()


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([{}], False),
        ([{"data_seed": s} for s in range(3)], False),
        ([{"fold": f} for f in range(3)], True),
        ([{"fold": 1}, {"fold": 1}], False),  # one unit
        ([{"data_seed": s, "fold": s} for s in range(3)], False),
        ([{"data_seed": s // 2, "fold": s % 2} for s in range(4)], True),
    ],
)
def test_splits_of_one_draw_overlap(places: list[dict[str, Any]], expected: bool) -> None:
    assert overlapping([unit_of(place) for place in places]) is expected


def test_data_are_named_by_what_is_not_their_usual_option() -> None:
    assert name_of_data("synthav", {"preset": "default", "data_seed": 3}) == "synthav"
    assert name_of_data("synthav", {"preset": "additive", "data_seed": 3}) == "synthav preset=additive"
    assert name_of_data("grid", {"fold": 1, "folds": 5, "noise_db": -5}) == "grid noise_db=-5"
    assert name_of_data("somebodys", {"path": "a.csv"}) == "somebodys path=a.csv"
    assert compare({"dataset_args.preset": "additive"}, ["vanilla"], 1).title.endswith("on synthav preset=additive")


def places(given: dict[str, Any], seeds: int) -> list[dict[str, Any]]:
    """The options of the data in each run, the same in every row."""
    rows = compare(given, ["vanilla", "ogm_ge"], seeds).tables[0].rows
    found = [[config.dataset_args for config in row.configs] for row in rows]
    assert found[0] == found[1] and [c.seed for c in rows[0].configs] == list(range(seeds))
    return found[0]


def test_a_comparison_draws_or_splits_the_data_anew_for_each_seed(tmp_path: Path) -> None:
    assert [p["data_seed"] for p in places({}, 3)] == [0, 1, 2]
    speakers = places({"dataset": "avmnist"}, 7)
    assert [(p["split"], p["fold"], p["pair_seed"]) for p in speakers[5:]] == [
        ("speaker_folds", 5, 0),
        ("speaker_folds", 0, 1),
    ]
    (tmp_path / "own.csv").write_text("id,group,label,a:npy,b:npy\n")
    own = {"dataset": "manifest", "dataset_args": {"path": str(tmp_path / "own.csv"), "folds": 3}}
    assert [(p["fold"], p["split_seed"]) for p in places(own, 4)] == [(0, 0), (1, 0), (2, 0), (0, 1)]


@pytest.mark.parametrize(
    "given",
    [
        {"dataset_args.data_seed": 4},
        {"dataset": "avmnist", "dataset_args.split": "takes"},
        {"dataset": "avmnist", "dataset_args": {"split": "speaker_folds", "fold": 2}},
        {"dataset": "crema_d"},
    ],
    ids=str,
)
def test_data_that_are_chosen_stay_the_same(given: dict[str, Any]) -> None:
    first, *others = places(given, 3)
    assert all(other == first for other in others)
