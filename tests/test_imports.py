"""Which package may import which: pyproject.toml has the table; here lint-imports is run on imports that break it."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ogm", "models", "datasets", "benchmarks")
LINT = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LINT, "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The sources of the four packages and the table, in a folder of their own."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=lambda _, names: {"__pycache__"} & set(names))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_imports_of_the_repository_follow_the_table() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


WRONG = [
    ("ogm", "import models"),
    ("ogm", "from datasets.core import errors"),
    ("ogm", "import tests"),
    ("ogm.parts", "from ogm.strategies import vanilla"),
    ("models", "import benchmarks"),
    ("models", "from datasets import registry"),
    ("models", "from ogm import engine"),
    ("datasets", "from models import registry"),
    ("datasets", "from ogm import strategy"),
    ("datasets.core", "from datasets.storage import cache"),
    ("datasets.decode", "from datasets import synthav"),
    ("benchmarks.config", "from benchmarks.records import record"),
    ("benchmarks.records", "from benchmarks.runner import run"),
    ("benchmarks.reporting", "from benchmarks.runner import events"),
    ("benchmarks.runner", "from benchmarks.callbacks import json_lines"),
    ("benchmarks.runner", "from benchmarks.cli import listing"),
    ("benchmarks.callbacks", "from benchmarks.executors import base"),
    ("benchmarks.executors", "from benchmarks.callbacks import base"),
    ("benchmarks.executors", "def late():\n    from benchmarks.reporting import report"),
]


def test_each_import_against_the_table_is_named(copy: Path) -> None:
    modules = [f"{package}.wrong_{number}" for number, (package, _) in enumerate(WRONG)]
    for module, (_, line) in zip(modules, WRONG, strict=True):
        (copy / module.replace(".", "/")).with_suffix(".py").write_text(line + "\n")
    done = lint_imports(copy)
    assert done.returncode == 1, done.stdout + done.stderr
    assert [module for module in modules if module not in done.stdout] == []


def test_a_new_folder_of_benchmarks_needs_a_place_in_the_table(copy: Path) -> None:
    (copy / "benchmarks" / "elsewhere.py").write_text("")
    done = lint_imports(copy)
    assert done.returncode == 1 and "elsewhere" in done.stdout + done.stderr


def test_an_exception_that_is_not_needed_any_more_fails(copy: Path) -> None:
    table = (copy / "pyproject.toml").read_text()
    line = 'forbidden_modules = ["tests"]\n'
    assert line in table
    (copy / "pyproject.toml").write_text(table.replace(line, line + 'ignore_imports = ["ogm.types -> models.model"]\n'))
    done = lint_imports(copy)
    assert done.returncode == 1 and "models.model" in done.stdout + done.stderr


def test_ogm_needs_torch_alone() -> None:
    for path in (ROOT / "ogm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                extras = {"sklearn"} if node.col_offset else set()  # inside a function: asked for when it is used
                extras |= {path.stem} if path.parent.name == "integrations" else set()  # the library of its name
                allowed = {"ogm", "torch", "__future__", *sys.stdlib_module_names, *extras}
                assert name.partition(".")[0] in allowed, f"{path}: {name}"
