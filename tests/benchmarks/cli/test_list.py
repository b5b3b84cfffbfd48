"""What `list methods` tells of each method, and the page of the docs that is written from the same."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.cli import method_page
from benchmarks.config.method_text import NO_CODE, method_text
from ogm.registry import STRATEGIES, find
from ogm.strategy import Strategy

ROOT = Path(__file__).resolve().parents[3]


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["list", *words]) == 0
    return capsys.readouterr().out


def test_every_method_with_its_idea_paper_code_cost_and_defaults(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = printed(capsys, "methods")
    entries = {entry.split(":")[0].splitlines()[0].strip(): entry for entry in out.split("\n\n")}
    for name in STRATEGIES:
        cls = find(name, STRATEGIES, "strategy")
        entry = " ".join(entries[name].split())
        assert method_text(cls).idea in entry
        assert f"kind: {cls.category}" in entry and "cost: " in entry and "paper: " in entry and "code: " in entry
    assert "alpha=0.1..1 (log)" in out and "factors=0.03..1 (log) for any one" in out
    assert "alpha=0.3 variant=paper" in out and "alpha=0.8" in out
    wide = [line for line in out.splitlines() if len(line) > 80]
    assert all(len(line.split()) <= 2 for line in wide), wide  # addresses, which stay whole


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_one_method_in_full(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "methods", name)
    cls = find(name, STRATEGIES, "strategy")
    text = method_text(cls)
    words = " ".join(out.split())
    assert list(text.options) == list(inspect.signature(cls).parameters)
    for part in (text.idea, " ".join(text.algorithm.split()), *text.options.values(), *text.differences):
        assert part in words
    for option, parameter in inspect.signature(cls).parameters.items():
        assert f"{option}={'?' if parameter.default is parameter.empty else parameter.default}" in words


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_a_method_names_its_paper_and_its_code_or_that_there_is_none(name: str) -> None:
    references = method_text(find(name, STRATEGIES, "strategy")).references
    ours = any(x.startswith("This suite") for x in references)
    assert ours or any(x.startswith("Paper") for x in references), references
    assert ours or any(x.startswith(("Code: ", "Code of")) for x in references), references
    for line in references:
        if line.startswith("Code") and not line.startswith(NO_CODE):
            assert method_text(find(name, STRATEGIES, "strategy")).repositories, line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["methods", "ogmge"], "no method is called 'ogmge'; did you mean 'ogm_ge'? python -m benchmarks list methods"),
        (["methods", "\n"], r"no method is called '\n'; python -m benchmarks list methods prints them all"),
        (["fusions", "film"], "list fusions takes no further name, got 'film'"),
    ],
)
def test_a_name_that_there_is_not(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and says in captured.err


def test_a_method_of_ones_own_that_says_nothing_is_shown_with_its_options(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(method_page, "STRATEGIES", STRATEGIES | {"bare": f"{__name__}:Bare"})
    monkeypatch.setenv("COLUMNS", "3")
    out = printed(capsys, "methods", "bare")
    assert out.startswith("bare\n") and "somebody" in out and "  start=0" in out and "References" not in out


class Bare(Strategy):
    category = "loss"
    paper = "somebody"


def test_the_page_of_the_docs_is_that_of_the_classes() -> None:
    assert (ROOT / "docs" / "methods.md").read_text(encoding="utf-8") == method_page.markdown(), (
        "docs/methods.md is stale: python -m tests.paper_and_code"
    )
