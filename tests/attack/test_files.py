"""5,000 damaged files over every format that the suite reads, and what it writes itself: checkpoints and records."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from benchmarks.config.run_config import configure
from benchmarks.records.record import RunRecord
from benchmarks.runner.checkpoint import CorruptFileError, load_checked, save_checked
from tests.helpers.commands import ROOT
from tests.helpers.damaged_files import GROWTH, READERS, SECONDS, damaged
from tests.helpers.records import record

pytestmark = pytest.mark.long
FIRST, EACH = 200, 500  # what an ordinary run has not read; of a process


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("part", range(10))
def test_5000_damaged_files(tmp_path: Path, part: int) -> None:
    """A codec that crashes, hangs or takes a gigabyte takes down a process of its own, whose last case is named."""
    cases = range(FIRST + part * EACH, FIRST + (part + 1) * EACH)
    words = [sys.executable, "-m", "tests.helpers.damaged_files", str(tmp_path), str(cases.start), str(cases.stop)]
    process = subprocess.run(
        words, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    last = tmp_path / "case"
    said = f"{last.read_text() if last.exists() else 'before the first case'}\n{process.stderr[-3000:]}"
    assert process.returncode == 0, said
    found = json.loads(process.stdout)
    print(json.dumps(found, indent=1, sort_keys=True))
    assert found["growth"] < GROWTH
    files = Counter[str]()
    for what, number in found["outcomes"].items():
        files[what.split()[0]] += number
    assert files.total() == EACH and files.keys() == READERS.keys()
    assert min(files.values()) >= EACH // len(READERS)  # every format has its share


def test_300_damaged_checkpoints(tmp_path: Path) -> None:
    """A checkpoint or an export is what was saved, or refused in a line before torch reads any of it."""
    path, cpu = tmp_path / "export.pt", torch.device("cpu")
    state = {"weight": torch.arange(300.0), "epoch": 3, "notes": ["a", 1.5]}
    save_checked(state, path)
    good = path.read_bytes()
    for case in range(300):
        path.write_bytes(damaged(good, case, b"cos\nsystem\n(S'touch canary'\ntR."))
        began = time.monotonic()
        try:
            found = load_checked(path, cpu)
            assert torch.equal(found.pop("weight"), state["weight"]) and found == {"epoch": 3, "notes": ["a", 1.5]}
        except CorruptFileError as error:
            assert "\n" not in str(error) and str(path) in str(error)
        assert time.monotonic() - began < SECONDS


def test_600_damaged_records(tmp_path: Path) -> None:
    """A record is what was saved, or refused in a line."""
    saved = record(configure({"method": "ogm_ge", "epochs": 4}))
    path = saved.save(tmp_path)
    good = path.read_bytes()
    if b'"digest"' not in good:
        pytest.skip("records carry no digest yet")
    for case in range(600):
        path.write_bytes(damaged(good, case, b'{"test": {"last": {"accuracy": 0.99}}}'))
        try:
            assert dataclasses.asdict(RunRecord.load(path)) == dataclasses.asdict(saved), case
        except ValueError as error:
            assert "\n" not in str(error) and str(path) in str(error), (case, str(error))
