"""Repeated grouped splits: no group on two sides, balanced, the same whatever the order, and refused in one line."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from datasets.core.errors import DataError, LabelError
from datasets.core.grouped_splits import FoldOptions, GroupedSplit, grouped_parts, grouped_split, resplit_options

Samples = list[tuple[str, str]]  # label, group


def speakers(count: int = 40, classes: int = 4) -> Samples:
    """Speakers with 15 to 29 samples of random classes."""
    draw = random.Random(0)
    return [(f"c{draw.randrange(classes)}", f"s{s}") for s in range(count) for _ in range(15 + draw.randrange(15))]


def split(samples: Samples, folds: int, fold: int = 0, split_seed: int = 0) -> GroupedSplit:
    labels, groups = [label for label, _ in samples], [group for _, group in samples]
    return grouped_split(labels, groups, FoldOptions(folds=folds, fold=fold, split_seed=split_seed))


def sides(samples: Samples, found: GroupedSplit) -> dict[str, Samples]:
    return {name: sorted(samples[i] for i in getattr(found, name)) for name in ("train", "val", "test")}


@pytest.mark.parametrize("split_seed", [0, 1])
def test_each_sample_is_tested_once_and_no_group_is_on_two_sides(split_seed: int) -> None:
    samples = speakers()
    tested: list[int] = []
    for fold in range(5):
        found = split(samples, 5, fold, split_seed)
        assert sorted(found.train + found.val + found.test) == list(range(len(samples)))
        groups = [{samples[i][1] for i in part} for part in (found.train, found.val, found.test)]
        assert sum(map(len, groups)) == len(set.union(*groups)) == 40
        assert len(found.val) == pytest.approx(0.08 * len(samples), rel=0.4)
        tested += found.test
    assert sorted(tested) == list(range(len(samples)))


def test_folds_have_like_sizes_and_like_shares_of_the_classes() -> None:
    samples = speakers()
    all_of = Counter(label for label, _ in samples)
    for seed in range(3):
        for fold in range(5):
            test = split(samples, 5, fold, seed).test
            assert len(test) == pytest.approx(len(samples) / 5, rel=0.1)
            found = Counter(samples[i][0] for i in test)
            assert all(found[c] == pytest.approx(n / 5, rel=0.25) for c, n in all_of.items())


def test_groups_of_one_class_are_stratified() -> None:
    samples = [(f"c{g % 3}", f"g{g}") for g in range(30)]
    for fold in range(5):
        assert Counter(samples[i][0] for i in split(samples, 5, fold).test) == {"c0": 2, "c1": 2, "c2": 2}


def test_the_order_of_the_samples_does_not_matter() -> None:
    samples = speakers()
    shuffled = random.Random(1).sample(samples, len(samples))
    for fold in range(5):
        assert sides(samples, split(samples, 5, fold, 3)) == sides(shuffled, split(shuffled, 5, fold, 3))


def test_another_seed_divides_anew() -> None:
    """Two groups that share a fold share one of the next seed in a fifth of cases: no more than chance."""
    samples = speakers(classes=2)
    labels, groups = [label for label, _ in samples], [group for _, group in samples]
    names = sorted(set(groups))
    together = []
    for seed in range(6):
        part = dict(zip(groups, grouped_parts(labels, groups, 5, str(seed)), strict=True))
        together.append({(a, b) for a in names for b in names if a < b and part[a] == part[b]})
    again = [len(a & b) / len(a) for a, b in itertools.pairwise(together)]
    assert sum(again) / len(again) == pytest.approx(0.2, abs=0.06)


def test_a_split_is_pinned() -> None:
    """A change of the rule changes every number made on such splits: it shows here first."""
    samples = [(f"c{g % 2}", f"g{g}") for g in range(10) for _ in range(1 + g % 3)]
    found = split(samples, 5, 1, 2)
    groups = {name: sorted({g for _, g in part}) for name, part in sides(samples, found).items()}
    assert groups == {"train": ["g0", "g1", "g3", "g4", "g6", "g7", "g9"], "val": ["g2"], "test": ["g5", "g8"]}


def test_few_groups_leave_one_to_validate() -> None:
    samples = [(c, f"s{s}") for s in range(3) for c in "ab"]
    found = split(samples, 3)
    assert [len(part) for part in (found.train, found.val, found.test)] == [2, 2, 2]


WRONG = [
    ([("a", f"g{g}") for g in range(4)], 5, DataError, "4 groups, but folds=5 takes at least 5; make folds smaller"),
    ([("a", f"g{g}") for g in range(2)], 2, DataError, "2 groups, but folds=2 takes at least 3"),
    ([("a", "g0"), ("b", "g0"), *[("a", f"g{g}") for g in range(1, 9)]], 3, LabelError, "no sample of b left to train"),
]


@pytest.mark.parametrize(("samples", "folds", "kind", "says"), WRONG)
def test_what_cannot_be_split_is_one_line(samples: Samples, folds: int, kind: type[DataError], says: str) -> None:
    with pytest.raises(kind, match=says) as error:
        for fold in range(folds):
            split(samples, folds, fold)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"fold": 1}, "fold and split_seed belong to folds=NUMBER"),
        ({"split_seed": 1}, "fold and split_seed belong to folds=NUMBER"),
        ({"folds": 5, "fold": 5}, "fold=5: with folds=5 there are 0 to 4"),
        ({"folds": 1}, "greater than or equal to 2"),
    ],
)
def test_options_that_do_not_fit_are_refused(args: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        FoldOptions(**args)


def test_a_series_of_splits_takes_all_folds_and_then_the_next_seed() -> None:
    series = [resplit_options({"folds": 3}, 3, number) for number in range(4)]
    assert [(s["fold"], s["split_seed"]) for s in series] == [(0, 0), (1, 0), (2, 0), (0, 1)]
    assert resplit_options({"folds": 3, "fold": 1}, 3, 2) == {}
