"""The plug-in in somebody else's loop: three lines, nothing of the suite, the same bits as our own engine."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

import ogm
from ogm import Output
from tests.helpers.engines import TWO, build

ROOT = Path(__file__).resolve().parents[2]


def python(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], cwd=cwd, capture_output=True, text=True, timeout=120)


def test_the_example_needs_ogm_alone(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "ogm", tmp_path / "ogm")
    shutil.copy(ROOT / "examples" / "plugin.py", tmp_path)
    done = python("plugin.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "coefficient/audio" in done.stdout and "saved net, strategy" in done.stdout
    assert python("-c", "import models", cwd=tmp_path).returncode != 0


def test_the_package_is_ogm_and_nothing_else(tmp_path: Path) -> None:
    for name in ("ogm", "pyproject.toml", "README.md", "LICENSE", "models", "datasets", "benchmarks"):
        source = ROOT / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path)
    code = "from setuptools import build_meta; print(build_meta.build_wheel('out'))"
    (tmp_path / "out").mkdir()
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "out").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"ogm", "ogm_balance-0.1.0.dist-info"}
    assert {"ogm/py.typed", "ogm/strategies/ogm_ge.py"} <= set(names)


def test_importing_it_does_not_import_torch() -> None:
    code = "import sys, ogm, ogm.registry; assert 'torch' not in sys.modules, 'torch'"
    assert python("-c", code, cwd=ROOT).returncode == 0


def test_a_scaled_update_in_a_plain_loop() -> None:
    engine = build("vanilla")
    plan = ogm.create("ogm", alpha=0.8, target="update").attach(engine.model.encoders)
    optimizer = torch.optim.Adam(engine.model.parameters(), lr=0.01)
    batch = engine.loaders["train"].epoch(0)[0]  # type: ignore[index]
    before = {n: p.detach().clone() for n, p in engine.model.named_parameters()}
    output = engine.model(batch.inputs)
    with pytest.raises(ValueError, match="pass optimizer="):
        plan.backward(output, batch.label)
    optimizer.zero_grad()
    plan = ogm.create("ogm", alpha=0.8, target="update").attach(engine.model.encoders)
    plan.backward(engine.model(batch.inputs), batch.label, optimizer=optimizer)
    optimizer.step()
    k = {m: float(plan.logs[f"coefficient/{m}"]) for m in TWO}
    (slowed,) = [m for m in TWO if k[m] < 1]
    name = f"encoders.{slowed}.stages.0.0.weight"
    moved = dict(engine.model.named_parameters())[name].detach() - before[name]
    assert float(moved.abs().max()) == pytest.approx(0.01 * k[slowed], rel=1e-3)  # Adam's first step is its lr


def test_mistakes_are_named() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    with pytest.raises(ValueError, match="call attach first"):
        ogm.create("ogm").backward(Output(logits), torch.tensor([0, 1]))
    encoders = {m: nn.Linear(2, 2) for m in TWO}
    with pytest.raises(ValueError, match="needs the unimodal_logits"):
        ogm.create("ogm").attach(encoders).backward(Output(logits), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="did you mean 'ogm_ge'"):
        ogm.create("ogm_eg")
    with pytest.raises(ValueError, match="pass dims= and num_classes="):
        ogm.create("equal_weight_multiloss").attach(encoders)
