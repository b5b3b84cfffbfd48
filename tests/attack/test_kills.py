"""Grids with teachers, several on one folder, killed two hundred times: the records are those of an undisturbed one.

What is killed is a whole grid or one of its workers, at a random moment or right after a file has changed. Grids are
started from a server that has imported everything already, so that a kill seldom meets an import.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.commands import command, records, run_here, workers

SERVER = multiprocessing.get_context("forkserver")
FEW = ["method=[umt, ume]", "seed=[0]", "epochs=8"]
MANY = ["method=[umt, ume, g2d, kd_strong_to_weak, unimodal_pretrain_finetune]", "seed=[0, 1]", "epochs=15"]
PER_FOLDER = 25  # kills, after which what is left is made in peace
PATIENCE = 300  # seconds without any change in a folder, after which a grid hangs


def words(settings: list[str], folder: Path) -> list[str]:
    return [*command("grid", *settings, folder=folder), "--jobs", "1"]


def grid(settings: list[str], folder: Path, log: Path) -> None:
    """A grid, as the command line starts it, in a group of its own."""
    os.setsid()
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ["WANDB_MODE"] = "disabled"
    from benchmarks.__main__ import main

    sys.exit(main(words(settings, folder)[3:]))


def changes(folder: Path) -> dict[Path, int]:
    found = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            found[path] = path.stat().st_mtime_ns
    return found


class Attack:
    """Several grids on one folder, of which some are killed again and again."""

    def __init__(self, settings: list[str], folder: Path, processes: int, moments: random.Random) -> None:
        self.settings, self.folder, self.moments = settings, folder, moments
        self.log = folder / "log"
        self.team = [self.start() for _ in range(processes)]
        self.kills = {"grids": 0, "workers": 0}

    def start(self) -> multiprocessing.process.BaseProcess:
        process = SERVER.Process(target=grid, args=(self.settings, self.folder, self.log))
        process.start()
        return process

    def go_on(self) -> bool:
        """Wait for a moment to kill at, and kill; False once a grid has ended by itself."""
        if self.moments.random() < 0.2:
            time.sleep(self.moments.uniform(0, 2))
        else:
            before, since = changes(self.folder), time.monotonic()
            while changes(self.folder) == before and all(p.exitcode is None for p in self.team):
                assert time.monotonic() - since < PATIENCE, f"nothing has changed in {self.folder}: it hangs"
                time.sleep(0.005)
            time.sleep(self.moments.uniform(0, 0.3))
        if any(p.exitcode is not None for p in self.team):
            return False
        number = len(self.team) if self.moments.random() < 0.1 else 1
        for at in self.moments.sample(range(len(self.team)), number):
            process = self.team[at]
            assert process.pid is not None
            some = workers(process.pid)
            if some and self.moments.random() < 0.3:
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(self.moments.choice(some), signal.SIGKILL)
                    self.kills["workers"] += 1
                continue
            process.kill()
            process.join(PATIENCE)
            assert process.exitcode is not None
            if process.exitcode == -signal.SIGKILL:
                self.kills["grids"] += 1
            self.team[at] = self.start()
        return True

    def __enter__(self) -> Attack:
        return self

    def __exit__(self, *error: object) -> None:
        """Whatever has gone wrong, nobody is left."""
        for process in self.team:
            process.kill()
            process.join()

    def end(self) -> None:
        """Let all come to their own end."""
        for process in self.team:
            process.join(2 * PATIENCE)
            assert process.exitcode in (0, 1), f"it hangs or is broken ({process.exitcode}): {self.log.read_text()}"


@pytest.mark.timeout(3 * 3600)  # what hangs is noticed by PATIENCE
@pytest.mark.parametrize(
    ("settings", "processes", "kills"),
    [
        pytest.param(FEW, 2, 4, marks=pytest.mark.long),
        pytest.param(MANY, 2, 100, marks=pytest.mark.long),
        pytest.param(MANY, 4, 100, marks=pytest.mark.long),
    ],
)
def test_kills_change_no_number(settings: list[str], processes: int, kills: int, tmp_path: Path) -> None:
    undisturbed = tmp_path / "undisturbed"
    made = run_here(words(settings, undisturbed))
    assert made.returncode == 0, made.stderr
    SERVER.set_forkserver_preload(
        [
            "benchmarks.__main__",
            "benchmarks.runner.schedule",
            "benchmarks.executors.local",
            "benchmarks.config.suite",
            "datasets.synthav",
        ]
    )
    moments, total, folders = random.Random(processes), {"grids": 0, "workers": 0}, 0
    began = time.monotonic()
    while sum(total.values()) < kills:
        folder = tmp_path / str(folders)
        folder.mkdir()
        wanted = min(PER_FOLDER, kills - sum(total.values()))
        with Attack(settings, folder, processes, moments) as attack:
            while sum(attack.kills.values()) < wanted and attack.go_on():
                pass
            attack.end()
        last = run_here(words(settings, folder))  # a run whose worker was killed is tried again
        assert last.returncode == 0 and "0 refused, 0 not made" in last.stdout, last.stderr
        assert records(folder) == records(undisturbed)
        assert not list(folder.rglob("*.part"))
        assert "Traceback" not in attack.log.read_text(), attack.log.read_text()
        total = {what: n + attack.kills[what] for what, n in total.items()}
        folders += 1
        print(
            f"{processes} processes: {total} killed in {folders} folders, {time.monotonic() - began:.0f} s", flush=True
        )
