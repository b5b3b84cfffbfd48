"""A cluster's engine that is missing or has another version: one line, before anything is written."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

import pytest

from benchmarks.executors.engines import LIBRARIES
from tests.helpers.commands import ROOT, command, run_here

COMPARE = ["methods=[vanilla]", "dataset=synthav", "seeds=2"]


def install(monkeypatch: pytest.MonkeyPatch, library: str, there: str | None) -> None:
    """Have one library be there in a version, or not at all."""
    version = importlib.metadata.version

    def version_of(name: str) -> str:
        if name != library:
            return version(name)
        if there is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return there

    monkeypatch.setattr(importlib.metadata, "version", version_of)


@pytest.mark.parametrize("executor", LIBRARIES)
@pytest.mark.parametrize("there", [None, "0.1"])
def test_what_is_missing_is_one_line_and_nothing_is_written(
    executor: str, there: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, requirement = LIBRARIES[executor]
    install(monkeypatch, library, there)
    done = run_here([*command("compare", *COMPARE, folder=tmp_path), "--executor", executor])
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    (line,) = done.stderr.splitlines()
    trouble = f"{library} 0.1 is installed" if there else f"{library} is not installed"
    assert line.startswith(f"error: --executor {executor}: {trouble}") and f"pip install '{requirement}'" in line


def test_without_sbatch_one_line_says_where_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library, requirement = LIBRARIES["slurm"]
    install(monkeypatch, library, requirement.partition("==")[2])
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run_here([*command("compare", *COMPARE, folder=tmp_path), "--executor", "slurm"])
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "sbatch" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_versions_are_those_of_the_extras() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert all(extras[executor] == [requirement] for executor, (_, requirement) in LIBRARIES.items())
