"""How long runs take, from those that were made: for the time that a display says is left."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.config.run_config import RunConfig
from benchmarks.records.record import RunRecord

MOST = 100  # records that are read for each data set: more would cost seconds, and tell no more


class RunTimes:
    """Estimates the seconds of a run from the most similar ones that are known.

    Those are, in this order: runs that differ in their seeds alone, runs of the same method, fusion and data set, runs
    of the same data set. Seconds are per epoch, as these may differ.
    """

    def __init__(self) -> None:
        # Seconds per epoch, summed, and how many runs they are of; by what the runs have in common.
        self._known: dict[tuple[str, ...], tuple[float, int]] = {}
        self._groups: dict[str, list[tuple[str, ...]]] = {}  # by the key of a configuration: it is asked for often

    @property
    def empty(self) -> bool:
        """Whether nothing is known of any run."""
        return not self._known

    def add(self, record: RunRecord) -> None:
        """Learn from a record, if its run was done."""
        if record.status == "done" and "seconds" in record.cost:
            for similar in _groups(record.config):
                total, count = self._known.get(similar, (0.0, 0))
                per_epoch = record.cost["seconds"] / max(record.config["epochs"], 1)
                self._known[similar] = (total + per_epoch, count + 1)

    def seconds(self, config: RunConfig) -> float | None:
        """How long a run takes; None where no run of its data set is known."""
        if config.key not in self._groups:
            self._groups[config.key] = _groups(config.model_dump(mode="json"))
        for similar in self._groups[config.key]:
            if similar in self._known:
                total, count = self._known[similar]
                return total / count * max(config.epochs, 1)
        return None


class RunningTime:
    """How long a run that is being made still takes.

    Args:
        config: The run.
        epochs: How many epochs it trains in all.
        resumed_at: How many of them were done when it started.
        started: When that was, in seconds.
    """

    def __init__(self, config: RunConfig, epochs: int, resumed_at: int, started: float) -> None:
        self.config, self.resumed_at = config, resumed_at
        self._epochs, self._done = epochs, float(resumed_at)
        self._started = self._now = started

    def advance(self, done: float, now: float) -> None:
        """Take note that ``done`` epochs, or parts of them, are done."""
        self._done, self._now = done, now

    @property
    def seconds_per_epoch(self) -> float | None:
        """Its own speed; None while nothing is done."""
        made = self._done - self.resumed_at
        return (self._now - self._started) / made if made > 0 else None

    def left(self, times: RunTimes) -> float | None:
        """Seconds: at its own speed, before the end of its first epoch at that of earlier runs, if there are any."""
        left, own = self._epochs - self._done, self.seconds_per_epoch
        earlier = times.seconds(self.config)
        if earlier is not None and (own is None or self._done - self.resumed_at < 1):
            return earlier * left / max(self._epochs, 1)
        return None if own is None else own * left


def time_left(
    running: Sequence[RunningTime], waiting: Sequence[RunConfig], times: RunTimes, slots: int
) -> float | None:
    """How long all runs of a command still take.

    Args:
        running: Those that are being made.
        waiting: Those that are not started. Where no run of their data set is known, they are taken to be as fast per
            epoch as those that are running.
        times: How long runs take.
        slots: How many are made at a time.

    Returns:
        Seconds; None where nothing is known.
    """
    speeds = [speed for run in running if (speed := run.seconds_per_epoch) is not None]
    left = [run.left(times) for run in running]
    for config in waiting:
        earlier = times.seconds(config)
        left.append(mean(speeds) * max(config.epochs, 1) if earlier is None and speeds else earlier)
    seconds = [x for x in left if x is not None]
    if len(seconds) < len(left):
        return None
    return max(sum(seconds) / slots, max(seconds, default=0.0))


def times_from(results: Path, configs: Iterable[RunConfig], done: Iterable[RunRecord]) -> RunTimes:
    """What a results folder tells about the runs that are planned.

    Args:
        results: The folder.
        configs: The planned runs: only records of their data sets are read, the newest of them.
        done: Those of its records that have been read already; they may be in a packed file.
    """
    times, known = RunTimes(), set()
    for record in done:
        times.add(record)
        known.add(record.key)
    for dataset in sorted({config.dataset for config in configs}):
        paths = (results / "records" / dataset).rglob("*.json")
        for path in heapq.nlargest(MOST, paths, key=_written):
            if path.stem.rpartition("-")[2] in known:
                continue
            try:
                times.add(RunRecord.load(path))
            except (ValueError, OSError):  # a damaged record gives no estimate; where it matters, it is an error
                continue
    return times


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # it was replaced meanwhile
        return 0.0


def _groups(settings: Any) -> list[tuple[str, ...]]:
    """What a run has in common with others, from the closest to the widest."""
    alike = {n: x for n, x in settings.items() if n not in ("seed", "epochs", "protocol", "files")}
    alike["dataset_args"] = {n: x for n, x in settings["dataset_args"].items() if n not in ("data_seed", "fold")}
    same = json.dumps(alike, sort_keys=True, default=str)
    dataset, fusion, method = (str(settings[name]) for name in ("dataset", "fusion", "method"))
    return [("same", same), ("method", dataset, fusion, method), ("dataset", dataset)]
