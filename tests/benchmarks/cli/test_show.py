"""show prints one record, from single files and packed ones; pack makes the latter."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.config.run_config import configure
from tests.helpers.records import record, stopped
from tests.helpers.suites import one_line_each

CONFIG = configure({"method": "ogm_ge", "epochs": 4})


def test_a_record_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(CONFIG, 0.8125).save(tmp_path / "runs")
    assert main(["show", CONFIG.key[:6], "--results", str(tmp_path)]) == 0
    single = capsys.readouterr().out
    assert CONFIG.title in single and str(tmp_path / "runs") in single and "81.2 %" in single and "0123abc" in single
    assert main(["pack", str(tmp_path / "runs")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "runs" / "records.jsonl.gz")
    assert main(["show", CONFIG.key, "--results", str(tmp_path / "runs")]) == 0
    assert capsys.readouterr().out == single


def test_a_run_without_a_result_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stopped(CONFIG, "failed", "the disk was full").save(tmp_path)
    assert main(["show", CONFIG.key, "--results", str(tmp_path)]) == 0
    assert "failed (the disk was full)" in capsys.readouterr().out


def test_a_key_that_is_none_or_several_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(40):
        record(configure({"seed": seed, "epochs": 4})).save(tmp_path)
    (line,) = one_line_each(["show", "nothing", "--results", str(tmp_path)], capsys)
    assert "there is no record of a run nothing" in line
    (line,) = one_line_each(["show", "*", "--results", str(tmp_path)], capsys)
    assert "is no key" in line
    first = min(configure({"seed": seed, "epochs": 4}).key for seed in range(40))[0]
    (line,) = one_line_each(["show", first, "--results", str(tmp_path)], capsys)
    assert f"{first} is the beginning of" in line
    (line,) = one_line_each(["pack", str(tmp_path / "empty")], capsys)
    assert "there is no record to pack" in line


def test_runs_in_a_packed_folder_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of the committed results is reused, and a comparison of them makes nothing."""
    small = ["dataset_args.num_train=64", "dataset_args.num_val=32", "dataset_args.num_test=32", "epochs=1"]
    words = [*small, "encoder_args.audio.widths=[8]", "encoder_args.visual.widths=[8]"]
    places = ["--results", str(tmp_path / "r"), "--work", str(tmp_path / "w")]
    assert main(["run", *words, *places]) == 0
    assert main(["pack", str(tmp_path / "r")]) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "r").iterdir()}
    capsys.readouterr()
    assert main(["run", *words, *places]) == 0
    assert "1 of 1 runs are already recorded" in capsys.readouterr().out
    grid = [w.replace("=[", "=[[").replace("]", "]]") for w in words]
    assert main(["grid", *grid, "seed=[0]", *places, "--jobs", "1"]) == 0
    assert "1 of 1 runs are already recorded" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in (tmp_path / "r").iterdir()} == before
