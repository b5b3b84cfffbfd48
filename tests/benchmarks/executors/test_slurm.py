"""Runs on a real Slurm of this machine. What every executor promises is in test_contract.py."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.config.run_config import configure
from benchmarks.executors.slurm_queue import Answer
from benchmarks.executors.slurm_worker import Messages
from benchmarks.runner.events import EpochEnded, RunFinished, RunStarted, StepDone, Warned, as_json, from_json
from benchmarks.runner.failures import failed_record
from tests.helpers.commands import command, records, run_here
from tests.helpers.slurm import Slurm, shared_slurm, wait_until, worker_process

FEW = ["method=[umt, vanilla]", "epochs=2"]  # umt builds on two unimodal runs
SOME = ["method=[umt, ume]", "seed=[0]", "epochs=15"]
MANY = ["method=[umt, ume, g2d]", "seed=[0, 1]", "epochs=15"]


def on_slurm(*settings: str, folder: Path, more: tuple[str, ...] = ()) -> list[str]:
    words = command("grid", *settings, folder=folder)
    return [*words, "--executor", "slurm", "--jobs", "2", "--log", "none", *more]


def here(*settings: str, folder: Path) -> list[dict[str, object]]:
    """The records of an undisturbed grid on this machine."""
    done = run_here([*command("grid", *settings, folder=folder), "--jobs", "2", "--log", "none"])
    assert done.returncode == 0, done.stderr
    return records(folder)


# ---- without Slurm
def test_messages_arrive_whole_and_once(tmp_path: Path) -> None:
    there, back = Messages(tmp_path / "a"), Messages(tmp_path / "a")
    assert back.receive() == []
    there.send({"text": "one\ntwo"})
    there.send(None)
    with (tmp_path / "a").open("ab") as file:
        file.write(b'["half')
        file.flush()
        assert back.receive() == [{"text": "one\ntwo"}, None]
        file.write(b' a line"]\n')
    assert back.receive() == [["half a line"]] and back.receive() == []


def test_events_survive_the_way_through_a_file() -> None:
    config = configure({})
    events = [
        RunStarted("a", config, 3, 1, {"val/accuracy": [0.5, None]}),
        StepDone("a", 1, 0.25),
        EpochEnded("a", 2, {"val/loss": 0.1}),
        Warned("a", "one line"),
        RunFinished("a", config, failed_record(config, "failed", "why")),
    ]
    assert [from_json(json.loads(json.dumps(as_json(event)))) for event in events] == events
    with pytest.raises(ValueError, match="not an event"):
        from_json({"event": "Nonsense"})


@pytest.mark.parametrize(
    ("state", "fate"),
    [
        ("RUNNING", "alive"),
        ("COMPLETING", "alive"),
        ("PENDING", "waiting"),
        ("NODE_FAIL", "ended"),
        ("FAILED", "ended"),
    ],
)
def test_what_becomes_of_a_job(state: str, fate: str) -> None:
    answer = Answer({"12_0": (state, "why")}, frozenset({"12_0"}), frozenset())
    assert answer.fate("12_0") == (fate, "why")
    assert answer.fate("12_1") == ("ended", "forgotten by Slurm")


# ---- with Slurm
def test_a_grid_on_slurm_has_the_records_of_one_on_this_machine(tmp_path: Path) -> None:
    shared_slurm()
    log = tmp_path / "events"
    done = run_here(on_slurm(*FEW, folder=tmp_path / "slurm", more=("--log-events", str(log))))
    assert done.returncode == 0 and "4 runs: 4 done" in done.stdout, done.stderr
    assert records(tmp_path / "slurm") == here(*FEW, folder=tmp_path / "here")
    kinds = [line.split('"event": "')[1].partition('"')[0] for line in log.read_text().splitlines()]
    assert kinds.count("RunStarted") == kinds.count("RunFinished") == 4 and kinds.count("EpochEnded") == 8
    assert not list((tmp_path / "slurm" / "work" / "slurm").iterdir())
    again = run_here(on_slurm(*FEW, folder=tmp_path / "slurm"))
    assert again.returncode == 0 and "are already recorded" in again.stdout


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--partition", "nope"), "invalid partition"),
        (("--gpus-per-run", "3"), "gres"),
        (("--cpus-per-run", "0.5"), "whole"),
    ],
)
def test_what_slurm_refuses_is_one_line(flags: tuple[str, ...], text: str, tmp_path: Path) -> None:
    shared_slurm()
    done = run_here(on_slurm("seed=0", folder=tmp_path, more=flags))
    assert done.returncode == 2 and text in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not records(tmp_path)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_workers_that_cannot_start_are_not_tried_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared_slurm()
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))  # Python does not start with this
    done = run_here(on_slurm("seed=0", folder=tmp_path))
    assert done.returncode == 2 and "no worker could make a run" in done.stderr and not records(tmp_path)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_at_the_time_limit_a_run_is_requeued_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """The worker is stopped until Slurm has warned it of a limit that was lowered: the machine may be fast or slow."""
    engine, log, long = shared_slurm(), tmp_path / "events", ["seed=0", "epochs=30"]
    words = on_slurm(*long, folder=tmp_path / "slurm", more=("--log-events", str(log)))
    driver = subprocess.Popen(words, stdout=sys.stderr)
    wait_until(lambda: log.exists() and "EpochEnded" in log.read_text(), "an epoch", 900)
    (number,) = engine.running()
    process = worker_process(number)
    assert process is not None
    os.kill(process, signal.SIGSTOP)
    minutes = int(engine.ask("squeue", "--noheader", f"--jobs={number}", "--Format=TimeLeft").partition(":")[0])
    engine.ask("scontrol", "update", f"JobId={number}", f"TimeLimit=-{minutes - 1}")
    wait_until(lambda: "ended (time limit)" in log.read_text(), "Slurm's warning, which lets a process go on", 180)
    wait_until(lambda: engine.states()[number] == "PENDING", "the worker's place in the queue")
    engine.ask("scontrol", "update", f"JobId={number}", "TimeLimit=60")
    assert driver.wait(1200) == 0
    assert '"resumed_at": 0' in log.read_text() and re.search(r'"resumed_at": [1-9]', log.read_text())
    assert records(tmp_path / "slurm") == here(*long, folder=tmp_path / "here")


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_ctrl_c_cancels_what_was_submitted_and_the_same_command_goes_on(tmp_path: Path) -> None:
    engine, settings = shared_slurm(), ["seed=[0, 1, 2]", "epochs=10"]
    words = on_slurm(*settings, folder=tmp_path / "slurm")
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: bool(records(tmp_path / "slurm")), "a record", 900)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130 and "the same command goes on" in process.communicate()[1]
    wait_until(lambda: not {"RUNNING", "PENDING"} & set(engine.states().values()), "the end of all jobs")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "slurm" / "results" / "records").rglob("*.json")}
    assert 1 <= len(before) < 3
    assert run_here(words).returncode == 0
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())
    assert records(tmp_path / "slurm") == here(*settings, folder=tmp_path / "here")


# ---- faults at random moments
def kill_worker(engine: Slurm, number: str) -> None:
    process = worker_process(number)
    if process is not None:
        subprocess.run(["kill", "-9", str(process)], check=False)


def warn_worker(engine: Slurm, number: str) -> None:
    """What Slurm does before its time limit."""
    engine.scancel("--signal=USR2", number)


def kill_slurmd(engine: Slurm, number: str) -> None:
    """Long enough that Slurm takes the node for lost, with all that runs there."""
    engine.kill("slurmd")
    wait_until(lambda: engine.node_state().startswith("down"), "a node that is down")
    engine.start_slurmd()


def kill_slurmctld(engine: Slurm, number: str) -> None:
    engine.kill("slurmctld")
    time.sleep(10)
    engine.start_slurmctld()


FAULTS: list[Callable[[Slurm, str], None]] = [
    kill_worker,
    lambda engine, number: engine.scancel(number),
    warn_worker,
    kill_slurmd,
    kill_slurmctld,
]


@pytest.mark.long
@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize(("settings", "faults"), [(SOME, 5), pytest.param(MANY, 25, id="many")])
def test_kills_and_other_faults_change_no_number(settings: list[str], faults: int, tmp_path: Path) -> None:
    """Each kind in turn, at random moments; a run that has failed by them is tried again by the same command."""
    engine, moments, done = shared_slurm(), random.Random(faults), 0
    undisturbed, folder = here(*settings, folder=tmp_path / "here"), 0
    while done < faults:
        folder += 1
        words = on_slurm(*settings, folder=tmp_path / str(folder))
        code = 1
        while code == 1:  # some run has lost two workers
            process = subprocess.Popen(words, stdout=sys.stderr)
            while process.poll() is None and done < faults:
                time.sleep(moments.uniform(0, 20))
                running = engine.running()
                if running and any((tmp_path / str(folder) / "work" / "slurm").rglob("*.events")):
                    FAULTS[done % len(FAULTS)](engine, moments.choice(running))
                    done += 1
                    print(f"{done} faults in {folder} folders", file=sys.stderr, flush=True)
            code = process.wait(3000)
        assert code == 0
        assert records(tmp_path / str(folder)) == undisturbed
