"""Every number of the README's results is made from the records; what its words claim about them, they bear."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.reporting.statistics import Summary
from tests import readme

NUMBER = re.compile(rf"\d|\b({'|'.join([*readme.COUNTS[2:], 'dozen', 'half', 'twice', 'all but'])})\b", re.IGNORECASE)


@pytest.fixture(scope="module")
def committed() -> dict[str, readme.Results]:
    return readme.read_all()


@pytest.fixture
def made(committed: dict[str, readme.Results]) -> dict[str, readme.Results]:
    """The committed results, with numbers that a test may change."""
    found = {name: copy.copy(results) for name, results in committed.items()}
    for results in found.values():
        copied = {slug: dataclasses.replace(x, numbers=x.numbers.copy()) for slug, x in results.tables.items()}
        results.tables = copied
    return found


def test_the_readme_is_what_the_records_say(committed: dict[str, readme.Results]) -> None:
    _, within, after = readme.parts()
    assert after, "the README has no part between its two markers"
    assert within.strip() == readme.results(committed), "python -m tests.readme writes it anew"


def test_no_number_of_the_results_stands_by_itself() -> None:
    """Not in the template, where only what is made from records is one, nor in the README outside of that part."""
    text = " ".join(re.sub(r"\{\w+\}", "", readme.TEMPLATE.read_text()).split())
    assert not NUMBER.search(text), NUMBER.search(text)
    before, _, after = readme.parts()
    loose = re.findall(
        r"\d+\.\d(?:\d+)? ?%|±|\d+\.\d seed|rank \d", re.sub(r"```.*?```", "", before + after, flags=re.DOTALL)
    )
    assert not loose


def test_every_number_of_the_template_is_used(committed: dict[str, readme.Results]) -> None:
    """A new one is a KeyError, an old one left behind is seen here."""
    assert set(re.findall(r"\{(\w+)\}", readme.TEMPLATE.read_text())) == set(readme.numbers_of(committed))


WRONG: dict[str, tuple[str, str, str, Callable[[Any], Any]]] = {
    "OGM-GE loses: gated": (
        "synthav",
        "fusions-synthav",
        "gated + ogm_ge 0.8",
        lambda row: {"difference_high": 0.1},
    ),
    "its noise does nothing": ("synthav", "strategies-synthav", "ge_noise", lambda row: {"difference_low": 0.1}),
    "AV-MNIST's seeds tell nothing": ("avmnist", "table2-av-mnist", "ogm_ge", lambda row: {"difference_least": 0.1}),
    "OGM-GE loses on recordings": (
        "compare-grid",
        "compare-grid",
        "ogm_ge",
        lambda row: {"difference_high": 0.1},
    ),
    "ume is first on SynthAV": ("compare-synthav", "compare-synthav", "ume", lambda row: {"row": "somebody"}),
}


@pytest.mark.parametrize("what", WRONG)
def test_words_that_the_numbers_do_not_bear_are_noticed(what: str, made: dict[str, readme.Results]) -> None:
    folder, slug, label, change = WRONG[what]
    numbers = made[folder].tables[slug].numbers
    line = numbers.index[numbers["row"] == label][0]
    for column, value in change(numbers.loc[line]).items():
        numbers.loc[line, column] = value
    with pytest.raises(ValueError, match=re.escape(what)):
        readme.numbers_of(made)


APART = {  # two rows that are compared -> where the ends of their difference's interval would have to lie
    "a constant factor cannot be told from it": ("static_lr audio x 0.1", "ogm_ge 0.8", (-2.0, -0.1)),
    "ume does better": ("ume", "ogm_ge 0.8", (-0.1, 9.0)),
    "the rule makes own heads better": ("own heads, prob_mean", "own heads, fused", (-0.1, 9.0)),
    "it does nothing to be seen for vanilla": ("vanilla, prob_mean", "vanilla, fused", (0.1, 0.9)),
}


@pytest.mark.parametrize("what", APART)
def test_words_about_two_rows_are_noticed(what: str, made: dict[str, readme.Results]) -> None:
    ours, theirs, (low, high) = APART[what]
    between = made["synthav"].between

    def changed(slug: str, one: str, other: str) -> Summary:
        found = between(slug, one, other)
        return dataclasses.replace(found, low=low, high=high) if (one, other) == (ours, theirs) else found

    made["synthav"].between = changed  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=re.escape(what)):
        readme.numbers_of(made)


def test_another_order_is_noticed(made: dict[str, readme.Results]) -> None:
    numbers = made["compare-avmnist"].tables["compare-avmnist"].numbers
    numbers.loc[numbers["row"] == "visual only", "val_best_mean"] = 0.0
    with pytest.raises(ValueError, match="below pictures alone"):
        readme.numbers_of(made)
