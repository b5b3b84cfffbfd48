"""What docs/results.md says: its words hold no number of their own, and what they claim, the records bear."""

from __future__ import annotations

import dataclasses
import re

import pytest

from benchmarks.reporting.statistics import Summary
from tests import docs_pages
from tests.docs_pages.results import results
from tests.readme_parts import Results, read_all
from tests.test_readme_numbers import NUMBER


@pytest.fixture(scope="module")
def committed() -> dict[str, Results]:
    return read_all()


@pytest.fixture
def made(committed: dict[str, Results]) -> dict[str, Results]:
    """The committed results, with numbers that a test may change."""
    return {name: found.copy() for name, found in committed.items()}


def test_no_number_of_the_page_stands_by_itself() -> None:
    text = (docs_pages.TEMPLATES / "results.md").read_text("utf-8")
    prose = " ".join(re.sub(r"\{\w+\}|`[^`]*`", "", text).split())
    assert not NUMBER.search(prose), NUMBER.search(prose)


WRONG: dict[str, tuple[str, str, str, dict[str, float]]] = {
    "OGM-GE loses: gated": ("synthav", "fusions-synthav", "gated + ogm_ge 0.8", {"difference_high": 0.1}),
    "its noise does nothing": ("synthav", "strategies-synthav", "ge_noise", {"difference_low": 0.1}),
    "AV-MNIST's seeds tell nothing": ("avmnist", "table2-av-mnist", "ogm_ge", {"difference_least": 0.1}),
    "below pictures alone": ("compare-avmnist", "compare-avmnist", "visual only", {"val_best_mean": 0.0}),
}


@pytest.mark.parametrize("what", WRONG)
def test_words_that_the_numbers_do_not_bear_are_noticed(what: str, made: dict[str, Results]) -> None:
    folder, slug, label, changed = WRONG[what]
    numbers = made[folder].tables[slug].numbers
    line = numbers.index[numbers["row"] == label][0]
    for column, value in changed.items():
        numbers.loc[line, column] = value
    with pytest.raises(ValueError, match=re.escape(what)):
        results(made)


APART = {  # two rows that are compared -> where the ends of their difference's interval would have to lie
    "a constant factor cannot be told from it": ("static_lr audio x 0.1", "ogm_ge 0.8", (-2.0, -0.1)),
    "ume does better": ("ume", "ogm_ge 0.8", (-0.1, 9.0)),
    "the rule makes own heads better": ("own heads, prob_mean", "own heads, fused", (-0.1, 9.0)),
    "it does nothing to be seen for vanilla": ("vanilla, prob_mean", "vanilla, fused", (0.1, 0.9)),
}


@pytest.mark.parametrize("what", APART)
def test_words_about_two_rows_are_noticed(what: str, made: dict[str, Results]) -> None:
    ours, theirs, (low, high) = APART[what]
    between = made["synthav"].between

    def changed(slug: str, one: str, other: str) -> Summary:
        found = between(slug, one, other)
        return dataclasses.replace(found, low=low, high=high) if (one, other) == (ours, theirs) else found

    made["synthav"].between = changed  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=re.escape(what)):
        results(made)
