"""What a run takes is estimated from steps of the recipe's own model, and said with two digits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.speed.recipes import SIZES, duration
from datasets.registry import DATASETS, card


def test_an_estimate_is_made_of_steps_and_batches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--device", "cpu", "--recipes", "cg_mnist", "--out", str(tmp_path / "found.json")]) == 0
    assert "cg_mnist" in capsys.readouterr().out
    (name, found), *others = json.loads((tmp_path / "found.json").read_text())["runs"].items()
    assert name == "cg_mnist" and not others
    steps, batches = 55_000 // 64, -(-15_000 // 64)
    assert found["run"] == pytest.approx(20 * (steps * found["step"] + batches * found["forward"]))


def test_the_sizes_are_those_of_the_cards() -> None:
    assert set(SIZES) <= set(DATASETS)
    for name, size in SIZES.items():
        assert tuple(size.shapes) == card(name).modalities and size.classes == card(name).classes


@pytest.mark.parametrize(
    ("seconds", "text"), [(7, "7 s"), (119, "119 s"), (121, "2.0 min"), (115_848, "32 h"), (900_000, "10 days")]
)
def test_durations_have_two_digits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("words", [["--recipes", "crema"], ["--out", "x.json"], ["--recipes", "synthav"]])
def test_mistakes_get_a_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
