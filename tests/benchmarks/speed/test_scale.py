"""The bench of many runs, tiny: what is simulated is carried out whole, and each figure is held against its aim."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.speed import scale
from benchmarks.speed.simulation import PER_SEED, simulate

TINY = scale.Sizes(empty=3, real=5, epochs=1, records=50, rows=200, jobs=30, workers=4)


def test_every_simulated_job_ends_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With so many losses and failures that some runs lose two workers, and others build on one that failed."""
    monkeypatch.setattr("benchmarks.speed.simulation.FAILED", 0.2)
    monkeypatch.setattr("benchmarks.speed.simulation.LOST", 0.3)
    found = simulate(4 * PER_SEED, 7, tmp_path)
    assert found.jobs == found.ended_once == 4 * PER_SEED
    assert 0 < found.done < found.jobs and found.lost_workers > 0
    assert found.simulated > 4 * PER_SEED * 30 / 7 / 2 and found.busy > 0


def test_an_aim_that_is_missed_is_named() -> None:
    rows = {"local": {"ms_per_run": 60.0, **scale.within(60, 50)}, "ray": scale.within(40, 50), "slurm": {"x": 1}}
    left_out = {"slurm": "ConfigError: Slurm does not answer", "commands": "no time was left"}
    found = scale.missed_aims({"overhead": {"rows": rows, "left_out": left_out}})
    assert found == ["overhead: local", "overhead: commands"]


def test_it_takes_at_most_what_its_help_says() -> None:
    assert sum(part.share for part in scale.PARTS) <= 1.5 * 3600


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_whole_bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scale.bench_scale(tmp_path / "found.json", TINY)
    found = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert list(found["parts"]) == [part.name for part in scale.PARTS]
    for part in scale.PARTS:
        made = found["parts"][part.name]
        assert made["rows"] and all(why.startswith("ConfigError") for why in made["left_out"].values())
    assert found["parts"]["sharing"]["rows"]["two drivers"]["met"]
    assert found["parts"]["scheduler"]["rows"]["one record each"]["met"]
    assert "aims missed" in capsys.readouterr().out
