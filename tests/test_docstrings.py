"""Docstrings that a stranger can use: methods say what they do differently, and nothing cites an absent document."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from ogm.registry import STRATEGIES, find

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ogm", "models", "datasets", "benchmarks")
SECTIONS = ("Args", "Differences", "References")


def sections(docstring: str) -> dict[str, str]:
    """The text below each of the headings of a docstring."""
    parts = re.split(r"^(\w+):$", inspect.cleandoc(docstring), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("method", list(STRATEGIES))
def test_a_method_says_what_it_does_differently_and_where_it_comes_from(method: str) -> None:
    found = sections(find(method, STRATEGIES, "strategy").__doc__)
    for name in ("Differences", "References"):
        assert re.search(r"^ +- \S", found.get(name, ""), re.MULTILINE), f"{method}: no list under {name}:"
    assert found.keys() <= set(SECTIONS)


@pytest.mark.parametrize("method", list(STRATEGIES))
def test_a_method_describes_its_options_in_the_order_of_its_signature(method: str) -> None:
    cls = find(method, STRATEGIES, "strategy")
    options = [p for p in inspect.signature(cls).parameters if p != "self"]
    described = re.findall(r"^    (\w+): ", sections(cls.__doc__).get("Args", ""), re.MULTILINE)
    assert described == options


def cited(text: str) -> set[str]:
    """What a source file cites: Markdown files, "the specification", and sections of a document without a name."""
    patterns = r"\b[\w-]+\.md\b", r"\b[Tt]he spec(?:ification)?\b", r"\(section [\d.]+\)"
    return {words for pattern in patterns for words in re.findall(pattern, text)}


def test_no_source_file_cites_a_document_that_is_not_in_the_repository() -> None:
    documents = {p.name for p in ROOT.glob("*.md")} | {p.name for p in (ROOT / "docs").rglob("*.md")}
    files = [p for package in PACKAGES for p in (ROOT / package).rglob("*") if p.suffix in (".py", ".yaml", ".html")]
    absent = {str(p.relative_to(ROOT)): cited(p.read_text(encoding="utf-8")) - documents for p in sorted(files)}
    assert not {name: names for name, names in absent.items() if names}


def test_a_citation_is_seen() -> None:
    assert cited("as in spec methods.md, section 3; README.md") == {"methods.md", "README.md"}
    assert cited("# The spec's rule; f'{name}.md'; spec = 1") == {"The spec"}
    assert cited("BalanceBenchmark (section 6); arXiv 1.2, section 3.1") == {"(section 6)"}
