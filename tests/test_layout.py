"""What keeps the repository readable: short files and functions, one name for one thing, no path that leads nowhere."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ogm", "models", "datasets", "benchmarks")
LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 400, 60

DATASET_MODULES = {"__init__", "__main__", "registry"}  # what may stand beside the datasets


@cache
def sources() -> dict[str, str]:
    """The text of every module of the four packages, by its path."""
    paths = [p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))]
    return {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in paths}


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(sources()[name])


def test_no_file_is_long() -> None:
    assert {name for name, text in sources().items() if len(text.splitlines()) > LINES_OF_A_FILE} == set()


def test_no_function_is_long() -> None:
    long = {
        f"{name}: {node.name}"
        for name in sources()
        for node in ast.walk(tree(name))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (node.end_lineno or 0) - node.lineno >= LINES_OF_A_FUNCTION
    }
    assert not long


def test_no_public_name_of_ogm_and_models_is_defined_twice() -> None:
    homes = defaultdict(list)
    for name in sources():
        if name.startswith(("ogm/", "models/")):
            for node in tree(name).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                    homes[node.name].append(name)
    assert {name for name, files in homes.items() if len(files) > 1} == set()


def borrowed(module: ast.Module) -> set[str]:
    """The sibling strategies of which a module imports more than the classes that it extends."""
    bases = {
        base.id for c in ast.walk(module) if isinstance(c, ast.ClassDef) for base in c.bases if type(base) is ast.Name
    }
    siblings = set()
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ogm.strategies"):
            home = (node.module or "").removeprefix("ogm.strategies").removeprefix(".")
            siblings |= {home or a.name for a in node.names if (a.asname or a.name) not in bases}
        elif isinstance(node, ast.Import):
            siblings |= {a.name.split(".")[2] for a in node.names if a.name.startswith("ogm.strategies.")}
    return siblings


def test_a_strategy_imports_only_the_sibling_that_it_extends() -> None:
    found = {Path(name).stem: borrowed(tree(name)) for name in sources() if name.startswith("ogm/strategies/")}
    assert {name: siblings for name, siblings in found.items() if siblings} == {}


@pytest.mark.parametrize(
    ("text", "siblings"),
    [
        ("from ogm.strategies.ogm import OGM\nclass A(OGM): ...", set()),
        ("from ogm.strategies.ogm import OGM, usable\nclass A(OGM): ...", {"ogm"}),
        ("from ogm.strategies import mla", {"mla"}),
        ("import ogm.strategies.pmr as other", {"pmr"}),
    ],
)
def test_borrowing_is_seen(text: str, siblings: set[str]) -> None:
    assert borrowed(ast.parse(text)) == siblings


def test_the_datasets_stand_alone() -> None:
    from datasets.registry import DATASETS

    modules = {p.stem for p in (ROOT / "datasets").glob("*.py")}
    assert modules - set(DATASETS) == DATASET_MODULES


def documents() -> dict[str, str]:
    """What is written for people: the Markdown at the top, the Makefile, the workflows, and the sources."""
    paths = [p for pattern in ("*.md", "Makefile", "*.toml", ".github/**/*.yml") for p in sorted(ROOT.glob(pattern))]
    return {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in paths} | sources()


PATH = re.compile(r"(?<![\w./-])(?:ogm|models|datasets|benchmarks|tests|examples|docs)(?:/[\w.-]+)*/[\w-]+\.\w+\b")
OF_RELEASED_CODE = {"models/fusion_modules.py"}  # cited with its repository and commit


def test_a_path_that_is_named_exists() -> None:
    absent = {
        f"{name}: {path}"
        for name, text in documents().items()
        for path in PATH.findall(text)
        if path not in OF_RELEASED_CODE and not (ROOT / path).exists()
    }
    assert absent == set()


def test_a_path_is_seen() -> None:
    assert PATH.findall("see `tests/no.py` and models/fusions/mmtm.py.") == ["tests/no.py", "models/fusions/mmtm.py"]
    assert PATH.findall("other/tests/a.py, tests/test_<id>.py, tests/") == []


MACHINE = re.compile(r"(?<![\w.])(?:/(?:home|root|Users|workspace|work|mnt/\w)/|[A-Z]:\\\w|~\w+/)")


def test_no_file_knows_a_machine() -> None:
    assert {name for name, text in documents().items() if MACHINE.search(text)} == set()


def test_a_machine_is_seen() -> None:
    assert all(MACHINE.search(text) for text in ("in /home/someone/data", "'/root/x'", r"C:\data"))
    assert not MACHINE.search("results/work/x, data/home/, https://host.org/home/")


def test_version_and_date_are_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation["version"] == version
    assert headings[0] == "[Unreleased]"
    assert headings[1] == f"[{version}] - {citation['date-released']}"


def test_the_changelog_has_the_kinds_of_keep_a_changelog() -> None:
    kinds = re.findall(r"^### (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_every_step_of_the_workflows_and_of_ci_is_a_target() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    jobs = [
        j
        for p in (ROOT / ".github" / "workflows").glob("*.yml")
        for j in yaml.safe_load(p.read_text())["jobs"].values()
    ]
    steps = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    steps += [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("make")]
    assert steps and all(step.split()[0] == "make" and step.split()[1] in targets for step in steps)
