"""What many records cost: ``pack``, ``tables``, and a ``grid`` whose runs are all recorded, on a generated folder.

The records have the numbers of one real record, with other seeds and settings. Each command is a process of its own, so
that its time and memory are its own, too.
"""

from __future__ import annotations

import dataclasses
import gzip
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.config.run_config import RunConfig
from benchmarks.config.suite import Row, Suite, Table, expand
from benchmarks.records.store import PACK, read_records
from benchmarks.records.suite_file import Recorded, save
from datasets.registry import fingerprints

LIKE = Path(__file__).resolve().parents[2] / "results" / "reference" / "compare-synthav"
SEEDS = 1000  # of a row, at most: as many as ``compare`` takes


def settings(count: int) -> dict[str, Any]:
    """The settings of a grid of ``count`` runs, or a few less where that is not a multiple of ``SEEDS``."""
    rows = max(count // SEEDS, 1)
    alphas = [round((i + 1) / rows, 6) for i in range(rows)]
    seeds = list(range(min(count, SEEDS)))
    return {"dataset": "synthav", "method": "ogm", "method_args.alpha": alphas, "seed": seeds}


def write_folder(folder: Path, given: Mapping[str, Any]) -> None:
    """A results folder with a packed record of each run of a grid, written one at a time, and a table of them."""
    folder.mkdir(parents=True, exist_ok=True)
    configs = expand(given)
    like = next(r for r in read_records(LIKE) if r.config["method"] == "ogm")
    data = {**like.data, "fingerprint": fingerprints(configs[0].dataset, configs[0].dataset_args)}
    rows: dict[str, list[RunConfig]] = {}
    with gzip.open(folder / PACK, "wt", compresslevel=1, encoding="utf-8") as file:
        for config in configs:
            made: Any = {"key": config.key, "config": config.model_dump(mode="json"), "data": data}
            file.write(dataclasses.replace(like, **made).text(indent=None))
            rows.setdefault(f"alpha={config.method_args['alpha']}", []).append(config)
    table = Table("many", "Many runs", "synthav", "SynthAV", tuple(Row(x, tuple(of)) for x, of in rows.items()))
    save(folder, Recorded({"suite": {"name": "many", "quick": False}}, Suite("many", "Many runs", (table,))))


@dataclass(frozen=True)
class Cost:
    """What a command cost.

    Attributes:
        busy: Seconds of processor time.
        passed: Seconds in all.
        memory: MB at most.
    """

    busy: float
    passed: float
    memory: float


def bench_records(count: int) -> None:
    """Print what the commands cost that read about ``count`` records."""
    for verb, cost in measure_records(count).items():
        print(
            f"{verb}: {cost.busy:.1f} s of processor time, {cost.passed:.1f} s in all, {cost.memory:.0f} MB at most",
            flush=True,
        )


def measure_records(count: int) -> dict[str, Cost]:
    """What the commands cost that read about ``count`` records: ``pack``, ``tables``, ``grid``."""
    given = settings(count)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "results"
        # Linux counts the memory of a process as that of those it starts, too, so this one must stay small.
        writer = multiprocessing.get_context("spawn").Process(target=write_folder, args=(folder, given))
        writer.start()
        writer.join()
        if writer.exitcode:
            raise RuntimeError("the records could not be written")
        axes = [f"{setting}={value}" for setting, value in given.items()]
        return {
            "pack": _cost("pack", str(folder)),
            "tables": _cost("tables", str(folder)),
            "grid": _cost("grid", *axes, "--results", str(folder), "--work", str(Path(name) / "work")),
        }


def _cost(verb: str, *words: str) -> Cost:
    return cost_of("-m", "benchmarks", verb, *words)


def cost_of(*words: str, env: Mapping[str, str] | None = None) -> Cost:
    """What a process of Python costs.

    Args:
        words: What stands behind ``python``.
        env: Its environment variables, if they are not those of this process.

    Raises:
        RuntimeError: It fails; the end of what it has said.
    """
    start = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([sys.executable, *words], stdout=said, stderr=said, env=env)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{' '.join(words)} failed: {said.read()[-2000:].decode(errors='replace')}")
    return Cost(usage.ru_utime + usage.ru_stime, time.monotonic() - start, usage.ru_maxrss / 1024)
