"""The README is somebody's first ten minutes: what it shows is run, as it stands there."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.callbacks.base import Callbacks
from benchmarks.runner.events import RunFinished
from datasets.registry import DATASETS
from models.registry import ENCODERS, FUSIONS
from tests.helpers.commands import run_here, run_process, run_program

ROOT = Path(__file__).resolve().parents[1]
BLOCKS, CONTRIBUTING = (
    re.findall(r"```(\w+)\n(.*?)```", (ROOT / name).read_text(), re.DOTALL) for name in ("README.md", "CONTRIBUTING.md")
)
LINES = [line for language, text in BLOCKS + CONTRIBUTING if language == "bash" for line in text.strip().splitlines()]
SLOW = re.compile("torch.distributed|benchmarks check")  # two processes with two imports; hundreds of records
# What makes a run short; given after what the README says, where it says nothing of its own.
SHORT = {
    "epochs": "1",
    "dataset_args.num_train": "64",
    "dataset_args.num_val": "32",
    "dataset_args.num_test": "32",
    "encoder_args.audio.widths": "[8, 8]",
    "encoder_args.visual.widths": "[8, 8]",
}


def short(words: list[str]) -> list[str]:
    """The settings of a command line, shortened."""
    given = {word.partition("=")[0] for word in words if "=" in word}
    listed = "grid" in words  # where a list would be an axis
    few = {name: f"[{value}]" if listed and value.startswith("[") else value for name, value in SHORT.items()}
    return words + [f"{name}={value}" for name, value in few.items() if name not in given]


def test_the_python_blocks_run_as_they_stand(tmp_path: Path) -> None:
    blocks = [text for language, text in BLOCKS if language == "python"]
    # each goes on where the one before ended
    assert "coefficient/audio" in run_program("\n".join(blocks), tmp_path, 120)


def test_the_callback_that_contributing_shows_works(capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = [text for language, text in CONTRIBUTING if language == "python"]
    names: dict[str, Any] = {}
    exec(text, names)
    example = names["Counter"]()
    callbacks = Callbacks([example])
    for event in (object(), object.__new__(RunFinished), object.__new__(RunFinished)):
        callbacks.on(event)  # type: ignore[arg-type]
    callbacks.close()
    assert example.finished == 2
    assert capsys.readouterr() == ("2 runs ended\n", "")


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, marks=pytest.mark.long if SLOW.search(line) else ())
        for line in LINES
        if line.startswith(".venv/bin/python")
    ],
)
def test_command_lines_run(line: str, tmp_path: Path) -> None:
    words = shlex.split(line.removeprefix(".venv/bin/python"))
    if any(command in words for command in ("run", "grid", "compare")) and "list" not in words:
        flags = words[words.index("--jobs") :] if "--jobs" in words else []
        own = words[words.index("--method-file") :] if "--method-file" in words else []
        words = short([w for w in words if w not in [*flags, *own]]) + own
        words += [*flags, "--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    elif "reproduce" in words:
        words += ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    command = [sys.executable, *words]
    done = run_here(command) if words[:2] == ["-m", "benchmarks"] else run_process(command)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", [x for x in LINES if x.startswith("make")])
def test_make_targets_say_what_they_would_do(line: str) -> None:
    done = run_process([*shlex.split(line), "--dry-run"])
    assert done.returncode == 0, done.stderr
    assert ".venv/bin/python -m" in done.stdout


def test_every_fusion_encoder_and_dataset_is_named() -> None:
    """Methods are in docs/methods.md: they are too many for ten minutes."""
    text = (ROOT / "README.md").read_text()
    for names in (FUSIONS, ENCODERS, DATASETS):
        assert [name for name in names if f"`{name}`" not in text] == []


def test_the_readme_takes_ten_minutes() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 250


def test_every_path_that_the_readme_links_to_is_there() -> None:
    text = "\n".join((ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md"))
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (ROOT / target).exists(), target


def test_the_commands_of_the_data_table_exist() -> None:
    for words in re.findall(r"`\.venv/bin/python (-m datasets [^`]+)`", (ROOT / "README.md").read_text()):
        verb, *names = words.split()[2:4]
        done = run_process([sys.executable, "-m", "datasets", verb, "--help"])
        listed = run_process([sys.executable, "-m", "datasets", "list"]).stdout
        assert done.returncode == 0 and all(name in listed for name in names)
