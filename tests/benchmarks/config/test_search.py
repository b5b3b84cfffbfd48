"""Search spaces: every method has one that its constructor accepts, and none knows which modality is strong."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from benchmarks.config.method_defaults import METHODS, search_space
from benchmarks.config.search import (
    LR_FACTOR,
    Choice,
    EachModality,
    LogUniform,
    OneModality,
    Uniform,
    draw,
    draw_lr,
    stream,
)
from benchmarks.config.suite import competing
from benchmarks.runner.experiment import option_mistakes
from datasets.registry import DATASETS
from ogm.registry import STRATEGIES, find

WITHOUT_OPTIONS = {
    "vanilla",
    "unimodal",
    "unimodal_pretrain_finetune",
    "ge_noise",
    "tcmax",
}  # but for scopes and windows
COMPETING = [name for name in competing(["all"]) if name in STRATEGIES]
THREE = ("audio", "text", "visual")


def test_every_method_that_competes_has_a_space() -> None:
    assert len(COMPETING) == 38 + 15
    assert {name for name in COMPETING if not search_space(name)} == WITHOUT_OPTIONS
    assert set(METHODS) <= set(STRATEGIES)


@pytest.mark.parametrize("name", COMPETING)
def test_the_constructor_accepts_what_a_space_draws(name: str) -> None:
    cls = find(name, STRATEGIES, "strategy")
    required = {"modality": "audio"} if name == "unimodal" else {}
    for number in range(40):
        for modalities in (("audio", "visual"), THREE):
            options = draw(search_space(name), modalities, "test", name, number)
            assert option_mistakes(cls, {**required, **options}, "method_args") == [], options


def test_no_space_names_a_modality() -> None:
    names = {m for dataset in DATASETS for m in find(dataset, DATASETS, "dataset").modalities}
    assert {"audio", "visual", "text"} <= names
    for method in COMPETING:
        space = search_space(method)
        assert not {"modality", "strong"} & space.keys()
        assert not [m for m in names if re.search(rf"(?<![a-z]){m}(?![a-z])", repr(space))], method


def test_what_belongs_to_one_modality_is_drawn_for_each_alike() -> None:
    generator = stream("alike")
    one = OneModality(LogUniform(0.03, 0.9), others=1.0)
    drawn = [one.sample(generator, THREE) for _ in range(3000)]
    assert all(d.keys() == set(THREE) and sum(x != 1.0 for x in d.values()) == 1 for d in drawn)
    chosen = Counter(m for d in drawn for m, x in d.items() if x != 1.0)
    assert all(abs(count - 1000) < 120 for count in chosen.values())  # 4.6 standard deviations
    each = [EachModality(Choice((0.0, 0.5))).sample(generator, THREE) for _ in range(3000)]
    halves = Counter(m for d in each for m, x in d.items() if x)
    assert all(abs(halves[m] - 1500) < 130 for m in THREE)
    assert one.sample(stream("order"), THREE) == one.sample(stream("order"), THREE[::-1])


@pytest.mark.parametrize("of", [Uniform(0.5, 2.0), LogUniform(0.5, 2.0)])
def test_numbers_fill_their_range(of: Uniform | LogUniform) -> None:
    generator = stream("range", str(of))
    drawn = np.array([of.sample(generator, ()) for _ in range(4000)])
    assert drawn.min() >= 0.5 and drawn.max() <= 2.0
    middle = 1.0 if isinstance(of, LogUniform) else 1.25
    assert abs(np.mean(drawn < middle) - 0.5) < 0.04
    assert all(float(f"{x:.4g}") == x for x in drawn)


def test_the_learning_rate_is_the_recipes_times_a_power_of_two() -> None:
    assert (LR_FACTOR.low, LR_FACTOR.high) == (2**-2, 2**2)
    rates = [draw_lr(0.01, "test", number) for number in range(500)]
    assert min(rates) >= 0.0025 and max(rates) <= 0.04
    assert abs(np.mean(np.log2(rates)) - np.log2(0.01)) < 0.2


def test_streams_are_the_same_everywhere() -> None:
    assert [round(float(x), 6) for x in stream(0, "ogm", 1, "alpha").random(2)] == [0.647106, 0.60997]
    assert stream("a", 1).random() != stream("a", "1").random()


def test_an_option_does_not_move_the_others() -> None:
    space = {"alpha": LogUniform(0.1, 1.0), "beta": Uniform(0.0, 1.0)}
    more = {"first": Choice((1, 2, 3)), **space, "last": Uniform(5.0, 6.0)}
    drawn, again = (draw(s, THREE, 0, "ogm", 3) for s in (space, more))
    assert drawn == {name: again[name] for name in space}
    for other in ((1, "ogm", 3), (0, "ogm_ge", 3), (0, "ogm", 4)):
        assert not drawn.items() & draw(space, THREE, *other).items()
