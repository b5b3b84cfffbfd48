"""The page "Paper and code" is complete, fresh, and says nothing that cannot be looked up."""

from __future__ import annotations

import re

import pytest

from models.registry import FUSIONS
from ogm.registry import STRATEGIES
from tests import paper_and_code
from tests.conformance import check
from tests.paper_and_code import (
    KINDS,
    OURS,
    PAGE,
    SEEN,
    Entry,
    all_vectors,
    counted,
    entry_of,
    evidence,
    numbers,
    texts,
)

NAMES = [("methods", name) for name in STRATEGIES] + [("fusions", name) for name in FUSIONS]
ENTRIES = [(part, name, entry) for part, name in NAMES for entry in getattr(evidence(), part).get(name, [])]
IDS = [f"{name}: {entry.says[:50]}" for _, name, entry in ENTRIES]


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == paper_and_code.page(), f"{PAGE.name} is stale: {paper_and_code.__doc__}"


@pytest.mark.parametrize(("part", "name"), NAMES)
def test_every_sentence_of_a_class_has_an_entry(part: str, name: str) -> None:
    missing = [
        sentence
        for sentence in texts()[part][name].differences
        if entry_of(part, name, sentence) is None and not OURS.match(sentence)
    ]
    assert not missing, f"add to docs/paper_and_code.yaml, {part}, {name}"


@pytest.mark.parametrize(("part", "name", "entry"), ENTRIES, ids=IDS)
def test_every_entry_is_about_a_sentence_and_can_be_looked_up(part: str, name: str, entry: Entry) -> None:
    assert any(sentence.startswith(entry.says) for sentence in texts()[part][name].differences), "no such sentence"
    assert entry.kind in KINDS
    shown = entry.shows.vector if entry.shows else entry.vector
    if entry.kind in SEEN:
        assert entry.seen or entry.paper or entry.source or shown
    if shown:
        method, vector = all_vectors()[shown]
        assert check(method, vector) == ("passed", "")
    owner = paper_and_code.owner_of(name)
    for place in entry.seen:
        assert re.search(r"\]\(https://github\.com/[\w.-]+/[\w.-]+/blob/[0-9a-f]{40}/\S+\)$", place_of(place, owner))


def place_of(place: str, owner: str) -> str:
    path, _, lines = place.rpartition(" ")[2].partition(":")
    first, _, last = lines.partition("-")
    assert path and (not lines or int(first) <= int(last or first))
    return paper_and_code.link(place, owner)


SHOWN = [(name, entry) for _, name, entry in ENTRIES if entry.shows]


@pytest.mark.parametrize(("name", "entry"), SHOWN, ids=[name for name, _ in SHOWN])
def test_both_sides_of_a_vector_differ_by_what_the_page_says(name: str, entry: Entry) -> None:
    assert entry.shows is not None
    found = numbers(entry.shows)
    printed = [paper_and_code.number(value) for value in found.values()]
    assert len(set(printed)) == len(printed) > 1
    line = ", ".join(f"{side} {shown}" for side, shown in zip(found, printed, strict=True))
    assert f"vector `{entry.shows.vector}`: {line}" in PAGE.read_text(encoding="utf-8")


def test_a_repository_is_at_the_commit_that_the_class_names() -> None:
    commits = {r.name: r.commit for r in evidence().repositories.values()}
    for part, name in NAMES:
        for repository, commit in texts()[part][name].repositories.items():
            if repository in commits:
                assert commits[repository].startswith(commit), (name, repository)
    for r in evidence().repositories.values():
        assert re.fullmatch("[0-9a-f]{40}", r.commit) and bool(r.selects) == bool(r.methods)
        for method in r.methods:
            assert r.name in texts()["methods"][method].repositories, (method, r.name)


def test_a_method_whose_authors_code_was_read_has_its_repository_here() -> None:
    """A sentence on released code needs a repository, of the authors or of whoever else the class names."""
    for name, text in texts()["methods"].items():
        if any(re.match(r"Released (code|script)\b(?!.*could not be read)", x) for x in text.differences):
            assert text.repositories, name


def test_no_method_has_code_that_does_not_run_without_a_sentence_that_says_so() -> None:
    for name in counted()["of these: the code does not run as released"]:
        shared = {m for r in evidence().repositories.values() if name in r.methods for m in r.methods}
        assert any(e.kind == "broken" for m in shared for e in evidence().methods[m]), name


@pytest.mark.parametrize("part", ["methods", "fusions"])
def test_the_file_names_nothing_that_there_is_not(part: str) -> None:
    assert getattr(evidence(), part).keys() <= (STRATEGIES if part == "methods" else FUSIONS).keys()
    assert {m for r in evidence().repositories.values() for m in r.methods} <= STRATEGIES.keys()
