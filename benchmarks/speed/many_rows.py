"""What a long list of somebody's own data costs: to prepare it, to find that it is prepared, and to start a run on it.

The list has two columns of vectors, each in a file of its own. Each step is a process of its own, so that its time and
memory are its own, too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from benchmarks.config.run_config import configure
from benchmarks.runner.experiment import resolve
from benchmarks.speed.many_records import Cost, cost_of

FEW = 2000
CLASSES = 100
PER_FOLDER = 1000  # files
SPLITS = (*("train",) * 8, "val", "test")


def write_list(folder: Path, count: int) -> Path:
    """Write a list of ``count`` samples, and their files, into a folder. Returns its path."""
    draw = np.random.default_rng(0)
    rows = ["id,split,label,sound:npy,touch:npy"]
    for i in range(count):
        paths = [folder / m / str(i // PER_FOLDER) / f"{i}.npy" for m in ("sound", "touch")]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, draw.standard_normal((2, 3), dtype=np.float32))
        names = ",".join(str(path.relative_to(folder)) for path in paths)
        rows.append(f"s{i},{SPLITS[i % len(SPLITS)]},c{i // len(SPLITS) % CLASSES},{names}")
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    return folder / "list.csv"


def measure_rows(count: int, folder: Path) -> dict[str, Cost]:
    """What the steps cost that read a list of ``count`` samples.

    Args:
        count: How many.
        folder: An empty one, for the list and what is prepared of it.

    Returns:
        ``prepare``; ``prepare again``, which finds that nothing is to be done; ``start``, until a run has its first
        batch, torch's import included; the same of a list of ``FEW`` samples, to compare with.
    """
    place = {**os.environ, "OGM_CACHE": str(folder / "prepared")}
    found = {}
    for name, size in {f" of {FEW}": FEW, "": count}.items():
        path = write_list(folder / str(size), size)
        prepare = ("-m", "datasets", "prepare", "manifest", f"path={path}")
        found[f"prepare{name}"] = cost_of(*prepare, env=place)
        found[f"prepare again{name}"] = cost_of(*prepare, env=place)
        found[f"start{name}"] = cost_of("-m", "benchmarks.speed.many_rows", str(path), env=place)
    return found


def start(path: str) -> None:
    """Do all that a run on a list does until it has its first batch."""
    from benchmarks.runner.build import build

    engine = build(resolve(configure({"dataset": "manifest", "dataset_args.path": path})), device="cpu")
    next(iter(engine.loaders["train"].epoch(0)))


if __name__ == "__main__":
    start(sys.argv[1])
