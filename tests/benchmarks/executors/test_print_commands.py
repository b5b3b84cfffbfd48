"""The printed command lines make exactly the runs of the grid, in an order that works, and printing makes nothing."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from benchmarks.__main__ import main, read
from benchmarks.config.run_config import RunConfig, configure, parse
from benchmarks.executors.print_commands import command_line, settings
from benchmarks.runner.environment import RunEnvironment
from tests.helpers.commands import command, records


def configuration(line: str) -> RunConfig:
    """What the command of a line would run."""
    words = shlex.split(line)
    assert words[:4] == ["python", "-m", "benchmarks", "run"]
    return configure(parse(read(words[3:]).settings))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"lr": 1e-05, "weight_decay": 0, "max_norm": 5, "lr_steps": [3, 70], "schedule": "step"},
        {"method": "ogm_ge", "fusion": "film", "optimizer": "adamw", "precision": "bf16", "compile": True},
        {"method": "static_lr", "method_args": {"factors": {"audio": 1e-07, "visual": 2.5}}},
        {"dataset": "cmu_mosi", "encoder_args": {"text": {"width": 32}}},
    ],
)
def test_a_command_line_reproduces_the_key(given: dict[str, object], tmp_path: Path) -> None:
    config = configure(given)
    line = command_line(config, RunEnvironment(tmp_path / "a folder", tmp_path))
    assert configuration(line).key == config.key and "\n" not in line
    assert read(shlex.split(line)[3:]).results == tmp_path / "a folder"


def test_no_setting_is_left_to_a_default() -> None:
    named = {word.partition("=")[0].partition(".")[0] for word in settings(configure({"method": "ogm_ge"}))}
    assert named >= RunConfig.model_fields.keys() - {"files", "protocol", "fusion_args", "encoder_args"}


def test_a_grid_is_printed_with_prerequisites_first_and_nothing_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = command("grid", "method=[umt, vanilla]", "epochs=1", folder=tmp_path)[3:]
    assert main([*argv, "--executor", "print"]) == 0
    lines = capsys.readouterr().out.splitlines()
    methods = [configuration(line).method for line in lines]
    assert sorted(methods) == ["umt", "unimodal", "unimodal", "vanilla"] and methods.index("umt") == 3
    assert [("--export-weights" in line) for line in lines] == [method == "unimodal" for method in methods]
    assert not list(tmp_path.iterdir())
    for line in lines:
        assert main(shlex.split(line)[3:]) == 0
    assert len(records(tmp_path)) == 4
    exports = list((tmp_path / "work").rglob("export-*.pt"))
    assert len(exports) == 2
    capsys.readouterr()
    assert main([*argv, "--executor", "print"]) == 0 and capsys.readouterr().out == ""  # all of it is done


def test_files_of_the_users_own_are_named() -> None:
    environment = RunEnvironment(Path("r"), files=(("method", Path("mine.py")),), overwrite=True)
    assert command_line(configure({}), environment).endswith("--overwrite --method-file mine.py")
