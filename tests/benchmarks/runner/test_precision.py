"""A run's precision is what it says: on a GPU, fp32 is not TF32 where torch's default would have it so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.config.run_config import configure, parse
from benchmarks.runner.build import allow_tf32
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.run import run
from tests.helpers.commands import SMALL


@pytest.fixture(autouse=True)
def torch_settings() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.backends.cudnn.allow_tf32 = True  # torch's default
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True


def allowed() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def test_tf32_is_allowed_and_forbidden_in_convolutions_and_products() -> None:
    allow_tf32(True)
    assert allowed() == (True, True)
    allow_tf32(False)
    assert allowed() == (False, False)


def test_a_run_forbids_tf32_and_on_a_processor_tf32_is_fp32(tmp_path: Path) -> None:
    scores = {}
    for precision in ("fp32", "tf32"):
        allow_tf32(True)
        config = configure(parse([*SMALL, "epochs=1", f"precision={precision}"]))
        scores[precision] = run(config, RunEnvironment(tmp_path, tmp_path / "work")).scores
        assert allowed() == (False, False)
    assert scores["fp32"] == scores["tf32"]
