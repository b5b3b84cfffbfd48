"""What goes wrong in a run is said in one line, recorded, and does not take the other runs with it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import deque
from pathlib import Path

import pytest

from benchmarks.__main__ import main, read
from benchmarks.config.run_config import configure, parse
from benchmarks.runner.build import require_learnable
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.events import Event, RunFinished, RunStarted, Warned, ignore_event
from benchmarks.runner.experiment import resolve
from benchmarks.runner.failures import LostWorkers, how_it_ended, run_or_record_failure
from benchmarks.runner.plan import Job
from datasets.core.errors import DataError
from datasets.registry import load
from tests.helpers.commands import ROOT, SMALL, command, records, run_here

ENV = {**os.environ, "WANDB_MODE": "disabled"}
# A method that ends its first step by a statement of its own.
BROKEN = """
import os

from ogm.strategy import Strategy


class Broken(Strategy):
    category = "control"
    paper = "somebody"

    def __init__(self) -> None:
        super().__init__()

    def {where}(self, *args):
        {what}
"""


def broken(folder: Path, name: str, where: str, what: str) -> list[str]:
    """The flag for such a method."""
    path = folder / f"{name}.py"
    path.write_text(BROKEN.format(where=where, what=what))
    return ["--method-file", str(path)]


def statuses(folder: Path) -> dict[str, tuple[str, str]]:
    """method -> status and reason of its record."""
    return {r["config"]["method"]: (r["status"], r["reason"]) for r in records(folder)}


def test_faults_in_methods_are_failed_records_of_their_runs_alone(tmp_path: Path) -> None:
    flags = [
        *broken(tmp_path, "unreadable", "losses", "open('/nowhere/at/all')"),
        *broken(tmp_path, "needy", "prerequisites", "raise RuntimeError('no idea what it needs')"),
        *broken(tmp_path, "quitter", "losses", "os._exit(3)"),
    ]
    words = command("grid", "method=[unreadable, needy, quitter, vanilla]", "epochs=1", folder=tmp_path)
    made = run_here([*words, *flags, "--jobs", "2"])
    assert made.returncode == 1 and "4 runs: 1 done, 0 refused, 3 not made" in made.stdout, made.stderr
    assert "Traceback" not in made.stderr
    found = statuses(tmp_path)
    assert found["vanilla"] == ("done", "")
    for method, what in {"unreadable": "FileNotFoundError: ", "needy": "RuntimeError: no idea what it needs"}.items():
        status, reason = found[method]
        assert status == "failed" and reason.startswith(what) and "\n" not in reason
        where = Path(reason.rpartition("(see ")[2].removesuffix(")"))
        assert where.name == "error.txt" and "Traceback" in where.read_text() and f"{method}.py" in where.read_text()
    status, reason = found["quitter"]
    assert status == "failed" and "exit code 3" in reason and "memory" not in reason


def test_run_says_a_fault_as_a_grid_does(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    flags = broken(tmp_path, "faulty", "losses", "return 1 / 0")
    assert main([*command("run", "method=faulty", "epochs=1", folder=tmp_path)[3:], *flags]) == 1
    said = capfd.readouterr()
    assert "failed (ZeroDivisionError: division by zero (see " in said.out and "Traceback" not in said.err
    assert statuses(tmp_path)["faulty"][1].startswith("ZeroDivisionError")


@pytest.mark.parametrize("verb", ["run", pytest.param("grid", marks=pytest.mark.long)])
def test_records_that_cannot_be_written_end_everything_in_a_line_that_names_the_run(verb: str, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "records").write_text("a file where a folder is needed")
    said = run_here(
        command(verb, "method=vanilla" if verb == "run" else "method=[vanilla]", "epochs=1", folder=tmp_path)
    )
    (line,) = said.stderr.strip().splitlines()
    assert said.returncode == 2 and line.startswith("error: ") and str(tmp_path / "results" / "records") in line
    assert "vanilla" in line and "Not a directory" in line


def test_a_work_folder_that_cannot_be_written_fails_its_run(tmp_path: Path) -> None:
    config = configure(parse([*SMALL, "epochs=1"]))
    place = RunEnvironment(tmp_path / "results", tmp_path / "work")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / config.key).write_text("a file where a folder is needed")
    record = run_or_record_failure(config, place, on_event=ignore_event)
    assert record.status == "failed" and "Not a directory" in record.reason and str(place.work) in record.reason
    assert [r["status"] for r in records(tmp_path)] == ["failed"]


def test_a_run_that_loses_its_worker_is_tried_once_more_and_then_it_has_failed(tmp_path: Path) -> None:
    first, second = (configure(parse([*SMALL, f"seed={seed}"])) for seed in range(2))
    jobs = [Job(config.key, config.model_dump(mode="json")) for config in (first, second)]
    queue = deque([Job("waiting", {})])
    lost = LostWorkers(queue, RunEnvironment(tmp_path / "results", tmp_path / "work"))
    for job in jobs:
        warning = lost.lose(job, "node a was lost")
        assert isinstance(warning, Warned) and "node a was lost" in warning.text and queue[0] == job
    end = lost.lose(jobs[0], "killed by SIGKILL")
    assert isinstance(end, RunFinished) and end.record.status == "failed" and len(queue) == 3
    assert "node a was lost" in end.record.reason and "SIGKILL" in end.record.reason
    assert [r["reason"] for r in records(tmp_path)] == [end.record.reason]


@pytest.mark.parametrize(
    ("code", "words"),
    [(3, "exit code 3"), (-9, "killed by SIGKILL; out of memory?"), (-15, "killed by SIGTERM"), (-40, "signal 40")],
)
def test_how_a_process_ended(code: int, words: str) -> None:
    assert how_it_ended(code).endswith(words)


def test_a_failure_does_not_replace_a_finished_record(tmp_path: Path) -> None:
    config = configure(parse([*SMALL, "method=unimodal", "method_args.modality=audio", "epochs=1"]))
    place = RunEnvironment(tmp_path / "results", tmp_path / "work")
    made = run_or_record_failure(config, place, on_event=ignore_event)
    assert made.status == "done"

    def fails(event: Event) -> None:
        if isinstance(event, RunStarted):
            raise RuntimeError("no space for weights")

    again = run_or_record_failure(
        config, place, export=True, on_event=fails
    )  # its weights are asked for, and it fails on the way
    assert again.status == "failed" and "no space for weights" in again.reason
    kept = place.finished(resolve(config))
    assert kept is not None and kept.result_digest == made.result_digest


# ---- the last update, and data from which nothing can be learned
def test_a_run_whose_last_update_blows_up_has_diverged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [s.replace("num_train=128", "num_train=32") for s in SMALL]  # one batch: one update
    places = ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    assert main(["run", *settings, "epochs=1", "lr=1e30", *places]) == 1
    (record,) = records(tmp_path)
    assert record["status"] == "diverged" and "stopped being finite after epoch 0" in record["reason"]
    assert not record["test"] and "diverged" in capsys.readouterr().out


def test_one_sample_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [s.replace("num_train=128", "num_train=1").replace("batch_size=32", "batch_size=1") for s in SMALL]
    places = ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    assert main(["run", *settings, "epochs=1", *places]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "all 1 training samples are of the class" in line
    assert not records(tmp_path) and not list(tmp_path.rglob("*.pt"))


def test_splits_without_samples_or_classes_to_tell_apart_are_refused() -> None:
    data = load("synthav", {"num_train": 16, "num_val": 8, "num_test": 8})
    require_learnable("synthav", data)
    for split in ("train", "val", "test"):
        part = data.splits()[split]
        kept, part.ids = part.ids, []
        with pytest.raises(DataError, match=f"no sample in {split}"):
            require_learnable("synthav", data)
        part.ids = kept
    labels, data.train.labels = data.train.labels, [3] * 16
    with pytest.raises(DataError, match="all 16 training samples are of the class"):
        require_learnable("synthav", data)
    data.train.labels = labels


# ---- signals and flags
@pytest.mark.parametrize(
    ("verb", "number"),
    [
        pytest.param("run", signal.SIGTERM, marks=pytest.mark.long),
        pytest.param("grid", signal.SIGTERM, marks=pytest.mark.long),
        ("grid", signal.SIGHUP),
    ],
)
def test_signals_end_a_command_as_ctrl_c_does(verb: str, number: int, tmp_path: Path) -> None:
    """Sent to the whole group, as a terminal that is closed does, or a scheduler: workers may hear it first."""
    settings = ["method=ogm", "epochs=40"] if verb == "run" else ["method=[ogm, vanilla]", "epochs=40"]
    words = command(verb, *settings, folder=tmp_path)
    process = subprocess.Popen(words, cwd=ROOT, env=ENV, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while process.poll() is None and not list((tmp_path / "work").rglob("checkpoint.pt")):
        time.sleep(0.01)
    assert process.poll() is None, "it was over before it could be stopped: make it longer"
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err.strip() == "stopped; the same command goes on where this one was"
    for _ in range(500):  # nobody of its group is left
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.02)
    else:
        pytest.fail("a worker goes on")
    assert not records(tmp_path) and list((tmp_path / "work").rglob("checkpoint.pt"))


def test_settings_may_follow_flags() -> None:
    words = ["run", "--device", "cpu", "method=ogm", "--threads", "2", "seed=1", "--debug", "fusion=film"]
    args = read(words)
    assert args.command == "run" and args.settings == ["method=ogm", "seed=1", "fusion=film"]
    assert (args.device, args.threads, args.debug) == ("cpu", 2, True)
    assert read(["grid", "seed=[0,1]", "--jobs", "2", "method=ogm"]).settings == ["seed=[0,1]", "method=ogm"]
    assert read(["tables", "--method-file", "a.py", "folder"]).folder == Path("folder")


def test_absurd_numbers_of_threads_and_workers(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--threads", "--workers"):
        with pytest.raises(SystemExit) as stop:
            main(["run", flag, "1000000"])
        assert stop.value.code == 2
        assert re.search(f"{flag}: .*1000000.*256", capsys.readouterr().err)
