"""Grids on a real Ray cluster: the records of this machine, whatever is killed, and one line for what is wrong."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.runner.events import EpochEnded, Event, RunFinished, Warned
from benchmarks.runner.experiment import resolve_all
from benchmarks.runner.schedule import carry_out, plan_grid
from tests.benchmarks.executors.test_contract import config, environment
from tests.helpers.commands import ROOT, command, records, run_here
from tests.helpers.ray_clusters import add_node, ray_executor, shared_cluster, start_cluster

GRID = ["method=[umt, vanilla]", "seed=[0]", "epochs=2"]  # umt builds on two runs
MANY = ["method=[umt, ume, g2d]", "seed=[0, 1]", "epochs=15"]


def on_cluster(folder: Path, *more: str) -> list[str]:
    """The command line of the grid on the shared cluster."""
    words = command("grid", *GRID, folder=folder)
    return [*words, "--executor", "ray", "--address", shared_cluster(), "--jobs", "2", *more]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The grid, made by processes of this machine."""
    folder = tmp_path_factory.mktemp("local")
    made = run_here([*command("grid", *GRID, folder=folder), "--jobs", "2"])
    assert made.returncode == 0, made.stderr
    return folder


def logits(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("logits/**/*.npz")}


@pytest.mark.parametrize("shared", [False, True], ids=["no shared folder", "shared folders"])
def test_the_records_of_a_cluster_are_those_of_this_machine(
    shared: bool, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = on_cluster(tmp_path)
    from benchmarks.executors import ray_cluster

    if not shared:
        monkeypatch.setattr(ray_cluster._Worker, "_sees", lambda worker, *folders: [False for _ in folders])
    made = run_here(words)
    assert made.returncode == 0 and "4 done" in made.stdout, made.stderr
    assert records(tmp_path) == records(local) and logits(tmp_path) == logits(local)
    assert not list(tmp_path.rglob(".shared-*"))
    again = run_here(command("grid", *GRID, folder=tmp_path))
    assert "2 of 2 runs are already recorded" in again.stdout


def test_another_version_is_refused_or_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = on_cluster(tmp_path)
    from benchmarks.executors import remote

    here = {**remote.versions(), "torch": "1.0"}
    monkeypatch.setattr(remote, "versions", lambda: here)
    refused = run_here(words)
    assert refused.returncode == 2 and not records(tmp_path)
    (line,) = refused.stderr.splitlines()
    assert "torch" in line and "1.0 here" in line and "--allow-mixed" in line
    allowed = run_here([*words, "--allow-mixed"])
    assert allowed.returncode == 0, allowed.stderr


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--cpus-per-run", "1000"], "no machine of the cluster has room"),
        (["--device", "cuda:1"], "give --device cuda"),
        (["--device", "cpu", "--gpus-per-run", "1"], "leave --gpus-per-run out"),
    ],
)
def test_what_cannot_be_is_one_line(flags: list[str], why: str, tmp_path: Path) -> None:
    words = [word for word in on_cluster(tmp_path, *flags) if word not in ("--jobs", "2")]
    done = run_here(words)
    assert done.returncode == 2 and not records(tmp_path)
    (line,) = done.stderr.splitlines()
    assert why in line


def test_a_worker_that_dies_once_costs_nothing(tmp_path: Path) -> None:
    executor: Any = ray_executor(environment(tmp_path))
    grid = plan_grid(resolve_all([config("epochs=3"), config("epochs=3", "seed=1")]), environment(tmp_path))
    killed: list[str] = []
    events: list[Event] = []

    def kill_first(event: Event) -> None:
        events.append(event)
        if isinstance(event, EpochEnded) and not killed:
            killed.append(event.key)
            (process,) = [w.process for w in executor._workers if w.job is not None and w.job.key == event.key]
            os.kill(process, signal.SIGKILL)

    made = carry_out(grid, environment(tmp_path), executor, kill_first)
    assert [record.status for record in made] == ["done", "done"] and killed
    (warning,) = [event for event in events if isinstance(event, Warned)]
    assert warning.key == killed[0] and "tried once more" in warning.text
    assert len([event for event in events if isinstance(event, RunFinished)]) == 2


@pytest.mark.long
def test_a_node_that_is_lost_costs_its_runs_one_more_try(local: Path, tmp_path: Path) -> None:
    """The workers of the node have no folder in common with the driver, so that its runs begin again elsewhere."""
    cluster, nodes = start_cluster(3)
    from benchmarks.executors.ray_cluster import RayExecutor, _Worker

    here = environment(tmp_path)
    executor = RayExecutor(here, None, needs={"CPU": 1}, address=str(cluster.address))
    assert executor.slots == 3
    configs = [config("method=umt", "epochs=2"), *(config("epochs=30", f"seed={seed}") for seed in range(4))]
    killed: list[int] = []
    warned: list[str] = []

    def kill_a_node(event: Event) -> None:
        warned.extend([event.text] if isinstance(event, Warned) else [])
        if isinstance(event, EpochEnded) and event.epoch == 5 and not killed:
            killed.append(1)
            (worker,) = [w for w in executor._workers if w.job is not None and w.job.key == event.key]
            (node,) = [n for n in nodes if _is_above(n.all_processes["raylet"][0].process.pid, worker.process)]
            cluster.remove_node(node, allow_graceful=False)

    monkey = pytest.MonkeyPatch()
    with monkey.context() as patched:
        patched.setattr(_Worker, "_sees", lambda worker, *folders: [False for _ in folders])
        made = carry_out(plan_grid(resolve_all(configs), here), here, executor, kill_a_node)
    assert killed and warned and all(record.status == "done" for record in made), made
    alone = environment(tmp_path / "alone")
    from benchmarks.executors.local import LocalExecutor

    carry_out(plan_grid(resolve_all(configs), alone), alone, LocalExecutor(alone, 2), lambda event: None)
    assert records(tmp_path) == records(tmp_path / "alone")


def kill_worker(cluster: Any, moments: random.Random) -> bool:
    """Kill a process that makes runs, on any node; False where there is none."""
    raylets = [node.all_processes["raylet"][0].process.pid for node in cluster.worker_nodes]
    making = [pid for pid in ray_workers() if any(_is_above(raylet, pid) for raylet in raylets)]
    if making:
        os.kill(moments.choice(making), signal.SIGKILL)
    return bool(making)


def kill_node(cluster: Any, moments: random.Random) -> bool:
    """Kill a node with all that runs there, also what later runs build on, and add another one."""
    cluster.remove_node(moments.choice(sorted(cluster.worker_nodes, key=id)), allow_graceful=False)
    add_node(cluster)
    return True


def ray_workers() -> list[int]:
    """The processes on this machine that Ray has started for our workers."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if (entry / "cmdline").read_bytes().startswith(b"ray::Worker"):
                found.append(int(entry.name))
    return found


@pytest.mark.long
@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize("kills", [3, pytest.param(60, id="many")])
def test_kills_change_no_number(kills: int, tmp_path: Path) -> None:
    """Workers, nodes and the driver in turn, at random moments; the same command goes on after each driver."""
    cluster, _ = start_cluster(2)
    moments, done, folder = random.Random(kills), Counter[str](), 0
    words = command("grid", *MANY, folder=tmp_path / "alone")
    alone = run_here([*words, "--jobs", "2", "--log", "none"])
    assert alone.returncode == 0, alone.stderr
    while done.total() < kills:
        folder, code = folder + 1, 1
        words = [*command("grid", *MANY, folder=tmp_path / str(folder)), "--log", "none"]
        while code:  # the driver was killed, or some run has lost two workers
            driver = subprocess.Popen([*words, "--executor", "ray", "--address", cluster.address], cwd=ROOT)
            while driver.poll() is None and done.total() < kills:
                time.sleep(moments.uniform(0, 15))
                kind = ("worker", "node", "driver")[done.total() % 3]
                if kind == "driver":
                    driver.kill()
                elif not (kill_worker if kind == "worker" else kill_node)(cluster, moments):
                    continue
                done[kind] += 1
                print(f"killed in {folder} folders: {dict(done)}", file=sys.stderr, flush=True)
            code = driver.wait(1200)
            assert code in (0, 1, -signal.SIGKILL)
        assert records(tmp_path / str(folder)) == records(tmp_path / "alone")


def _is_above(ancestor: int, process: int) -> bool:
    """Whether one process has started the other, or its parents."""
    while process > 1 and process != ancestor:
        status = Path(f"/proc/{process}/status").read_text()
        process = int(next(line for line in status.splitlines() if line.startswith("PPid:")).split()[1])
    return process == ancestor


@pytest.mark.long
def test_ctrl_c_loses_no_finished_run_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """With a cluster of its own, which ends with it."""
    pytest.importorskip("ray", reason="Ray is not installed")
    words = [*command("grid", "seed=[0, 1, 2, 3]", "epochs=20", folder=tmp_path), "--executor", "ray", "--jobs", "2"]
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )
    until = time.monotonic() + 240
    while not records(tmp_path):
        assert time.monotonic() < until and process.poll() is None, process.communicate()
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err, (out, err)
    before = records(tmp_path)
    again = run_here(words)
    assert again.returncode == 0 and f"{len(before)} of 4 runs are already recorded" in again.stdout, again.stderr
    assert len(records(tmp_path)) == 4 and all(record in records(tmp_path) for record in before)
