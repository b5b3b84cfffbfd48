"""What a training step costs on a GPU: time, launches, waiting, memory, compiled encoders, deterministic algorithms.

The networks are those of ``benchmarks.speed.steps``. Three precisions: ``fp32`` without TF32, ``tf32`` with it in
convolutions and matrix products, ``bf16`` autocast. Everything but the part on deterministic algorithms is measured
with them, as runs have them.
"""

from __future__ import annotations

import os
import re
import statistics
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile
from torch.utils import deterministic

from benchmarks.config.run_config import RunConfig, configure
from benchmarks.runner.build import allow_tf32
from benchmarks.speed import steps
from benchmarks.speed.parts import Measurements, Number, Rows
from models.model import MultimodalModel, compile_encoders
from ogm.engine import Engine
from ogm.registry import STRATEGIES, find
from ogm.types import Batch

ROOT = Path(__file__).resolve().parents[2]
TWO = ("tf32", "bf16")  # the fast ones
LAUNCH = re.compile(r"cu(da)?(Launch\w*Kernel|GraphLaunch|Mem(cpy|set)\w*Async)")  # CUDA's calls that queue work


@dataclass(frozen=True)
class Asked:
    """What the bench was asked for.

    Attributes:
        device: ``cuda``, ``cuda:1``, ..., or ``cpu`` to try the bench itself.
        folder: For temporary files.
        methods: Rows of ``steps.methods()`` that are timed; vanilla among them.
        batches: Sizes of a batch, the first of them the one for all but step times.
        shapes: Modality -> shape of a sample.
        rounds: How often methods take their turns.
        steps: Steps in a turn.
        clips: Samples of an epoch, where loading is measured.
        workers: Numbers of processes that load data.
        runs: Settings of the short runs.
        other_runs: Further lists of settings, each for one short run.
    """

    device: str
    folder: Path
    methods: Sequence[str]
    batches: Sequence[int]
    shapes: Mapping[str, Sequence[int]]
    rounds: int
    steps: int
    clips: int
    workers: Sequence[int]
    runs: Sequence[str]
    other_runs: Mapping[str, Sequence[str]]

    @property
    def on_gpu(self) -> bool:
        """Whether there is a GPU; else what only CUDA can tell is None."""
        return self.device.startswith("cuda")


def with_precision(name: str) -> RunConfig:
    """CREMA-D's recipe in one of the three precisions. The process is set as that of a run, and to this precision."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    allow_tf32(name == "tf32")
    return configure({"dataset": "crema_d", "precision": "bf16" if name == "bf16" else "fp32"})


def warm_engine(row: str, asked: Asked, precision: str) -> tuple[Engine, Batch]:
    """A method's engine, with a batch of which it has taken two steps: the optimizer has its momentum."""
    config, data = with_precision(precision), steps.batch(asked.batches[0], asked.device, asked.shapes)
    one = steps.engine(*steps.methods()[row], config, asked.device, data)
    steps.seconds(one, data, 2)
    return one, data


def step(one: Engine, data: Batch) -> None:
    """Take one step."""
    one.logs = {}
    one.strategy.step(data, one)


# ---- time
def step_times(asked: Asked) -> Measurements:
    """Step times of the methods, which take turns, in all precisions and sizes of a batch."""
    return {
        f"{precision}, batch {size}": partial(_times, asked, precision, size)
        for size in asked.batches
        for precision in ("fp32", *TWO)
    }


def _times(asked: Asked, precision: str, size: int) -> Rows:
    config = with_precision(precision)
    arguments = size, asked.rounds, asked.steps, asked.device, config.precision, asked.shapes
    times, operations = steps.measured_steps(asked.methods, *arguments)
    return {
        f"{row}, {precision}, batch {size}": {
            "ms_per_step": 1e3 * statistics.median(times[row]),
            "x_vanilla": _ratio(times[row], times["vanilla"]),
            "operations": operations[row],
        }
        for row in asked.methods
    }


def _ratio(mine: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios within each round, so that what changes between rounds cancels."""
    return statistics.median(a / b for a, b in zip(mine, others, strict=True))


# ---- launches
def launches(asked: Asked) -> Measurements:
    """What a step of each method queues on the device, and for how long the device works on it."""
    return {
        f"{row}, {precision}": partial(_launches, asked, row, precision) for precision in TWO for row in asked.methods
    }


def _launches(asked: Asked, row: str, precision: str) -> Rows:
    one, data = warm_engine(row, asked, precision)
    queued, busy = device_work(one, data)
    number = asked.rounds * asked.steps
    wall = steps.seconds(one, data, number) / number
    share = None if busy is None else busy / wall
    columns = {"launches": queued, "ms_busy": None if busy is None else 1e3 * busy, "share_busy": share}
    return {f"{row}, {precision}": columns}


def device_work(one: Engine, data: Batch) -> tuple[int | None, float | None]:
    """Profile a step.

    Args:
        one: The engine; it has taken steps.
        data: The batch.

    Returns:
        How many kernels, copies and fillings the host has queued, and how many seconds the device worked on them. Both
        None on a CPU.
    """
    on_gpu = one.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities, acc_events=True) as profiled:
        step(one, data)
        if on_gpu:
            torch.cuda.synchronize(one.device)
    events = profiled.events()
    assert events is not None
    return summed(events) if on_gpu else (None, None)


def summed(events: Iterable[Any]) -> tuple[int, float]:
    """Launches and the device's seconds in the events of torch's profiler. It works on one stream, so they add up."""
    queued, busy = 0, 0.0
    for event in events:
        if event.device_type == DeviceType.CPU:
            queued += bool(LAUNCH.match(event.name))
        elif not event.is_user_annotation:  # such as "Optimizer.step", which spans kernels that are there, too
            busy += 1e-6 * event.time_range.elapsed_us()
    return queued, busy


# ---- waiting
def synchronisations(asked: Asked) -> Measurements:
    """How often the host waits for the device within steps of every method. The count does not depend on shapes."""
    rows = steps.methods() if asked.on_gpu else asked.methods
    return {row: partial(_synchronisations, asked, row) for row in rows}


def _synchronisations(asked: Asked, row: str) -> Rows:
    small = {m: (shape[0], *(33 for _ in shape[1:])) for m, shape in asked.shapes.items() if len(shape) == 3}
    small |= {m: (shape[0], 1, 33, 33) for m, shape in asked.shapes.items() if len(shape) == 4}
    method, options = steps.methods()[row]
    data = steps.batch(8, asked.device, small)
    one = steps.engine(method, options, with_precision("tf32"), asked.device, data)
    steps.seconds(one, data, 2)
    with host_waits(asked.on_gpu) as found:
        for _ in range(3):
            step(one, data)
    columns: dict[str, Number] = {
        "in_3_steps": len(found) if asked.on_gpu else None,
        "says_so": find(method, STRATEGIES, "strategy").waits,
        "first_at": found[0] if found else "",
    }
    return {row: columns}


@contextmanager
def host_waits(on_gpu: bool) -> Iterator[list[str]]:
    """Context that lists where (file:line) the host waits for the device; on a CPU it stays empty."""
    places: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if on_gpu:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield places
        finally:
            if on_gpu:
                torch.cuda.set_sync_debug_mode("default")
            places += [_place(w) for w in caught if "called a synchronizing" in str(w.message)]


def _place(warning: warnings.WarningMessage) -> str:
    path = Path(warning.filename)
    return f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name}:{warning.lineno}"


# ---- memory
def peak_memory(asked: Asked) -> Measurements:
    """Peak memory of a step of each method."""
    return {precision: partial(_peaks, asked, precision) for precision in (TWO if asked.on_gpu else TWO[:1])}


def _peaks(asked: Asked, precision: str) -> Rows:
    size, config = asked.batches[0], with_precision(precision)
    peaks = {row: steps.peak_bytes(row, size, asked.device, config.precision) for row in asked.methods}
    return {
        f"{row}, {precision}, batch {size}": {"MiB": peak / 2**20, "x_vanilla": peak / peaks["vanilla"]}
        for row, peak in peaks.items()
    }


# ---- compiled encoders, deterministic algorithms
def compiled(asked: Asked) -> Measurements:
    """Step time with ``compile=true``, beside that without."""
    precisions = TWO[::-1] if asked.on_gpu else TWO[1:]
    return {precision: partial(_compiled, asked, precision) for precision in precisions}


def _compiled(asked: Asked, precision: str) -> Rows:
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(asked.folder / "inductor")  # so that earlier calls save no time
    (plain, data), (other, _) = (warm_engine("vanilla", asked, precision) for _ in range(2))
    assert isinstance(other.model, MultimodalModel)
    began = time.perf_counter()
    reason = compile_encoders(other.model, data)
    if reason is not None:
        raise RuntimeError(reason)
    steps.seconds(other, data, 2)
    waited = time.perf_counter() - began
    times = _in_turns({"plain": plain, "compiled": other}, data, asked)
    columns: dict[str, Number] = {
        "s_to_compile": waited,
        "ms_plain": 1e3 * statistics.median(times["plain"]),
        "ms_compiled": 1e3 * statistics.median(times["compiled"]),
        "x_plain": _ratio(times["compiled"], times["plain"]),
    }
    return {f"vanilla, {precision}, batch {len(data)}": columns}


def _in_turns(engines: Mapping[str, Engine], data: Batch, asked: Asked) -> dict[str, list[float]]:
    """Seconds per step of each engine, in rounds in which all take turns."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(asked.rounds):
        for name, one in engines.items():
            times[name].append(steps.seconds(one, data, asked.steps) / asked.steps)
    return times


# Whether algorithms must be deterministic, and whether torch then fills new memory, lest anybody reads it unwritten.
MODES = {"as runs are": (True, True), "memory not filled": (True, False), "not deterministic": (False, False)}


def determinism(asked: Asked) -> Measurements:
    """What deterministic algorithms cost: vanilla, beside its steps without them."""
    return {precision: partial(_modes, asked, precision) for precision in TWO}


def _modes(asked: Asked, precision: str) -> Rows:
    one, data = warm_engine("vanilla", asked, precision)
    times: dict[str, list[float]] = {name: [] for name in MODES}
    for turn in range(1 + asked.rounds):
        for name, (exact, fill) in MODES.items():
            torch.use_deterministic_algorithms(exact)
            deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
            took = steps.seconds(one, data, asked.steps) / asked.steps
            times[name] += [took] if turn else []  # the first round chooses algorithms
    return {
        f"{name}, {precision}, batch {len(data)}": {
            "ms_per_step": 1e3 * statistics.median(took),
            "x_as_runs": _ratio(took, times["as runs are"]),
        }
        for name, took in times.items()
    }
