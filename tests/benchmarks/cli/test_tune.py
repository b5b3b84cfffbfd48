"""The command ``tune``: killed and started again it makes the same folder, which ``tables`` makes again."""

from __future__ import annotations

import csv
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.records.suite_file import read
from tests.benchmarks.runner.test_killed import ENV
from tests.helpers.commands import ROOT, command, records, run_here
from tests.helpers.suites import one_line_each

BUDGET = ("methods=mmpareto", "trials=2", "units=1", "seeds=1", "epochs=2")
RUNS = 2 * 2 + 2 * 2 + 1  # trials, default and tuned, and vanilla at equal passes


def tune(folder: Path, *more: str) -> list[str]:
    return [*command("tune", *BUDGET, folder=folder), "--jobs", "1", *more]


def lasting(folder: Path) -> dict[str, bytes]:
    """The files that do not say how long anything took."""
    made = folder / "results"
    paths = [made / "suite.json", made / "trials.csv", *(made / "tables").iterdir(), *(made / "figures").glob("*.svg")]
    return {str(path.relative_to(made)): path.read_bytes() for path in paths}


def trials(folder: Path) -> list[dict[str, str]]:
    """The lines of trials.csv."""
    with (folder / "results" / "trials.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    made = run_here(tune(folder))
    assert made.returncode == 0, made.stderr
    assert "search: 2 rows x 2 trials x 1 tuning unit(s) = 4 runs" in made.stdout
    return folder


def test_a_folder_with_trials_and_tables(tuned: Path) -> None:
    made = read(tuned / "results")
    assert made is not None and len(made.suite.trials) == 4
    assert [table.slug for table in made.suite.tables] == ["tune-synthav", "gain-synthav", "equal-passes-synthav"]
    assert made.suite.tables[2].rows[0].label.endswith(", 3 epochs")  # of mmpareto's 1.5 times the passes
    seeds = [record["config"]["seed"] for record in records(tuned)]
    assert seeds.count(1000) == 4 and seeds.count(0) >= 3
    lines = trials(tuned)
    assert [(line["method"], line["trial"], line["state"]) for line in lines] == [
        ("vanilla", "0", "done"), ("vanilla", "1", "done"), ("mmpareto", "0", "done"), ("mmpareto", "1", "done")
    ]  # fmt: skip
    passes = (tuned / "results" / "passes.csv").read_text().splitlines()
    assert passes[2] == f"mmpareto,{128 * 2 * 2 * 3},1.500,counted"  # samples, epochs, encoders; 2 backward passes
    assert sorted(line["chosen"] for line in lines) == ["no", "no", "yes", "yes"]


@pytest.mark.parametrize("kills", [(3,), pytest.param((1, 2, 4, 5, 7), marks=pytest.mark.long)])
def test_killed_and_started_again_it_makes_the_same(kills: tuple[int, ...], tuned: Path, tmp_path: Path) -> None:
    """Each kill comes when so many records are there: 4 are of trials, the others of the tables."""
    words = tune(tmp_path)
    for wanted in kills:
        process = subprocess.Popen(words, cwd=ROOT, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(records(tmp_path)) < wanted:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(records(tmp_path)) < len(records(tuned)), "it was over before it could be killed"
    finished = run_here(words)
    assert finished.returncode == 0 and "runs are already recorded" in finished.stdout
    assert records(tmp_path) == records(tuned)
    assert lasting(tmp_path) == lasting(tuned)


def test_tables_makes_the_files_again(tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(tuned / "results" / "records", tmp_path / "results" / "records")
    shutil.copy(tuned / "results" / "suite.json", tmp_path / "results")
    assert main(["tables", str(tmp_path / "results")]) == 0
    assert str(tmp_path / "results" / "trials.csv") in capsys.readouterr().out
    assert lasting(tmp_path) == lasting(tuned)


def test_another_budget_is_another_folder(tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["trials=3" if word == "trials=2" else word for word in tune(tuned)]
    (line,) = one_line_each(words[3:], capsys)
    assert "was made by another comparison or suite: give another --results, or --overwrite" in line


def test_commands_are_printed_for_the_trials_and_then_for_the_tables(tuned: Path, tmp_path: Path) -> None:
    first = run_here(tune(tmp_path, "--executor", "print"))
    assert first.returncode == 0 and first.stdout.count(" seed=1000 ") == 4
    assert first.stdout.count("benchmarks run") == 4 and "prints the other runs when" in first.stderr
    for part in (tuned / "results" / "records").rglob("*-*.json"):
        if part.name.startswith("1000-"):
            place = tmp_path / part.relative_to(tuned)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(part, place)
    then = run_here(tune(tmp_path, "--executor", "print"))
    assert then.stdout.count("benchmarks run") == len(records(tuned)) - 4 and " seed=0 " in then.stdout
    assert not then.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trials=0"], "trials=0: Input should be greater than or equal to 1"),
        (["units=two"], "units='two'"),
        (["seeds=2000"], "seeds=2000"),
        (["trails=4"], "trails: there is no such setting"),
        (["methods=ogm_gee"], "did you mean 'ogm_ge'?"),
        (["methods=3"], "methods=3: names of methods"),
        (["seed=1"], "seed: a comparison is given seeds="),
        (["methods=ogm", "method_args.alpha=2"], "method_args.alpha: there is no such setting"),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = one_line_each(["tune", *words], capsys)
    assert any(message in line for line in lines), lines


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_every_method_can_be_tuned(tmp_path: Path) -> None:
    words = command("tune", "methods=all", "trials=2", "units=1", "seeds=1", "epochs=4", folder=tmp_path)
    made = run_here(words)
    lines = trials(tmp_path)
    assert made.returncode == 0, made.stderr
    assert len({line["method"] for line in lines}) == 56  # unimodal is a row per modality, and there is a further form
    assert len(lines) == 112
    assert not [line for line in lines if line["state"].startswith(("failed", "skipped", "missing"))]
