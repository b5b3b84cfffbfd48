"""Every example in examples/trainers runs as it stands, with the real library, and has the plain loop's gradients."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(p.stem for p in (ROOT / "examples" / "trainers").glob("*.py") if p.stem != "two_encoders")
LIBRARY = {
    "with_accelerate": "accelerate",
    "with_ignite": "ignite",
    "with_lightning": "lightning",
    "with_lightning_manual": "lightning",
    "with_transformers": "transformers",
}
IN_HALF = {"plain_amp"}  # its forward pass rounds to float16
# Its own sampler for several processes shuffles, whatever the loader's does.
LIGHTNING_IN_TWO = {
    "import torch\n": "import os\nimport torch\nfrom torch.utils.data.distributed import DistributedSampler\n",
    'accelerator="cpu"': 'accelerator="cpu", devices=2, strategy="ddp", use_distributed_sampler=False',
    'DataLoader(samples("train"), 20)': (
        'DataLoader(samples("train"), 10, sampler=DistributedSampler('
        'samples("train"), 2, int(os.environ.get("LOCAL_RANK", 0)), shuffle=False))'
    ),
}

# Runs an example as a script, and keeps what every optimizer step found in .grad, in the order of its parameters.
DRIVER = """
import os, runpy, sys, torch
from torch.optim.optimizer import register_optimizer_step_post_hook
torch.set_num_threads(1)
steps = []
register_optimizer_step_post_hook(
    lambda optimizer, *_: steps.append([p.grad.clone() for g in optimizer.param_groups for p in g["params"]])
)
net = runpy.run_path(sys.argv[1], run_name="__main__")["net"]
if os.environ.get("LOCAL_RANK", "0") == "0":
    torch.save({"steps": steps, "net": [p.detach() for p in net.parameters()]}, sys.argv[2])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plug-in and the examples alone: beside the suite, transformers takes its datasets/ for Hugging Face's."""
    folder = tmp_path_factory.mktemp("trainers")
    shutil.copytree(ROOT / "ogm", folder / "ogm")
    shutil.copytree(ROOT / "examples" / "trainers", folder / "trainers")
    (folder / "driver.py").write_text(DRIVER)
    return folder


def run(folder: Path, example: str, *launcher: str) -> tuple[dict[str, Any], str]:
    saved = folder / f"{example}.pt"
    places = {"PYTHONPATH": os.pathsep.join([str(folder), str(folder / "trainers")]), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, *launcher, str(folder / "driver.py"), str(folder / "trainers" / f"{example}.py"), str(saved)],
        cwd=folder,
        env={**os.environ, **places, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return torch.load(saved), done.stdout


def skip_without_library(example: str) -> None:
    if example in LIBRARY and importlib.util.find_spec(LIBRARY[example]) is None:
        pytest.skip(f"{LIBRARY[example]} is not installed")


@pytest.fixture(scope="module")
def plain(folder: Path) -> dict[str, Any]:
    return run(folder, "plain_loop")[0]


@pytest.mark.parametrize("example", [name for name in EXAMPLES if name != "plain_loop"])
def test_an_example_has_the_gradients_of_the_plain_loop(example: str, folder: Path, plain: dict[str, Any]) -> None:
    skip_without_library(example)
    made, printed = run(folder, example)
    assert len(plain["steps"]) == len(made["steps"]) == 18
    close = {"rtol": 0, "atol": 2e-3 if example in IN_HALF else 1e-6}
    for theirs, ours in zip(made["steps"], plain["steps"], strict=True):
        torch.testing.assert_close(theirs, ours, **close)
    torch.testing.assert_close(made["net"], plain["net"], **close)
    assert any(float(g.abs().max()) > 0.01 for g in plain["steps"][-1])
    numbers = dict(re.findall(r"([\w/]+) (\d\.\d+)", printed))
    assert {"accuracy", "accuracy/audio", "discrepancy_ratio/visual", "shapley/audio"} <= numbers.keys()
    assert float(numbers["accuracy"]) > 0.5


@pytest.mark.long
@pytest.mark.parametrize(
    ("example", "changes", "launcher"),
    [
        ("with_lightning", LIGHTNING_IN_TWO, []),
        (
            "with_transformers",
            {"batch_size=20": "batch_size=10"},
            ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"],
        ),
    ],
)
def test_two_processes_are_one(
    example: str, changes: dict[str, str], launcher: list[str], folder: Path, plain: dict[str, Any]
) -> None:
    skip_without_library(example)
    text = (folder / "trainers" / f"{example}.py").read_text("utf-8")
    for old, new in changes.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    (folder / "trainers" / "two_processes.py").write_text(text)
    made, _ = run(folder, "two_processes", *launcher)
    torch.testing.assert_close(made["net"], plain["net"], rtol=0, atol=1e-6)


def test_examples_are_short() -> None:
    assert "plain_loop" in EXAMPLES and LIBRARY.keys() <= set(EXAMPLES)
    lengths = {p.name: len(p.read_text("utf-8").splitlines()) for p in (ROOT / "examples" / "trainers").glob("*.py")}
    assert {name: n for name, n in lengths.items() if n > 40} == {}


def test_every_library_of_an_example_is_an_extra_with_one_version() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for library in set(LIBRARY.values()):
        assert all(re.fullmatch(r"[\w-]+==[\d.]+", line) for line in extras[library]), library
