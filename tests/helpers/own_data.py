"""Somebody's own data: a list of small vectors, and a run on them."""

from __future__ import annotations

from pathlib import Path

import numpy

from benchmarks.config.run_config import RunConfig, configure


def manifest(folder: Path, labels: str) -> RunConfig:
    """Runs on vectors listed in a CSV file, with these labels."""
    rows = ["id,split,label,sound:npy,touch:npy"]
    for i in range(36):
        split = ("train", "train", "val", "test")[i % 4]
        for m in ("sound", "touch"):
            numpy.save(folder / f"{m}{i}.npy", numpy.full((2, 3), i, dtype=numpy.float32))
        rows.append(f"s{i},{split},{labels[i % len(labels)]},sound{i}.npy,touch{i}.npy")
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    given = {"path": str(folder / "list.csv")}
    return configure({"dataset": "manifest", "dataset_args": given, "epochs": 3, "batch_size": 6})
