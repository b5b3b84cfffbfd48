"""The checks that damaged suite files and suite.json are put to: in short here and there, at length in attack/."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import yaml

from benchmarks.__main__ import main
from benchmarks.config import suite
from benchmarks.config.run_config import ConfigError
from benchmarks.records import suite_file
from tests.helpers.mutations import changed, garbled

REFERENCE = Path(__file__).resolve().parents[2] / "results" / "reference"
SUITES = sorted(suite.FOLDER.glob("*.yaml"))
MADE = sorted(REFERENCE.glob("*/suite.json"))


def one_line_each(argv: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What a refused command says: lines that begin with error, and nothing else; exit code 2."""
    capsys.readouterr()
    assert main(argv) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines and all(line.startswith("error: ") and len(line) < 1000 for line in lines), lines
    return lines


def damage_suites(
    path: Path, count: int, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> int:
    """Load the suite ``count`` times, damaged; how often it was refused. Whatever else it may raise is raised."""
    monkeypatch.setattr(suite, "FOLDER", place)
    text = path.read_text()
    refused = 0
    for number in range(count):
        moves = random.Random(f"{path.name} {number}")
        wrong = garbled(text, moves) if number % 3 == 0 else yaml.safe_dump(changed(yaml.safe_load(text), moves))
        (place / path.name).write_text(wrong)
        try:
            suite.load(path.stem, seeds=1, quick=bool(number % 2))
        except ConfigError:
            argv = ["reproduce", "--suite", path.stem, "--seeds", "1", *(["--quick"] if number % 2 else [])]
            assert all(path.name in line for line in one_line_each(argv, capsys))
            refused += 1
    return refused


def damage_made(path: Path, count: int, place: Path, capsys: pytest.CaptureFixture[str]) -> int:
    """Likewise with a folder's suite.json, and ``tables``."""
    text = path.read_text()
    refused = 0
    for number in range(count):
        moves = random.Random(f"{path.parent.name} {number}")
        wrong = garbled(text, moves) if number % 3 == 0 else json.dumps(changed(json.loads(text), moves))
        (place / "suite.json").write_text(wrong)
        try:
            suite_file.read(place)
        except ConfigError:
            assert all("suite.json" in line for line in one_line_each(["tables", str(place)], capsys))
            refused += 1
    return refused
