"""Where a number comes from: commit, versions, machine."""

from __future__ import annotations

import functools
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ogm.context import world_size

COMPUTING = ("torchvision", "torchaudio", "numpy", "scipy", "scikit-learn")  # whose versions decide numbers, too
ROOT = Path(__file__).resolve().parents[2]


def provenance(device: str, threads: int) -> dict[str, Any]:
    """What a record says about where its numbers come from.

    Args:
        device: Where the run was made.
        threads: With how many threads of a CPU.

    Returns:
        Commit, versions, machine (with the vector instructions that torch chose, which decide the last bits), number of
        processes, and the command that was given.
    """
    commit, dirty = _commit()
    return {
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        "torch": torch.__version__,  # with its build, such as +cu130, which the package's version leaves out
        **_versions(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": threads,
        "ranks": world_size(),
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
    }


@functools.cache
def _commit() -> tuple[str, bool]:
    """The commit, and whether code differs from it; ("unknown", True) outside of a checkout."""

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *args], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", ".", ":!results"))
    except (OSError, subprocess.CalledProcessError):
        return "unknown", True


@functools.cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in COMPUTING}


@functools.cache
def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
