"""Killed and started again, a run ends in the same record; the same run twice, or in two processes, gives the same."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.commands import ROOT, command, records, run_here, run_process, workers

SETTINGS = ("method=ogm_ge", "epochs=100")  # long enough for ten kills on a fast machine
ENV = {**os.environ, "WANDB_MODE": "disabled"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run_here(command("run", *SETTINGS, folder=folder)).returncode == 0
    return records(folder)


@pytest.mark.parametrize("times", [3, pytest.param(10, marks=pytest.mark.long)])
def test_kills_leave_no_trace(times: int, tmp_path: Path, undisturbed: list[dict[str, Any]]) -> None:
    """SIGKILL at random moments: while torch is imported, while data are made, within epochs and writes."""
    moments = random.Random(times)
    words = command("run", *SETTINGS, folder=tmp_path)
    kills = early = 0
    while kills < times:
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("checkpoint.pt")}
        process = subprocess.Popen(words, cwd=ROOT, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if early < times // 3:  # before the first epoch of this attempt is over
            time.sleep(moments.uniform(0.5, 4))
            early += 1
        else:  # after it, somewhere in the next ones
            while process.poll() is None:
                now = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("checkpoint.pt")}
                if now != before:
                    break
                time.sleep(0.005)
            time.sleep(moments.uniform(0, 0.25))
        assert process.poll() is None, "the run was over before it could be killed: make it longer"
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        assert not records(tmp_path)
    finished = run_here(words)
    assert finished.returncode == 0, finished.stderr
    assert records(tmp_path) == undisturbed
    assert not list((tmp_path / "results").rglob("*.part"))


@pytest.mark.long
def test_the_same_run_twice_is_the_same_bits(tmp_path: Path, undisturbed: list[dict[str, Any]]) -> None:
    assert run_here([*command("run", *SETTINGS, folder=tmp_path), "--workers", "2"]).returncode == 0
    assert records(tmp_path) == undisturbed


@pytest.mark.long
def test_a_killed_grid_makes_only_what_is_missing(tmp_path: Path) -> None:
    words = [*command("grid", "method=[vanilla, ogm, ume]", "seed=[0, 1]", "epochs=6", folder=tmp_path), "--jobs", "2"]
    process = subprocess.Popen(words, cwd=ROOT, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(records(tmp_path)) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = {path: path.read_bytes() for path in (tmp_path / "results").rglob("*.json")}
    assert 2 <= len(first) < 10
    finished = run_here(words)
    assert finished.returncode == 0, finished.stderr
    assert "10 runs: 10 done" in finished.stdout  # 6 asked for, and the 4 that ume builds on
    assert all(path.read_bytes() == content for path, content in first.items())
    assert not list((tmp_path / "results").rglob("*.part"))


@pytest.mark.long
def test_a_worker_that_is_killed_is_a_failed_run_and_the_others_go_on(tmp_path: Path) -> None:
    words = [*command("grid", "method=[vanilla, ogm]", "epochs=25", folder=tmp_path), "--jobs", "1"]
    process = subprocess.Popen(words, cwd=ROOT, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list((tmp_path / "work").rglob("checkpoint.pt")):
        time.sleep(0.02)
    (worker,) = workers(process.pid)
    os.kill(worker, signal.SIGKILL)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "2 runs: 1 done" in out and "killed by SIGKILL" in err
    again = run_here(words)  # only "done" is not tried again
    assert again.returncode == 0 and "2 runs: 2 done" in again.stdout


@pytest.mark.long
def test_two_processes_give_the_record_of_one(tmp_path: Path) -> None:
    settings = ("method=ogm_ge", "epochs=2", "precision=fp64", "fusion=film")
    ranks = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
    one = run_here(command("run", *settings, folder=tmp_path / "one"))
    two = run_process(command("run", *settings, folder=tmp_path / "two", more=ranks), OMP_NUM_THREADS="1")
    assert one.returncode == two.returncode == 0, two.stderr
    (a,), (b,) = records(tmp_path / "one"), records(tmp_path / "two")
    assert a["test"].keys() == b["test"].keys() and a["selected"] == b["selected"] and a["probe"] == b["probe"]
    for name, curve in a["curves"].items():
        assert b["curves"][name] == pytest.approx(curve, abs=1e-10), name
