"""What may import what inside ``ogm``, and that a name means one thing."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STRATEGIES = sorted(p for p in (ROOT / "ogm" / "strategies").glob("*.py") if p.name != "__init__.py")


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module, package: str) -> dict[str, set[str]]:
    """module -> names imported from it, of all modules below a package, wherever the statement stands."""
    names: dict[str, set[str]] = defaultdict(set)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and f"{node.module}.".startswith(f"{package}."):
            names[node.module] |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if f"{alias.name}.".startswith(f"{package}."):
                    names[alias.name] |= {alias.name}
    return names


def borrowed(tree: ast.Module) -> set[str]:
    """What a strategy's file imports from its siblings without extending it."""
    bases = {
        base.id for x in tree.body if isinstance(x, ast.ClassDef) for base in x.bases if isinstance(base, ast.Name)
    }
    return {name for names in imported(tree, "ogm.strategies").values() for name in names} - bases


@pytest.mark.parametrize("path", STRATEGIES, ids=lambda path: path.stem)
def test_a_strategy_imports_no_sibling_but_the_base_that_it_extends(path: Path) -> None:
    assert not borrowed(parsed(path))


def test_a_borrowed_name_is_found() -> None:
    extends = "from ogm.strategies.ogm import OGM\nclass OGMGE(OGM): ..."
    assert not borrowed(ast.parse(extends))
    assert borrowed(ast.parse("from ogm.strategies.ogm import OGM, scale\nclass OGMGE(OGM): ...")) == {"scale"}
    assert borrowed(ast.parse("def f():\n    from ogm.strategies import ogm")) == {"ogm"}
    assert borrowed(ast.parse("import ogm.strategies.ogm")) == {"ogm.strategies.ogm"}


@pytest.mark.parametrize("path", sorted((ROOT / "ogm").rglob("*.py")), ids=lambda path: path.stem)
def test_the_plug_in_imports_nothing_of_the_suite(path: Path) -> None:
    assert not any(imported(parsed(path), package) for package in ("models", "datasets", "benchmarks", "tests"))


def test_no_name_is_defined_twice() -> None:
    places = defaultdict(set)
    for path in (p for package in ("ogm", "models") for p in (ROOT / package).rglob("*.py")):
        for node in parsed(path).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names = [getattr(node, "name", None), *(getattr(target, "id", None) for target in targets)]
            for name in names:
                if name and not name.startswith("_"):
                    places[name].add(str(path.relative_to(ROOT)))
    assert not {name: sorted(paths) for name, paths in places.items() if len(paths) > 1}


@pytest.mark.parametrize("path", STRATEGIES, ids=lambda path: path.stem)
def test_every_strategy_has_tests_under_its_name(path: Path) -> None:
    assert (ROOT / "tests" / "ogm" / "strategies" / f"test_{path.stem}.py").exists()
