"""What many runs cost beside the runs themselves, each figure with its aim: executors, planning, records, scheduling.

An engine that is not installed, or that does not answer, is left out and named.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing, redirect_stderr
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.config.run_config import ConfigError
from benchmarks.config.suite import expand
from benchmarks.executors.base import Executor
from benchmarks.executors.engines import require_engine
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.events import Event, RunFinished, RunStarted
from benchmarks.runner.experiment import resolve_all
from benchmarks.runner.plan import Job
from benchmarks.runner.provenance import provenance
from benchmarks.runner.schedule import carry_out as carry_out_grid
from benchmarks.runner.schedule import plan_grid
from benchmarks.speed.many_records import Cost, measure_records
from benchmarks.speed.many_rows import measure_rows
from benchmarks.speed.parts import FOLDER, Measurements, Part, Rows, carry_out_all, file_name

SLOTS = 2
Maker = Callable[[RunEnvironment, int], Executor]


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        empty: Runs that do nothing, for the overhead of an executor.
        real: Runs of the grid whose efficiency is measured.
        epochs: Of each of these: enough for a few seconds.
        records: Of the results folder.
        rows: Of the list of somebody's own data.
        jobs: Of the simulated grid.
        workers: That carry it out.
    """

    empty: int = 100
    real: int = 60
    epochs: int = 10
    records: int = 100_000
    rows: int = 200_000
    jobs: int = 100_000
    workers: int = 1_000


def _local(environment: RunEnvironment, slots: int) -> Executor:
    from benchmarks.executors.local import LocalExecutor

    return LocalExecutor(environment, slots)


def _ray(environment: RunEnvironment, slots: int) -> Executor:
    require_engine("ray")
    from benchmarks.executors.ray_cluster import RayExecutor

    return RayExecutor(environment, slots, needs={"CPU": 1})


def _slurm(environment: RunEnvironment, slots: int) -> Executor:
    require_engine("slurm")
    if subprocess.run(["scontrol", "ping"], capture_output=True, timeout=60).returncode:
        raise ConfigError(["Slurm does not answer"])
    from benchmarks.executors.slurm import SlurmExecutor

    return SlurmExecutor(environment, slots, {"time": 60, "cpus_per_task": 1})


MAKERS: dict[str, Maker] = {"local": _local, "ray": _ray, "slurm": _slurm}
OVERHEAD = {"local": 50, "ray": 50}  # milliseconds for each run, at most
EFFICIENCY = {"local": 0.95, "ray": 0.95, "slurm": 0.90}  # share of the slots' time that runs take, at least
PLANNING, MEMORY, TABLES = 60, 2000, 60  # seconds and MB for planning, seconds for ``tables``, at most
NO_ENGINE = ConfigError.__name__  # how the reason begins for which an engine that is not there is left out
ROWS = {"prepare": 120, "prepare again": 10, "start": 5}  # seconds for each step on a long list, at most
START_MEMORY = 700  # MB for the start of a run on it, at most
BUSY = 0.05  # share of the time of a simulated grid that the driver works, at most


def within(value: float, most: float) -> dict[str, Any]:
    """An aim that is reached by being small, for a row of a table."""
    return {"aim": f"<= {most:g}", "met": value <= most}


def overhead(sizes: Sizes) -> Measurements:
    """What an executor adds to each run, by runs that are refused at once: what they build on is too short."""
    return {name: partial(_overhead, name, sizes.empty) for name in MAKERS}


def _overhead(name: str, count: int) -> Rows:
    configs = expand({"dataset": "synthav", "method": "kd_strong_to_weak", "epochs": 1, "seed": list(range(count))})
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        ends = []
        with closing(MAKERS[name](_environment(Path(folder)), 1)) as executor:
            for config in configs:
                executor.submit(Job(config.key, config.model_dump(mode="json")))
            for event in executor.events():
                if isinstance(event, RunFinished):
                    ends.append(time.monotonic())
    each = (ends[-1] - ends[0]) / (count - 1) * 1000
    aim = within(each, OVERHEAD[name]) if name in OVERHEAD else {}
    return {name: {"ms_per_run": each, "s_to_first_end": ends[0] - began, **aim, "load": os.getloadavg()[0]}}


def efficiency(sizes: Sizes) -> Measurements:
    """Which share of the slots' time runs take, each counted from its ``RunStarted`` to its ``RunFinished``."""
    return {name: partial(_efficiency, name, sizes) for name in MAKERS}


def _efficiency(name: str, sizes: Sizes) -> Rows:
    configs = expand({"dataset": "synthav", "epochs": sizes.epochs, "seed": list(range(sizes.real))})
    started: dict[str, float] = {}
    took: dict[str, float] = {}

    def hear(event: Event) -> None:
        if isinstance(event, RunStarted):
            started[event.key] = time.monotonic()
        elif isinstance(event, RunFinished):
            took[event.key] = time.monotonic() - started[event.key]

    with tempfile.TemporaryDirectory() as folder:
        environment = _environment(Path(folder))
        began = time.monotonic()
        grid = plan_grid(resolve_all(configs), environment)
        carry_out_grid(grid, environment, MAKERS[name](environment, SLOTS), hear)
        wall = time.monotonic() - began
    share, since_first = (sum(took.values()) / (SLOTS * x) for x in (wall, began + wall - min(started.values())))
    return {
        name: {
            "s_per_run": sum(took.values()) / len(took),
            "efficiency": share,
            "without_the_start": since_first,
            "aim": f">= {EFFICIENCY[name]:g}",
            "met": share >= EFFICIENCY[name],
            "load": os.getloadavg()[0],
        }
    }


def records(sizes: Sizes) -> Measurements:
    """Commands on a folder in which every run is recorded; ``grid`` plans them all and finds each of them done.

    Linux counts the memory of the process that starts them as theirs, so that ``MB`` says nothing below that of torch.
    """
    return {"commands": partial(_records, sizes.records)}


def _records(count: int) -> Rows:
    rows: dict[str, dict[str, Any]] = {}
    for verb, cost in measure_records(count).items():
        rows[verb] = _numbers(cost)
        if verb in ("grid", "tables"):
            seconds = within(cost.passed, PLANNING if verb == "grid" else TABLES)
            fits = cost.memory <= MEMORY or verb == "tables"
            aim = seconds["aim"] + (f" s, {MEMORY} MB" if verb == "grid" else " s")
            rows[verb] |= {"aim": aim, "met": seconds["met"] and fits}
    return rows


def _numbers(cost: Cost) -> dict[str, Any]:
    """What a command cost, for a row of a table."""
    return {"s_of_processor": cost.busy, "s": cost.passed, "MB": cost.memory, "load": os.getloadavg()[0]}


def long_list(sizes: Sizes) -> Measurements:
    """A long list of somebody's own data."""
    return {"steps": partial(_long_list, sizes.rows)}


def _long_list(count: int) -> Rows:
    with tempfile.TemporaryDirectory() as folder:
        costs = measure_rows(count, Path(folder))
    found: dict[str, dict[str, Any]] = {}
    for step, cost in costs.items():
        found[step] = _numbers(cost)
        if step in ROWS:
            fits = cost.passed <= ROWS[step] and (step != "start" or cost.memory <= START_MEMORY)
            aim = f"<= {ROWS[step]} s" + (f", {START_MEMORY} MB" if step == "start" else "")
            found[step] |= {"aim": aim, "met": fits}
    return found


def scheduler(sizes: Sizes) -> Measurements:
    """The scheduler alone, on simulated workers."""
    return {"simulated": partial(_simulated, sizes)}


def _simulated(sizes: Sizes) -> Rows:
    from benchmarks.speed.simulation import simulate

    nowhere = io.StringIO()  # for a line about each run
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(nowhere):
        found = simulate(sizes.jobs, sizes.workers, Path(folder))
    share = found.busy / found.simulated
    once = {"aim": "all ended once", "met": found.ended_once == found.jobs}
    return {
        "one record each": {**asdict(found), **once, "load": os.getloadavg()[0]},
        "driver busy": {"share": share, **within(share, BUSY), "load": os.getloadavg()[0]},
    }


def sharing(sizes: Sizes) -> Measurements:
    """Two drivers on one results folder at the same time."""
    return {"two drivers": partial(_sharing, sizes)}


def _sharing(sizes: Sizes) -> Rows:
    axes = {"dataset": "synthav", "method": ["umt", "vanilla"], "epochs": 2, "seed": list(range(sizes.real // 5))}
    configs = expand(axes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = [f"{setting}={value}".replace("'", "") for setting, value in axes.items()]
        places = ["--results", str(folder / "results"), "--work", str(folder / "work"), "--log", "none", "--jobs", "1"]
        logs = [folder / f"{number}.jsonl" for number in range(2)]
        words = [sys.executable, "-m", "benchmarks", "grid", *settings, *places]
        team = [subprocess.Popen([*words, "--log-events", str(log)], stdout=subprocess.DEVNULL) for log in logs]
        if any(process.wait() for process in team):
            raise RuntimeError("a driver failed")
        events = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
        trained = Counter((e["key"], e["epoch"]) for e in events if e["event"] == "EpochEnded")
        grid = plan_grid(resolve_all(configs), _environment(folder))
    twice, missing = sum(n > 1 for n in trained.values()), len(grid.configs) - len(grid.records)
    found = {"runs": len(grid.configs), "epochs": len(trained), "epochs_trained_twice": twice, "runs_lost": missing}
    return {"two drivers": {**found, "aim": "0 twice, 0 lost", "met": not twice and not missing}}


def _environment(folder: Path) -> RunEnvironment:
    return RunEnvironment(folder / "results", folder / "work")


PARTS = (
    Part("overhead", "What an executor adds to a run that does nothing", 300, overhead),
    Part("efficiency", "Grid efficiency on two slots", 1200, efficiency),
    Part("records", "Commands on recorded runs", 1200, records),
    Part("rows", "A list of somebody's own data", 1200, long_list),
    Part("scheduler", "A simulated grid", 1200, scheduler),
    Part("sharing", "Two drivers on one results folder", 300, sharing),
)


def bench_scale(out: Path | None, sizes: Sizes | None = None) -> int:
    """Measure, print, and write what was measured.

    Args:
        out: A JSON file, which is replaced; None: named after the processor, in ``results/bench``.
        sizes: How much is measured; None for as much as the aims are for.

    Returns:
        The exit code: 1 if an aim is missed, or was not measured although its engine is there.
    """
    made = provenance("cpu", 1)
    path = out or FOLDER / f"scale-{file_name(made['device'])}.json"
    asked = sizes or Sizes()
    console = Console(width=140)
    outcomes = carry_out_all(PARTS, asked, {"provenance": made, "sizes": asdict(asked)}, path, console)
    missed = missed_aims(outcomes)
    console.print(f"aims missed: {', '.join(missed) or 'none'}")
    print(path)
    return int(bool(missed))


def missed_aims(outcomes: Mapping[str, Any]) -> list[str]:
    """The rows with an aim that is not reached or not measured, each after its part: ``overhead: local``."""
    missed = []
    for part, one in outcomes.items():
        missed += [f"{part}: {label}" for label, row in one["rows"].items() if not row.get("met", True)]
        missed += [f"{part}: {label}" for label, why in one["left_out"].items() if not why.startswith(NO_ENGINE)]
    return missed
