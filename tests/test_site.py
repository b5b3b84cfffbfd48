"""The documentation site: a page for everything registered, links that lead somewhere, nothing from another host."""

from __future__ import annotations

import importlib.util
import os
import posixpath
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from datasets.registry import DATASETS
from models.registry import ENCODERS, FAMILIES, FUSIONS
from ogm.registry import STRATEGIES, find

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ROOT / ".work" / "docs" / "packages"  # where make docs puts what builds the site
LINK = re.compile(r"\]\((?!\w+:|#)([^)\s#]+)")
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


@pytest.fixture(scope="module")
def site_pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs" / "site_pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(site_pages: ModuleType) -> dict[str, str]:
    return dict(site_pages.pages())


def test_everything_registered_has_a_page(pages: dict[str, str]) -> None:
    kinds = {"methods": STRATEGIES, "fusions": FUSIONS, "encoders": {**ENCODERS, **FAMILIES}, "datasets": DATASETS}
    assert set(pages) == {f"{kind}/{name}.md" for kind, names in kinds.items() for name in names}


def test_the_page_of_a_method_begins_with_its_full_name(pages: dict[str, str]) -> None:
    for name in STRATEGIES:
        title = vars(find(name, STRATEGIES, "method")).get("title", "")
        assert pages[f"methods/{name}.md"].startswith(f"# {name}: {title}\n" if title else f"# {name}\n")


def test_every_link_of_a_page_leads_to_a_file_or_a_page(pages: dict[str, str]) -> None:
    for place, text in pages.items():
        for link in LINK.findall(text):
            target = posixpath.normpath(posixpath.join("docs", posixpath.dirname(place), link))
            assert (ROOT / target).is_file() or target.removeprefix("docs/") in pages, (place, link)


def test_the_first_row_of_each_comparison_is_on_the_page_of_its_method(
    pages: dict[str, str], site_pages: ModuleType
) -> None:
    for folder in site_pages.RANKED:
        text = (ROOT / "results" / "reference" / folder / "README.md").read_text("utf-8")
        first = re.search(r"^\| +1 \| (.+?) +\|.*? \| +(\d[\d.]* ± [\d.]+) \|", text, re.MULTILINE)
        assert first is not None
        assert any(f"| {site_pages.prose(first[1])} | 1 of " in page and first[2] in page for page in pages.values())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("``a_b`` and g_m <- k * g_m", r"`a_b` and g\_m &lt;- k \* g\_m"),
        ("see https://a.b/c_d, and [1]", r"see <https://a.b/c_d>, and \[1\]"),
    ],
)
def test_signs_of_formulas_stay_signs(text: str, shown: str, site_pages: ModuleType) -> None:
    assert site_pages.prose(text) == shown


def test_a_list_of_a_docstring_stays_a_list(site_pages: ModuleType) -> None:
    text = "In each step:\n1. first\n   goes on\n   - inner\n2. second\n\nThe end."
    assert list(site_pages.steps(text)) == ["In each step:\n\n1. first goes on\n    - inner\n2. second", "The end."]


def test_what_builds_the_site_has_the_versions_of_the_environment() -> None:
    ours, theirs = (
        dict(re.findall(r"^([\w.-]+)==(\S+) [\\;]", (ROOT / name).read_text("utf-8"), re.MULTILINE))
        for name in ("requirements.txt", "requirements-docs.txt")
    )
    assert {"mkdocs", "mkdocs-material", "mkdocstrings"} <= set(theirs)
    assert {name: version for name, version in theirs.items() if ours.get(name, version) != version} == {}
    assert "mkdocs" not in ours


def test_the_workflow_builds_what_make_docs_builds() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "docs.yml").read_text("utf-8"))["jobs"]
    assert {"run": "make docs PYTHON=python"} in jobs["build"]["steps"]
    assert any(step.get("with") == {"path": "site"} for step in jobs["build"]["steps"])


class Loaded(HTMLParser):
    """The addresses that a page makes a browser load, and the links that a reader can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if (address := given.get(LOADING.get(tag, ""))) and given.get("rel") != "canonical":
            self.loaded.append(address)
        if tag == "a" and (link := given.get("href")):
            self.links.append(link)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not PACKAGES.is_dir() and importlib.util.find_spec("mkdocs") is None:
        pytest.skip("needs MkDocs: make docs installs it beside the environment")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGES), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr
    return folder


def parsed(site: Path) -> Iterator[tuple[Path, Loaded]]:
    for path in sorted(site.rglob("*.html")):
        page = Loaded()
        page.feed(path.read_text("utf-8"))
        yield path, page


@pytest.mark.long
def test_the_site_loads_nothing_from_another_host(site: Path) -> None:
    found = {address for _, page in parsed(site) for address in page.loaded if re.match(r"(?:\w+:)?//", address)}
    assert found == set()
    assert not any("unpkg.com" in path.read_text("utf-8") for path in site.rglob("*.html"))


@pytest.mark.long
def test_every_link_of_the_site_leads_to_a_file(site: Path) -> None:
    """So that it can be read without a server."""
    for path, page in parsed(site):
        for link in (*page.links, *page.loaded):
            target = link.partition("#")[0].partition("?")[0]
            if target and not re.match(r"\w+:", target) and path.name != "404.html":
                assert (path.parent / target).is_file(), (path.relative_to(site), link)


@pytest.mark.long
def test_results_and_sources_are_pages_of_the_site(site: Path) -> None:
    for place in ("methods/ogm_ge.html", "results/reference/compare-grid/index.html", "ogm/strategies/ogm_ge.py.html"):
        assert (site / place).is_file(), place
    assert (site / "results/reference/compare-grid/figures/compare-grid-ranks.svg").is_file()
    assert not list(site.rglob("*.py")) and "site_pages" not in str(list(site.rglob("*")))
