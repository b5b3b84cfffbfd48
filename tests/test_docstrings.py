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

# Files that still cite a document that is not in the repository.
CITE_ABSENT_DOCUMENTS = {
    "ogm/coalitions.py",
    "ogm/strategy.py",
    "ogm/views.py",
    "models/attention.py",
    "models/encoder.py",
    "models/encoders/cnn.py",
    "models/encoders/transformer.py",
    "models/fusion.py",
    "models/fusions/centralnet.py",
    "models/fusions/concat.py",
    "models/fusions/cross_attn.py",
    "models/fusions/film.py",
    "models/fusions/film_sym.py",
    "models/fusions/gated.py",
    "models/fusions/gated_sym.py",
    "models/fusions/late.py",
    "models/fusions/late_prob.py",
    "models/fusions/mbt.py",
    "models/fusions/mmtm.py",
    "models/fusions/mmtm_concat.py",
    "models/fusions/sum.py",
    "datasets/manifest.py",
    "datasets/manifest_list.py",
    "datasets/unpickle.py",
    "benchmarks/defaults.py",
    "benchmarks/listing.py",
    "benchmarks/suites/fusions.yaml",
}


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
    """Documents that a source file names: Markdown files, and "the specification"."""
    return {*re.findall(r"\b[\w-]+\.md\b", text), *re.findall(r"\b[Tt]he spec(?:ification)?\b", text)}


def test_no_source_file_cites_a_document_that_is_not_in_the_repository() -> None:
    documents = {p.name for p in ROOT.glob("*.md")} | {p.name for p in (ROOT / "docs").rglob("*.md")}
    files = [p for package in PACKAGES for p in (ROOT / package).rglob("*") if p.suffix in (".py", ".yaml", ".html")]
    absent = {str(p.relative_to(ROOT)): cited(p.read_text(encoding="utf-8")) - documents for p in sorted(files)}
    absent = {name: names for name, names in absent.items() if names and name not in CITE_ABSENT_DOCUMENTS}
    assert not absent


def test_a_citation_is_seen() -> None:
    assert cited("as in spec methods.md, section 3; README.md") == {"methods.md", "README.md"}
    assert cited("# The spec's rule; f'{name}.md'; spec = 1") == {"The spec"}
