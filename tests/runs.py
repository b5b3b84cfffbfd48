"""Runs small enough to be made, killed and made again many times in a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SMALL = [
    "dataset_args.num_train=128",
    "dataset_args.num_val=64",
    "dataset_args.num_test=64",
    "batch_size=32",
    "encoder_args.audio.widths=[8, 8]",
    "encoder_args.visual.widths=[8, 8]",
]


def command(verb: str, *settings: str, folder: Path, more: tuple[str, ...] = ()) -> list[str]:
    """A command line over small data, with its results and checkpoints below ``folder``."""
    small = [s.replace("=[", "=[[").replace("]", "]]") if verb == "grid" else s for s in SMALL]  # a list is an axis
    places = ["--results", str(folder / "results"), "--work", str(folder / "work")]
    return [sys.executable, *more, "-m", "benchmarks", verb, *small, *settings, *places]


def done(words: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "WANDB_MODE": "disabled", **env}
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=240, env=environment)


def records(folder: Path) -> list[dict[str, Any]]:
    """What is recorded below ``folder``, without what two runs of one configuration may differ in."""
    found = [json.loads(path.read_text()) for path in sorted((folder / "results" / "records").rglob("*.json"))]
    return [{k: v for k, v in record.items() if k not in ("cost", "provenance", "digest")} for record in found]
