"""wandb is a mirror: what it shows is ours, and whatever happens to it, a run ends in the same record."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.helpers.commands import command, records, run_here, run_process
from tests.helpers.disks import mounted

SETTINGS = ("method=ogm_ge", "epochs=2")


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("without")
    assert run_here(command("run", *SETTINGS, folder=folder)).returncode == 0
    assert not (folder / "work" / "wandb").exists()
    return folder


def test_offline_by_default(tmp_path: Path, without: Path) -> None:
    said = run_process(command("run", *SETTINGS, folder=tmp_path), WANDB_MODE="offline")
    assert said.returncode == 0 and "warning" not in said.stderr, said.stderr
    assert records(tmp_path) == records(without)
    (file,) = (tmp_path / "work" / "wandb").rglob("run-*.wandb")
    content = file.read_bytes()
    for word in (b"synthav concat ogm_ge", b"discrepancy_ratio", b"val/accuracy", b"method_args", b"ogm-bench"):
        assert word in content, word


@pytest.mark.long
def test_no_key(tmp_path: Path, without: Path) -> None:
    words = command("run", *SETTINGS, folder=tmp_path)
    said = run_process(
        words, WANDB_MODE="online", WANDB_API_KEY="", HOME=str(tmp_path), WANDB_BASE_URL="http://127.0.0.1:9"
    )
    assert said.returncode == 0 and "warning: wandb: " in said.stderr, said.stderr
    assert "our own records are complete" in said.stderr
    assert records(tmp_path) == records(without)


@pytest.mark.long
def test_a_full_disk(tmp_path: Path, without: Path) -> None:
    place = tmp_path / "work" / "wandb"
    if not mounted(place, "size=8k"):
        pytest.skip("needs the right to mount a small disk")
    try:
        said = run_process(command("run", *SETTINGS, folder=tmp_path), WANDB_MODE="offline")
        assert said.returncode == 0 and "warning: wandb: " in said.stderr, said.stderr
        assert records(tmp_path) == records(without)
    finally:
        subprocess.run(["umount", str(place)], check=True)
