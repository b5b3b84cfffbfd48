"""The pages in docs/ are true: what they show is run, and the list of data is the classes' own."""

from __future__ import annotations

import json
import os
import re
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.records.store import read_records
from benchmarks.speed.recipes import duration
from datasets.__main__ import main as datasets_main
from datasets.core.card_page import committed_results, for_terminal
from datasets.core.manifest_file import read_manifest
from datasets.registry import DATASETS, card
from tests import data_page
from tests.helpers.media import tone, write_clip, write_wav

ROOT = Path(__file__).resolve().parents[1]
OWN_DATA = (ROOT / "docs" / "your_own_data.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", OWN_DATA, re.DOTALL)
SHORT = ["epochs=1", "batch_size=4", "dataset_args.image_size=16", "dataset_args.seconds=0.5"]
SMALL = ["image_size=16", "seconds=0.5"]


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders of clips in the working folder."""
    for i in range(20):
        folder = tmp_path / "clips" / ("bark", "meow")[i % 2]
        write_wav(folder / f"{i:03}.wav", tone(0.5, 16_000, 200 + 300 * (i % 2)) * np.float64(0.9))
        write_clip(folder / f"{i:03}.mp4", 1.0, rate=2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    return tmp_path


def carry_out(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """A command of a page, with what makes it short; its output."""
    words = shlex.split(line)[1:]
    if words[:2] == ["-m", "datasets"]:
        code = datasets_main(words[2:] + (SMALL if words[2] != "scan" else []))
        out, err = capsys.readouterr()
        assert code == 0, err
        return out
    given = {word.partition("=")[0] for word in words}
    words = [*words, *(word for word in SHORT if word.partition("=")[0] not in given), "--results", "results"]
    words = ["seeds=1" if word.startswith("seeds=") else word for word in words]
    done = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_that_info_shows_lead_to_a_run(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert datasets_main(["info", "manifest"]) == 0
    shown = capsys.readouterr().out
    commands = re.findall(r"^ +(python -m .*)$", shown.partition("example")[2], re.MULTILINE)
    verbs = [line.split()[3] for line in commands]
    assert verbs == ["scan", "prepare", "compare"]
    for line in commands[:2]:
        carry_out(line, capsys)
    header, *_ = (clips / "clips/manifest.csv").read_text().splitlines()
    assert header in shown
    words = [word for word in shlex.split(commands[2])[4:] if not word.startswith("methods")]
    carry_out(shlex.join(["python", "-m", "benchmarks", "run", *words]), capsys)


@pytest.mark.long
def test_every_command_of_the_page_on_own_data_runs_in_order(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for language, text in BLOCKS if language == "bash" for line in text.strip().splitlines()]
    assert len(lines) >= 7
    for line in lines:
        carry_out(line, capsys)


@pytest.mark.parametrize("text", [text for language, text in BLOCKS if language == "csv"])
def test_every_csv_of_the_page_on_own_data_is_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(text)
    assert len(read_manifest(tmp_path / "own.csv").classes) == 2


def test_the_page_on_data_is_the_classes_own() -> None:
    assert data_page.PAGE.read_text("utf-8") == data_page.text(), "python -m tests.data_page writes it anew"


@pytest.mark.parametrize("name", DATASETS)
def test_every_cost_says_where_it_comes_from(name: str) -> None:
    about = card(name)
    for text in (about.preparation, about.run_on_cpu, about.run_on_gpu):
        assert "measured" in text or "estimated" in text
        assert "measured" not in text.replace("not measured", "") or re.search(r"\d", text), text
    assert max(map(len, for_terminal(name, about, committed_results()).splitlines())) <= 80


@pytest.mark.parametrize("name", ["synthav", "avmnist"])
def test_measured_costs_are_those_of_the_committed_runs(name: str) -> None:
    wanted = {"method": "vanilla", "fusion": "concat", "optimizer": "sgd", "epochs": 20, "dataset": name}
    records = read_records(ROOT / "results" / "reference" / name)
    found = [r.cost["seconds"] for r in records if wanted.items() <= r.config.items()]
    assert f"{statistics.median(found):.0f} s on one core (measured" in card(name).run_on_cpu


@pytest.mark.parametrize(("name", "digits"), [("grid", 0), ("mfeat", 1)])
def test_costs_of_compared_data_are_those_of_the_committed_runs(name: str, digits: int) -> None:
    records = read_records(ROOT / "results" / "reference" / f"compare-{name}")
    found = [r.cost["process_seconds"] for r in records if r.config["method"] == "vanilla"]
    assert f"{statistics.median(found):.{digits}f} s of processor time on one core" in card(name).run_on_cpu


def test_estimated_costs_are_those_of_the_bench() -> None:
    found = json.loads((ROOT / "results" / "bench" / "recipes-cpu.json").read_text("utf-8"))["runs"]
    for name, one in found.items():
        assert card(name).run_on_cpu.startswith(f"{duration(one['run'])} on one core (estimated"), name


def test_results_are_those_of_the_folders() -> None:
    found = committed_results()
    assert found["avmnist"] == ["avmnist", "compare-avmnist", "fusions", "surprises-avmnist"] and set(found) <= set(
        DATASETS
    )
