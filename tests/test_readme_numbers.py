"""Every number of the README's results is made from the records; what its words claim about them, they bear."""

from __future__ import annotations

import re

import pytest

from tests import readme
from tests.readme_parts import read_all

NUMBER = re.compile(rf"\d|\b({'|'.join([*readme.COUNTS[2:], 'dozen', 'half', 'twice', 'all but'])})\b", re.IGNORECASE)


@pytest.fixture(scope="module")
def committed() -> dict[str, readme.Results]:
    return read_all()


@pytest.fixture
def made(committed: dict[str, readme.Results]) -> dict[str, readme.Results]:
    """The committed results, with numbers that a test may change."""
    return {name: results.copy() for name, results in committed.items()}


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


WRONG: dict[str, tuple[str, str, dict[str, object]]] = {
    "OGM-GE loses on recordings": ("compare-grid", "ogm_ge", {"difference_high": 0.1}),
    "ume is first on SynthAV": ("compare-synthav", "ume", {"row": "somebody"}),
}


@pytest.mark.parametrize("what", WRONG)
def test_words_that_the_numbers_do_not_bear_are_noticed(what: str, made: dict[str, readme.Results]) -> None:
    folder, label, changed = WRONG[what]
    numbers = made[folder].tables[folder].numbers
    line = numbers.index[numbers["row"] == label][0]
    for column, value in changed.items():
        numbers.loc[line, column] = value
    with pytest.raises(ValueError, match=re.escape(what)):
        readme.numbers_of(made)
