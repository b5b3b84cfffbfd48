"""The engines that carry out runs on a cluster, as far as they must be installed where a command is given."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys

from benchmarks.config.run_config import ConfigError

# Library -> its requirement, by executor. They are the extras of pyproject.toml: all machines need the same versions.
LIBRARIES = {"ray": ("ray", "ray[client]==2.60.0"), "slurm": ("submitit", "submitit==1.5.4")}


def require_engine(executor: str) -> None:
    """Raise ConfigError, which says what to do, where the engine of an executor is missing or has another version."""
    if executor not in LIBRARIES:
        return
    library, requirement = LIBRARIES[executor]
    wanted = requirement.partition("==")[2]
    try:
        there = importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        there = ""
    if there != wanted:
        trouble = f"{library} {there} is installed, {wanted} is needed" if there else f"{library} is not installed"
        raise ConfigError([f"--executor {executor}: {trouble}: {sys.executable} -m pip install '{requirement}'"])
    if executor == "slurm" and shutil.which("sbatch") is None:
        raise ConfigError(
            ["--executor slurm: there is no sbatch here: give the command where Slurm's jobs are submitted"]
        )
