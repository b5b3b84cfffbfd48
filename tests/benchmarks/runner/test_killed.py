"""Killed and started again, a run ends in the same record; the same run twice, or in two processes, gives the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.helpers.commands import ROOT, command, records, run_here, run_process, workers

ENV = {**os.environ, "WANDB_MODE": "disabled"}


@pytest.mark.parametrize(
    ("times", "epochs"),
    [(1, 50), pytest.param(10, 200, marks=pytest.mark.long)],  # long enough for so many kills on a fast machine
)
def test_kills_leave_no_trace(times: int, epochs: int, tmp_path: Path) -> None:
    """SIGKILL at random moments: while torch is imported, while data are made, within epochs and writes."""
    settings = ("method=ogm_ge", f"epochs={epochs}")
    assert run_here(command("run", *settings, folder=tmp_path / "undisturbed")).returncode == 0
    undisturbed = records(tmp_path / "undisturbed")
    tmp_path = tmp_path / "killed"
    moments = random.Random(times)
    words = command("run", *settings, folder=tmp_path)
    kills = early = 0
    while kills < times:
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("checkpoint.pt")}
        process = subprocess.Popen(words, cwd=ROOT, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if early < max(times // 3, 1):  # before the first epoch of this attempt is over
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
    (path,) = (tmp_path / "results" / "records").rglob("*.json")
    assert json.loads(path.read_text())["cost"]["steps"] == epochs * 4  # of epochs that were cut short, none
    assert not list((tmp_path / "results").rglob("*.part"))


@pytest.mark.long
def test_data_loading_processes_change_no_bit(tmp_path: Path) -> None:
    for folder, flags in ((tmp_path / "a", ["--workers", "2"]), (tmp_path / "b", [])):
        assert run_here([*command("run", "method=ogm_ge", "epochs=20", folder=folder), *flags]).returncode == 0
    assert records(tmp_path / "a") == records(tmp_path / "b")


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
def test_a_run_whose_worker_is_killed_twice_has_failed_and_the_others_go_on(tmp_path: Path) -> None:
    words = [*command("grid", "method=[vanilla, ogm]", "epochs=50", folder=tmp_path), "--jobs", "1"]
    process = subprocess.Popen(words, cwd=ROOT, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list((tmp_path / "work").rglob("checkpoint.pt")):
        time.sleep(0.02)
    (worker,) = workers(process.pid)
    os.kill(worker, signal.SIGKILL)
    while process.poll() is None and workers(process.pid) in ([], [worker]):
        time.sleep(0.02)
    (another,) = workers(process.pid)
    (checkpoint,) = (tmp_path / "work").rglob("checkpoint.pt")
    written = checkpoint.stat().st_mtime_ns
    while process.poll() is None and checkpoint.stat().st_mtime_ns == written:  # it has begun
        time.sleep(0.02)
    os.kill(another, signal.SIGKILL)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "2 runs: 1 done" in out and "tried once more" in err and err.count("killed by SIGKILL") >= 2
    again = run_here(words)  # only "done" is not tried again
    assert again.returncode == 0 and "2 runs: 2 done" in again.stdout


@pytest.mark.long
def test_two_processes_give_the_record_of_one(tmp_path: Path) -> None:
    settings = ("method=ogm_ge", "epochs=2", "precision=fp64", "fusion=film")
    ranks = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    one = run_here(command("run", *settings, folder=tmp_path / "one"))
    two = run_process(command("run", *settings, folder=tmp_path / "two", more=ranks), OMP_NUM_THREADS="1")
    assert one.returncode == two.returncode == 0, two.stderr
    (a,), (b,) = records(tmp_path / "one"), records(tmp_path / "two")
    assert a["test"].keys() == b["test"].keys() and a["selected"] == b["selected"] and a["probe"] == b["probe"]
    for name, curve in a["curves"].items():
        assert b["curves"][name] == pytest.approx(curve, abs=1e-10), name
