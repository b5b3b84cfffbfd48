"""3,000 damaged files over every format that the suite reads, and what it writes itself: checkpoints and records."""

from __future__ import annotations

import dataclasses
import json
import resource
import time
from pathlib import Path

import pytest
import torch

from benchmarks.config.run_config import configure
from benchmarks.records.record import RunRecord
from benchmarks.runner.checkpoint import CorruptFileError, load_checked, save_checked
from tests.datasets.test_damaged_files import SECONDS, damaged, put_through
from tests.helpers.records import record

pytestmark = pytest.mark.long
GROWTH = 400  # MB that the process may need more after many files than after some


@pytest.mark.timeout(3000)
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_3000_damaged_files(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    outcomes = put_through(tmp_path, range(150, 650))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes += put_through(tmp_path, range(650, 3150))
    print(json.dumps(dict(sorted(outcomes.items())), indent=1))
    assert outcomes.total() == 3000
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < GROWTH


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
