"""What runs do on a GPU: whether loading keeps up with the model, whether bits come again, two runs at a time."""

from __future__ import annotations

import functools
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path

from benchmarks.config.run_config import configure, parse
from benchmarks.executors.local import LocalExecutor
from benchmarks.records.record import RunRecord
from benchmarks.runner.build import build
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.events import ignore_event
from benchmarks.runner.experiment import resolve, resolve_all
from benchmarks.runner.schedule import carry_out, plan_grid
from benchmarks.speed import steps
from benchmarks.speed.gpu_steps import TWO, Asked, device_work, warm_engine, with_precision
from benchmarks.speed.loading import dataset, prepare, write_files
from benchmarks.speed.parts import Measurements, Number, Rows
from datasets.core.loader import Loader
from datasets.storage.cache import Cache

DISTINCT = 128  # clips that are generated; an epoch repeats them, and after the first they lie in the system's memory
AT_A_TIME = 4  # runs
SPAWN = multiprocessing.get_context("spawn")


# ---- loading
def loading(asked: Asked) -> Measurements:
    """Epochs over prepared data of CREMA-D's shapes, with several numbers of processes that load."""
    cores = os.cpu_count() or 1
    return {
        f"{precision}, workers={workers}": partial(_loading, asked, precision, workers)
        for precision in reversed(TWO)
        for workers in asked.workers
        if workers <= cores
    }


def _loading(asked: Asked, precision: str, workers: int) -> Rows:
    config, size = with_precision(precision), asked.batches[0]
    samples = dataset(_prepared(asked.folder / "clips", min(asked.clips, DISTINCT)), asked.clips, frames=1)
    loader = Loader(samples, batch_size=size, workers=workers, device=asked.device)
    data = next(iter(loader.epoch(0)))
    one = steps.engine("vanilla", {}, config, asked.device, data)
    one.loaders["train"] = loader
    one.train_epoch()  # to warm up
    number = asked.clips // size
    alone = steps.seconds(one, data, number)
    _, busy = device_work(one, data)
    began = time.perf_counter()
    one.train_epoch()  # it ends when the device has: it returns numbers from there
    epoch = time.perf_counter() - began
    columns: dict[str, Number] = {
        "samples_per_s": number * size / epoch,
        "share_of_steps": alone / epoch,
        "share_busy": None if busy is None else number * busy / epoch,
    }
    return {f"{precision}, batch {size}, workers={workers}": columns}


@functools.cache
def _prepared(folder: Path, clips: int) -> Cache:
    folder.mkdir()
    write_files(folder, clips)
    return prepare(folder, clips)


# ---- the same bits
def same_bits(asked: Asked) -> Measurements:
    """Short runs, each made twice, in processes and folders of their own."""
    timed = {
        f"{method}, {precision}": [f"method={method}", f"precision={precision}"]
        for precision in ("fp32", "bf16")
        for method in asked.methods
    }
    plan = {"methods that are timed": timed, "other methods, fusions, encoders": asked.other_runs}
    return {label: partial(_twice, asked, runs) for label, runs in plan.items() if runs}


def _twice(asked: Asked, runs: Mapping[str, Sequence[str]]) -> Rows:
    first, second = (_records(asked, runs, f"{next(iter(runs))}, {turn}") for turn in (1, 2))
    return {
        label: {
            "same_bits": record.result_digest == second[label].result_digest,
            "status": record.status,
            "reason": record.reason[:150],
        }
        for label, record in first.items()
    }


def _records(asked: Asked, runs: Mapping[str, Sequence[str]], folder: str) -> dict[str, RunRecord]:
    """The records of some runs, which are made in a new folder."""
    configs = {label: configure(parse([*asked.runs, *settings])) for label, settings in runs.items()}
    environment = RunEnvironment(asked.folder / folder / "results", asked.folder / folder / "work", asked.device)
    grid = plan_grid(resolve_all(list(configs.values())), environment)
    records = carry_out(grid, environment, LocalExecutor(environment, AT_A_TIME), ignore_event)
    made = {record.key: record for record in records}
    return {label: made[config.key] for label, config in configs.items()}


# ---- two runs at a time
def packing(asked: Asked) -> Measurements:
    """The same training by one process alone, and by two processes at once."""
    return {name: partial(_packed, asked, name) for name in TRAINING}


def _packed(asked: Asked, name: str) -> Rows:
    with ProcessPoolExecutor(2, SPAWN, _receive, (SPAWN.Barrier(2),)) as pool:
        alone = pool.submit(_train, asked, name, False).result()
        both = [pool.submit(_train, asked, name, True) for _ in range(2)]
        together = max(future.result() for future in both)
    columns = {"s_alone": alone, "s_two_at_once": together, "x_throughput": 2 * alone / together}
    return {name: columns}


_starts: list[Barrier] = []  # in the processes that train: where they wait for each other


def _receive(barrier: Barrier) -> None:
    _starts.append(barrier)


def _train(asked: Asked, name: str, together: bool) -> float:
    """Wall seconds of some training, after the same once before; where two processes train, both begin together."""
    train = TRAINING[name](asked)
    train()
    if together:
        _starts[0].wait()
    began = time.perf_counter()
    train()
    return time.perf_counter() - began


def _steps(asked: Asked) -> Callable[[], object]:
    one, data = warm_engine("vanilla", asked, TWO[0])
    return partial(steps.seconds, one, data, 4 * asked.rounds * asked.steps)


def _epoch(asked: Asked) -> Callable[[], object]:
    settings = {**parse(asked.runs), "dataset_args.num_train": asked.clips}
    return build(resolve(configure(settings)), device=asked.device).train_epoch


TRAINING = {"steps, two ResNet-18s": _steps, "an epoch of SynthAV": _epoch}
