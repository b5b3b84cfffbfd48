"""`ogm-bench` in a folder that is not the clone's: the same commands, the caller's results and the clone's data."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.helpers.commands import ROOT, SMALL

LAUNCHER = ROOT / "benchmarks" / "ogm-bench"


def launched(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command as a person gives it, by a link as `make setup` makes one, in a folder with a package `datasets`."""
    (folder / "datasets").mkdir(exist_ok=True)
    (folder / "datasets" / "__init__.py").write_text("raise SystemExit('another datasets')\n")
    link = folder / "ogm-bench"
    if not link.is_symlink():
        link.symlink_to(LAUNCHER)
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "OGM_DATA", "OGM_CACHE")}
    return subprocess.run(
        [str(link), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        env={**kept, "WANDB_MODE": "disabled"},
    )


@pytest.fixture(autouse=True)
def an_environment() -> None:
    if not (ROOT / ".venv" / "bin" / "python").exists():
        pytest.skip("needs the clone's own environment: make setup")


def test_results_are_the_callers(tmp_path: Path) -> None:
    done = launched(tmp_path, "run", *SMALL, "epochs=1", "--workers", "1", "--log", "none")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "results" / "runs" / "records").rglob("*.json"))


def test_data_are_the_clones(tmp_path: Path) -> None:
    done = launched(tmp_path, "run", "dataset=cmu_mosi", "--log", "none")
    if done.returncode == 0:
        pytest.skip("CMU-MOSI is prepared in this clone, so nothing is said of where it is looked for")
    assert done.returncode == 2 and str(ROOT / "data") in done.stderr


def test_help_says_whose_folders_are_meant(tmp_path: Path) -> None:
    done = launched(tmp_path, "--help")
    assert done.returncode == 0 and "from any folder" in done.stdout


def test_a_mistake_is_told_as_ever(tmp_path: Path) -> None:
    done = launched(tmp_path, "run", "mehtod=ogm")
    assert done.returncode == 2 and done.stderr == "error: mehtod: there is no such setting; did you mean 'method'?\n"
