"""The page on methods that lose: complete, fresh, and no number of it stands by itself."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from benchmarks.reporting.statistics import Summary
from tests import surprises
from tests.readme_parts import REFERENCE
from tests.surprises import COMPARED, PAGE, PLACE, Entry, entries, source, surprising, verdict


def test_the_page_is_what_the_records_say() -> None:
    assert PAGE.read_text("utf-8") == surprises.page(), "python -m tests.surprises writes it anew"


@pytest.mark.parametrize("data", [data for data in COMPARED if (REFERENCE / f"compare-{data}").exists()])
def test_every_surprising_method_is_explained(data: str) -> None:
    assert {e.method for e in entries() if e.data == data} == set(surprising(data))


def test_no_number_of_the_texts_stands_by_itself() -> None:
    texts = [source().intro, *(text for e in entries() for text in (e.why, e.then))]
    loose = [found for text in texts for found in re.findall(r"\d+\.\d+|\d+ ?%", PLACE.sub("", text))]
    assert not loose


@pytest.mark.parametrize(
    ("after", "says"), [(2.0, "gives most of it, 80 %"), (7.0, "a part of it, 30 %"), (9.0, "not what")]
)
def test_what_an_experiment_says_of_a_gain(after: float, says: str) -> None:
    assert says in verdict(10.0, summary(after, after - 1, after + 1))


def test_few_units_have_a_range() -> None:
    few = Summary(3, -1.0, 1.0, float("nan"), float("nan"), -2.0, 0.5)
    assert surprises.interval(few) == "\N{MINUS SIGN}1.0 (\N{MINUS SIGN}2.0 to +0.5)" and "no loss is left" in verdict(
        -10.0, few
    )


def summary(mean: float, low: float, high: float) -> Summary:
    return Summary(5, mean, 1.0, low, high, low, high)


@pytest.mark.parametrize(
    ("after", "says"),
    [
        ((2.0, 1.0, 3.0), "above joint training"),
        ((-0.5, -2.0, 1.0), "no loss is left"),
        ((-2.5, -6.0, 1.0), "most of it, 75 %"),
        ((-5.0, -30.0, 20.0), "cannot tell"),
        ((-2.0, -3.0, -1.0), "most of it, 80 %"),
        ((-7.0, -8.0, -6.0), "a part of it, 30 %"),
        ((-9.9, -11.0, -9.0), "not the cause"),
    ],
)
def test_what_an_experiment_says(after: tuple[float, float, float], says: str) -> None:
    assert says in verdict(-10.0, summary(*after))


def test_an_entry_has_one_experiment_and_known_numbers() -> None:
    with pytest.raises(ValidationError, match="say one of row, rule and parts"):
        Entry(method="mimo", data="grid", why="", row="a", rule="logit_sum")
    with pytest.raises(ValueError, match="is no number that there is"):
        surprises.filled("{beauty audio}", Entry(method="mimo", data="grid", why="", row="a"))
