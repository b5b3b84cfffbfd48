"""What many records cost: a generated results folder, looked through as ``grid`` does.

The records are one real record, the first of those that are given, with other seeds: as many keys as there are seeds.
"""

from __future__ import annotations

import dataclasses
import gzip
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.config.run_config import RunConfig, recorded
from benchmarks.records.record import RunRecord
from benchmarks.records.store import PACK, read_records

LIKE = Path(__file__).resolve().parents[2] / "results" / "reference" / "synthav"


def like(record: RunRecord, count: int) -> Iterator[RunRecord]:
    """``count`` records with the numbers of this one, each of another seed, with the key of its configuration."""
    config = recorded(record.config)
    for seed in range(count):
        other = config.model_copy(update={"seed": seed})
        settings: Any = other.model_dump(mode="json")
        yield dataclasses.replace(record, key=other.key, config=settings)


def write_folder(folder: Path, count: int) -> dict[str, RunConfig]:
    """A results folder with ``count`` packed records, written one at a time. Returns the runs by their keys."""
    configs = {}
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(folder / PACK, "wt", compresslevel=1, encoding="utf-8") as file:
        for record in like(next(read_records(LIKE)), count):
            file.write(record.text(indent=None))
            configs[record.key] = recorded(record.config)
    return configs


def bench_records(count: int) -> None:
    """Print what it costs to look ``count`` records through."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        configs = write_folder(folder, count)
        start = time.process_time()
        done = [record.outline() for record in read_records(folder, only=configs.keys())]
        _print(f"{len(done)} of {count} records looked through", time.process_time() - start, count)


def _print(what: str, seconds: float, count: int) -> None:
    """A line with processor time, and the most memory this process had so far."""
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what}: {1000 * seconds / count:.2f} ms a record, {megabytes:.0f} MB at most")
