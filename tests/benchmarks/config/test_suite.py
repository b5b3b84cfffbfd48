"""Suites are checked as they are read: a mistake in a file gets a line that says where and what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmarks.config import suite
from benchmarks.config.run_config import ConfigError
from benchmarks.records import suite_file
from benchmarks.records.suite_file import Recipe
from tests.helpers.suites import MADE, SUITES, damage_made, damage_suites, one_line_each

GOOD = """
title: A suite
seeds: 2
data:
  - {name: SynthAV, dataset: synthav, tables: [one]}
tables:
  one:
    title: A table
    against: vanilla
    rows:
      - {label: vanilla}
      - {label: ogm, method: ogm}
"""
WRONG = {
    ("seeds: 2", "seeds: 2\nsedes: 3"): "sedes: there is no such setting; did you mean 'seeds'?",
    ("seeds: 2", "seeds: 0"): "seeds=0",
    ("seeds: 2", "seeds: many"): "seeds='many'",
    ("title: A suite", ""): "title: is missing",
    ("dataset: synthav", "dataset: synthva"): "did you mean 'synthav'?",
    ("tables: [one]", "tables: [two]"): "'two' is not one of one",
    ("tables: [one]", "tables: []"): "data.0.tables",
    (
        "tables: [one]",
        "tabels: [one], tables: [one]",
    ): "data.0.tabels: there is no such setting; did you mean 'tables'?",
    ("against: vanilla", "against: vanila"): "'vanila' is not one of vanilla, ogm; did you mean 'vanilla'?",
    ("label: ogm,", "label: vanilla,"): "two rows are called 'vanilla'",
    ("label: ogm,", "lable: ogm,"): "tables.one.rows.1.label: is missing",
    ("method: ogm", "mehtod: ogm"): "one on SynthAV, row ogm: mehtod: there is no such setting; did you mean 'method'?",
    ("method: ogm", "method: ogm_eg"): "did you mean 'ogm_ge'?",
    ("method: ogm", "dataset: avmnist"): "the table is one on synthav",
    ("tables: [one]}", "tables: [one], places: {seed: []}}"): "data.0.places.seed",
    ("  - {name", "  - [name"): "not readable as YAML",
    ("title: A suite", "title: 2020-99-99"): "month must be in 1..12",
}


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_a_mistake_in_a_suite_is_one_line(
    change: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite, "FOLDER", tmp_path)
    (tmp_path / "own.yaml").write_text(GOOD)
    assert len(suite.load("own").configs()) == 4
    assert change[0] in GOOD
    (tmp_path / "own.yaml").write_text(GOOD.replace(*change, 1))
    (line,) = one_line_each(["reproduce", "--suite", "own"], capsys)
    assert str(tmp_path / "own.yaml") in line and WRONG[change] in line


def test_a_file_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.yaml").write_text(GOOD)
    own = str(tmp_path / "own.yaml")
    assert suite.load(own).name == "own" and len(suite.load(own).configs()) == 4
    before, recipe = Recipe(name="paper", datasets=[]), Recipe(name=own, datasets=[])
    assert before.made_from() == {"suite": {"name": "paper", "quick": False}}
    first = recipe.made_from()
    assert recipe.folder() == Path("results/own") and first["suite"]["name"] == "own"
    (tmp_path / "own.yaml").write_text(GOOD + "# more\n")
    assert recipe.made_from() != first
    (line,) = one_line_each(["reproduce", "--suite", str(tmp_path / "gone.yaml")], capsys)
    assert "there is no file" in line
    (line,) = one_line_each(["reproduce", "--suite", "papr"], capsys)
    assert "did you mean 'paper'" in line


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_damaged_suites(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert damage_suites(path, 30, tmp_path, monkeypatch, capsys) > 10


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.parent.name)
def test_damaged_suite_json(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert damage_made(path, 30, tmp_path, capsys) > 10


def test_deep_nesting_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "suite.json").write_text("[" * 100_000)
    with pytest.raises(ConfigError):
        suite_file.read(tmp_path)
    monkeypatch.setattr(suite, "FOLDER", tmp_path)
    (tmp_path / "deep.yaml").write_text(yaml.safe_dump({"title": "x"}) + "quick: " + "[" * 3000)
    with pytest.raises(ConfigError):
        suite.load("deep")
