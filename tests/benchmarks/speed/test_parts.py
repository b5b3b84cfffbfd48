"""Parts of a bench: each measurement has rows or a reason, and what a part has started ends with its time."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from benchmarks.speed.parts import NO_TIME, Measurements, Part, Rows, carry_out, deadlines

ENOUGH = 240.0  # seconds, for the processes of a busy machine


def number() -> Rows:
    return {"a": {"x": 1.5, "y": None}}


def fails() -> Rows:
    raise RuntimeError("this device\nlacks the operation")


def some(asked: str) -> Measurements:
    return {"first": fails, asked: number}


def dies(asked: str) -> Measurements:
    return {"first": number, "second": lambda: os._exit(3), "third": number}


def no_plan(asked: str) -> Measurements:
    raise ValueError("no data")


class Endless:
    """A measurement that starts another process and never ends."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self) -> Rows:
        self.file.write_text(str(subprocess.Popen(["sleep", "600"]).pid))
        threading.Event().wait()
        raise AssertionError


def endless(asked: str) -> Measurements:
    return {"first": number, "second": Endless(Path(asked)), "third": number}


def test_every_measurement_has_rows_or_a_reason() -> None:
    outcome = carry_out(Part("some", "Some", 1, some), "last", ENOUGH)
    assert outcome.rows == number()
    assert outcome.left_out == {"first": "RuntimeError: this device lacks the operation"}
    assert outcome.seconds > 0


def test_a_process_that_dies_costs_what_it_had_not_measured() -> None:
    outcome = carry_out(Part("dies", "Dies", 1, dies), "", ENOUGH)
    assert outcome.rows == number()
    assert outcome.left_out == dict.fromkeys(("second", "third"), "its process ended with code 3")


def test_without_a_plan_everything_is_left_out() -> None:
    assert carry_out(Part("no", "No", 1, no_plan), "", ENOUGH).left_out == {"everything": "ValueError: no data"}


def test_what_has_no_time_is_named_and_ends_with_all_that_it_started(tmp_path: Path) -> None:
    part, file = Part("endless", "Endless", 1, endless), tmp_path / "pid"
    for limit in (4.0, 30.0, ENOUGH):  # on a busy machine the process may not be there yet
        outcome = carry_out(part, str(file), limit)
        if file.exists() and file.read_text():
            break
    assert outcome.rows == number()
    assert outcome.left_out == dict.fromkeys(("second", "third"), NO_TIME)
    assert is_gone(int(file.read_text()))


def is_gone(pid: int) -> bool:
    """Whether a process has ended, or does so at once; one that nobody has waited for yet counts, too."""
    status = Path(f"/proc/{pid}/stat")
    for _ in range(100):
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


def test_what_a_part_leaves_over_the_next_may_use() -> None:
    parts = [Part(name, name, share, some) for name, share in (("a", 3), ("b", 4.5), ("c", 1))]
    assert deadlines(parts) == pytest.approx([3, 7.5, 8.5])
