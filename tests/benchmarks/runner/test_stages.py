"""Runs that build on runs: made once, shared, recorded, gone on with after a kill, and not made in vain."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.config.run_config import RunConfig, configure, parse
from benchmarks.config.suite import compare, competing
from benchmarks.records.predictions import curve_scores
from benchmarks.runner.build import build
from benchmarks.runner.checkpoint import load_checked
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.experiment import resolve
from benchmarks.runner.metrics import predict
from tests.helpers.commands import ROOT, SMALL, command, records, run_here, run_process

ENV = {**os.environ, "WANDB_MODE": "disabled"}
# A method that builds on one that builds on others itself.
CHAINED = '''
"""Starts where pre-trained and fine-tuned encoders ended."""

from ogm.parts.teachers import load_encoders
from ogm.strategy import Strategy
from ogm.types import Prerequisite


class Chained(Strategy):
    category = "stage"
    paper = "somebody"

    def __init__(self) -> None:
        super().__init__()

    def prerequisites(self, modalities):
        return {"all": Prerequisite("unimodal_pretrain_finetune")}

    def setup(self):
        load_encoders(self._encoders, dict(self._trained["all"].encoders))
'''


def all_records(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """method -> its records."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((folder / "results" / "records").rglob("*.json")):
        record = json.loads(path.read_text())
        found.setdefault(record["config"]["method"], []).append(record)
    return found


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every method in stages, and a chain of three, in one grid."""
    folder = tmp_path_factory.mktemp("staged")
    (folder / "chained.py").write_text(CHAINED)
    methods = "umt, g2d, di_mml, kd_strong_to_weak, ssl_pretrain, unimodal_pretrain_finetune, chained"
    words = command("grid", f"method=[{methods}]", "fusion=[sum]", "epochs=3", folder=folder)
    made = run_here([*words, "--method-file", str(folder / "chained.py"), "--jobs", "2"])
    assert made.returncode == 0, made.stderr
    assert "12 runs: 12 done" in made.stdout  # 7 asked for, 2 teachers, 2 without labels, 1 that one builds on
    return folder


def test_stages_are_made_once_and_shared(staged: Path) -> None:
    found = all_records(staged)
    assert {method: len(some) for method, some in found.items()} == {
        **dict.fromkeys(("umt", "g2d", "di_mml", "kd_strong_to_weak", "ssl_pretrain", "chained"), 1),
        "unimodal_pretrain_finetune": 2,  # the one asked for, with sum; the one that a run builds on, with concat
        "unimodal": 2,
        "ssl_unimodal": 2,
    }
    for method in ("unimodal", "ssl_unimodal"):
        for teacher in found[method]:
            asked = found["umt"][0]["config"]
            same = ("seed", "epochs", "optimizer", "lr", "schedule", "batch_size", "encoders", "dataset_args")
            assert all(teacher["config"][k] == asked[k] for k in same)
            assert teacher["config"]["fusion"] == "concat" and not teacher["config"]["files"]
    before = sum(r["cost"]["seconds"] for r in found["unimodal"])
    cost = found["umt"][0]["cost"]
    assert cost["seconds_before"] == pytest.approx(before)
    assert (cost["steps"], cost["steps_before"]) == (3 * 4, 2 * 3 * 4)  # epochs x batches, of two teachers
    assert cost["process_seconds"] > 0 and cost["process_seconds_before"] > 0
    assert cost["parameters"] == found["g2d"][0]["cost"]["parameters"] > 1000
    assert found["di_mml"][0]["cost"]["seconds_before"] == found["di_mml"][0]["cost"]["steps_before"] == 0


def test_curves_have_an_entry_for_every_epoch(staged: Path) -> None:
    for some in all_records(staged).values():
        for record in some:
            assert {len(curve) for curve in record["curves"].values()} == {3}, record["config"]["method"]


def test_the_exported_weights_are_those_of_their_epoch(staged: Path) -> None:
    for record in all_records(staged)["unimodal"]:
        config = RunConfig(**record["config"])
        place = RunEnvironment(staged / "results", staged / "work")
        made = place.finished(resolve(config), export=True)
        assert made is not None
        left = load_checked(place.export_path(resolve(config), made), torch.device("cpu"))
        for at in ("last", "val_best"):
            engine = build(resolve(config))
            engine.strategy.export(engine.model).load_state_dict(left[at])
            assert curve_scores(predict(engine, "test"))["accuracy"] == record["test"][at]["accuracy"]


def test_work_is_left_only_where_something_builds_on_it(staged: Path) -> None:
    kept = {path.parts[-3] for path in (staged / "work").rglob("export*.pt")}
    needed_by_others = [*all_records(staged)["unimodal"], *all_records(staged)["ssl_unimodal"]]
    assert {r["key"] for r in needed_by_others} <= kept
    assert not {r["key"] for r in all_records(staged)["umt"]} & kept
    assert not [path for name in ("checkpoint.pt", "best.pt") for path in (staged / "work").rglob(name)]


def test_asking_again_makes_nothing(staged: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (staged / "results").rglob("*.json")}
    again = run_here(command("grid", "method=[umt, g2d]", "fusion=[sum]", "epochs=3", folder=staged))
    assert again.returncode == 0 and "2 runs: 2 done" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in (staged / "results").rglob("*.json")} == before


def test_a_teacher_that_fails_is_not_tried_again_by_each_student(tmp_path: Path) -> None:
    words = command("grid", "method=[umt, g2d, unimodal_pretrain_finetune]", "epochs=2", "lr=1e30", folder=tmp_path)
    made = run_here([*words, "--jobs", "1"])
    assert made.returncode == 1 and "5 runs: 0 done, 0 refused, 5 not made" in made.stdout
    found = all_records(tmp_path)
    assert {r["status"] for r in found["unimodal"]} == {"diverged"}
    for method in ("umt", "g2d", "unimodal_pretrain_finetune"):
        (record,) = found[method]
        assert record["status"] == "failed" and record["reason"].startswith("builds on")
        assert "which diverged: the loss stopped being finite" in record["reason"] and "\n" not in record["reason"]


@pytest.mark.long
def test_a_killed_run_in_stages_ends_in_the_same_record(tmp_path: Path) -> None:
    """Killed among its teachers, and while it fuses."""
    settings = ("method=kd_strong_to_weak", "epochs=10")
    assert run_here(command("run", *settings, folder=tmp_path / "whole")).returncode == 0
    words = command("run", *settings, folder=tmp_path / "killed")
    own = configure(parse([*SMALL, *settings])).key
    for stage in ("teacher", "fuse"):
        process = subprocess.Popen(words, cwd=ROOT, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        work = tmp_path / "killed" / "work"
        while process.poll() is None:
            if stage == "teacher" and any(p.parts[-3] != own for p in work.rglob("checkpoint.pt")):
                break
            if stage == "fuse" and max(map(epoch, (work / own).rglob("checkpoint.pt")), default=0) >= 8:
                break
            time.sleep(0.002)
        assert process.poll() is None, f"it was over before it could be killed in stage {stage}"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run_here(words).returncode == 0
    assert records(tmp_path / "killed") == records(tmp_path / "whole")


@pytest.mark.long
def test_two_processes_build_on_the_same_teachers(tmp_path: Path) -> None:
    settings = ("method=kd_strong_to_weak", "epochs=3", "precision=fp64")
    ranks = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    one = run_here(command("run", *settings, folder=tmp_path / "one"))
    two = run_process(command("run", *settings, folder=tmp_path / "two", more=ranks), OMP_NUM_THREADS="1")
    assert one.returncode == two.returncode == 0, two.stderr
    for a, b in zip(records(tmp_path / "one"), records(tmp_path / "two"), strict=True):
        assert a["test"].keys() == b["test"].keys() and a["selected"] == b["selected"] and a["probe"] == b["probe"]
        for name, curve in a["curves"].items():
            for x, y in zip(curve, b["curves"][name], strict=True):
                assert x == y or x == pytest.approx(y, abs=1e-10), name


def epoch(checkpoint: Path) -> int:
    """How far a run has got; 0 where it has not begun, or is over."""
    try:
        return int(load_checked(checkpoint, torch.device("cpu"))["engine"]["epoch"])
    except FileNotFoundError:
        return 0


def test_pre_training_is_no_competitor() -> None:
    labels = {row.label for row in compare({"dataset": "synthav"}, competing(["all"]), 1).tables[0].rows}
    assert {"umt", "ssl_pretrain", "audio only"} <= labels
    assert not labels & {"ssl_unimodal", "ssl_crossmodal"}


def test_needs_follow_from_the_configuration_alone() -> None:
    config = configure({"dataset": "avmnist", "method": "ssl_pretrain", "fusion": "film", "optimizer": "adamw"})
    prerequisites = resolve(config).prerequisites
    assert set(prerequisites) == {"audio", "visual"}
    for m, prerequisite in prerequisites.items():
        run = prerequisite.experiment.config
        assert run.method == "ssl_unimodal" and run.optimizer == "adamw" and run.epochs == config.epochs
        assert run.method_args == {"modality": m, "objective": "simclr", "kinds": {"visual": "image"}}
    assert {p.at for p in prerequisites.values()} == {"last"}
    teachers = resolve(configure({"dataset": "avmnist", "method": "umt"})).prerequisites
    assert {n.at for n in teachers.values()} == {"val_best"}
    one = resolve(configure({"dataset": "avmnist", "method": "ume"})).prerequisites
    other = resolve(configure({"dataset": "avmnist", "method": "kd_strong_to_weak", "fusion": "gated"})).prerequisites
    assert {m: p.experiment.key for m, p in one.items()} == {m: p.experiment.key for m, p in other.items()}
