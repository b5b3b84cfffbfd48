"""Time, memory and operations of a training step of each method, beside those of vanilla, in one process."""

from __future__ import annotations

import gc
import multiprocessing
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.config.example_input import CLASSES, SHAPES
from benchmarks.config.run_config import RunConfig, configure
from benchmarks.runner.build import allow_tf32, build_optimizer, engine_precision
from benchmarks.speed.operations import count_operations
from models.encoders.resnet import ResNet18
from models.fusions.concat import Concat
from models.model import MultimodalModel, channels_last
from ogm.engine import Engine
from ogm.registry import STRATEGIES, find
from ogm.types import Batch, EpochSampling

# The published figures to beat, as ratios to joint training.
PUBLISHED = {"ogm_ge": 2.9, "agm": 5.4, "mmpareto": 8.1}
EPOCH, EPOCHS = 11, 100  # where in a run a step is measured: after warm-ups, inside windows, between estimates


# Measured beside the method as it is by default: what it costs in its cheap form.
FORMS: dict[str, tuple[str, dict[str, Any]]] = {"agm ablation=feature": ("agm", {"ablation": "feature"})}


def methods() -> dict[str, tuple[str, dict[str, Any]]]:
    """Row -> method and options: every method that trains two modalities, as it is on CREMA-D, and FORMS."""
    every = {name: find(name, STRATEGIES, "strategy") for name in STRATEGIES if name != "unimodal"}
    trained = [name for name, cls in every.items() if cls.trains and cls.competes]
    rows: dict[str, tuple[str, dict[str, Any]]] = {**{name: (name, {}) for name in trained}, **FORMS}
    return {
        row: (method, configure({"dataset": "crema_d", "method": method, "method_args": options}).method_args)
        for row, (method, options) in rows.items()
    }


class _OneBatch:
    """A dataset of a single batch, for methods that look at theirs between epochs."""

    def __init__(self, data: Batch) -> None:
        self.data, self.num_samples = data, len(data)

    def epoch(self, number: int, sampling: EpochSampling | None = None) -> list[Batch]:
        return [self.data]

    def all(self) -> list[Batch]:
        return [self.data]


def engine(method: str, options: Mapping[str, Any], config: RunConfig, device: str, data: Batch) -> Engine:
    """Two ResNet-18s, a concat head, this method's strategy and the paper's optimizer, at the start of an epoch.

    The networks fit the inputs of ``data``. What the method builds on stands there untrained.
    """
    torch.manual_seed(0)
    encoders = {m: ResNet18(x.shape[1:]) for m, x in data.inputs.items()}
    model = MultimodalModel(encoders, Concat({m: e.dim for m, e in encoders.items()}, CLASSES)).to(device)
    if device.startswith("cuda"):
        channels_last(model)  # as a run does
    strategy = find(method, STRATEGIES, "strategy")(**options)
    trained = {}
    for name, prerequisite in strategy.prerequisites(list(encoders)).items():
        earlier = engine(prerequisite.method, prerequisite.options, config, device, data)
        trained[name] = earlier.strategy.export(earlier.model).requires_grad_(False).eval()
    strategy.attach(
        model.encoders,
        dims=model.fusion.dims,
        num_classes=CLASSES,
        num_samples=len(data),
        fusion=model.fusion,
        trained=trained,
    ).to(device)
    ready = Engine(
        model,
        strategy,
        build_optimizer(config, model, strategy),
        loaders={split: _OneBatch(data) for split in ("train", "val")},
        epochs=EPOCHS,
        precision=engine_precision(config),
    )
    ready.epoch = EPOCH
    strategy.on_epoch_start(ready)
    model.train()
    return ready


def batch(size: int, device: str, shapes: Mapping[str, Sequence[int]] = SHAPES) -> Batch:
    """Random inputs and labels of these shapes, the same each time."""
    generator = torch.Generator().manual_seed(0)
    inputs = {m: torch.randn(size, *shape, generator=generator) for m, shape in shapes.items()}
    label = torch.randint(0, CLASSES, (size,), generator=generator)
    return Batch(inputs, label, torch.arange(size)).to(torch.device(device))


def seconds(one: Engine, data: Batch, steps: int) -> float:
    """Wall seconds of ``steps`` steps."""
    began = time.perf_counter()
    for _ in range(steps):
        one.logs = {}
        one.strategy.step(data, one)
    if one.device.type == "cuda":
        torch.cuda.synchronize(one.device)
    return time.perf_counter() - began


def measured_steps(
    rows: Sequence[str],
    size: int,
    rounds: int,
    steps: int,
    device: str,
    precision: str,
    shapes: Mapping[str, Sequence[int]] = SHAPES,
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """How long a step takes, and its operations. The methods take turns, so that a busy machine slows all alike.

    Args:
        rows: Which of ``methods()``.
        size: Samples in a batch.
        rounds: How often each has its turn, after a first round that is left out.
        steps: Steps in a turn.
        device: Where the steps are made.
        precision: ``fp32``, ``fp64`` or ``bf16``.
        shapes: Modality -> shape of a sample.

    Returns:
        Row -> seconds per step, one number for each round; row -> operations of a step.
    """
    config = configure({"dataset": "crema_d", "precision": precision})
    data = batch(size, device, shapes)
    known = methods()
    engines = {row: engine(*known[row], config, device, data) for row in rows}
    times: dict[str, list[float]] = {row: [] for row in rows}
    title = f"{len(rows)} methods take turns, {rounds} rounds and one to warm up"
    for turn in track(range(rounds + 1), title, console=Console(stderr=True), transient=True):
        first = turn % len(rows)  # each begins a round now and then: what comes first may be slower
        for row in (*rows[first:], *rows[:first]):
            times[row].append(seconds(engines[row], data, steps) / steps)
    operations = {row: count_operations(engines[row], data) for row in rows}
    return {row: t[1:] for row, t in times.items()}, operations


def peak_bytes(row: str, size: int, device: str, precision: str) -> int:
    """Peak memory of two steps: on CUDA the device's own count, network included; else how a fresh process grows."""
    if not device.startswith("cuda"):
        with multiprocessing.get_context("spawn").Pool(1) as fresh:
            return fresh.apply(_growth, (row, size))
    gc.collect()  # earlier engines, which their hooks keep
    before = torch.cuda.memory_allocated(device)
    data = batch(size, device)
    one = engine(*methods()[row], configure({"dataset": "crema_d", "precision": precision}), device, data)
    torch.cuda.reset_peak_memory_stats(device)
    seconds(one, data, 2)
    return torch.cuda.max_memory_allocated(device) - before


def _growth(row: str, size: int) -> int:
    data = batch(size, "cpu")
    one = engine(*methods()[row], configure({"dataset": "crema_d"}), "cpu", data)
    before = _high_water()
    seconds(one, data, 2)
    return _high_water() - before


def _high_water() -> int:
    """Bytes this process has held at most; getrusage's figure is no use, it includes the parent's."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


def over_vanilla(operations: Mapping[str, int], row: str) -> str:
    """A step's operations as the table shows them: how many more than vanilla's; of vanilla all."""
    return str(operations[row]) if row == "vanilla" else f"{operations[row] - operations['vanilla']:+d}"


def bench(device: str) -> None:
    """Measure and print; one table per precision."""
    on_gpu = device.startswith("cuda")
    allow_tf32(False)  # as a run with precision=fp32
    size, rounds, steps = (64, 20, 5) if on_gpu else (16, 8, 1)
    console = Console(width=100)
    for precision in ("fp32", "bf16") if on_gpu else ("fp32",):
        rows = methods()
        times, operations = measured_steps(list(rows), size, rounds, steps, device, precision)
        table = Table(title=f"One step, two ResNet-18s at CREMA-D's shapes, batch {size}, {precision}, {device}")
        titles = ("method", "passes", "s/step", "x vanilla", "operations", "peak memory", "x vanilla", "published")
        for title in titles:
            table.add_column(title, justify="left" if title == "method" else "right")
        alone = track(list(rows), "peak memory, each method by itself", console=Console(stderr=True), transient=True)
        memory = {row: peak_bytes(row, size, device, precision) for row in alone}
        for row, (method, options) in rows.items():
            # The ratio within each round, so that what changes between rounds cancels.
            ratio = statistics.median(t / v for t, v in zip(times[row], times["vanilla"], strict=True))
            forward, backward = find(method, STRATEGIES, "strategy")(**options).passes(2)
            table.add_row(
                row,
                f"{forward} + {backward}",
                f"{statistics.median(times[row]):.4f}",
                f"{ratio:.3f}",
                over_vanilla(operations, row),
                f"{memory[row] / 2**20:.0f} MiB",
                f"{memory[row] / memory['vanilla']:.3f}",
                f"{PUBLISHED[row]:.1f}" if row in PUBLISHED else "",
            )
        console.print(table)
