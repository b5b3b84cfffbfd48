"""What a run with each dataset's recipe takes, from a few steps on random input: no data are needed."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from typing_extensions import override

from benchmarks.config.run_config import configure
from benchmarks.runner.build import build_model, build_optimizer
from benchmarks.runner.experiment import resolve
from benchmarks.runner.provenance import provenance
from datasets.core.base import DataModule, MultimodalDataset
from ogm.engine import Engine
from ogm.registry import STRATEGIES, find

Shape = tuple[int, ...]
CLIP, FRAMES = (1, 257, 1004), (3, 3, 224, 224)  # ten seconds of sound; three frames


@dataclass(frozen=True)
class Size:
    """What a dataset's recipe trains on.

    Attributes:
        shapes: Modality -> the shape of a sample, with the dataset's defaults.
        classes: The number of classes.
        train: Samples to train on.
        evaluated: Samples of validation and test together, which each epoch looks at.
    """

    shapes: Mapping[str, Shape]
    classes: int
    train: int
    evaluated: int


# Of the datasets whose data have to be fetched. What validates is taken as 5 % of VGGSound's training clips and as two
# of the eighteen training groups of UCF-101: by video and by clip it is a few samples more or less.
SIZES = {
    "crema_d": Size({"audio": (1, 257, 188), "visual": (3, 1, 224, 224)}, 6, 5_954, 1_488),
    "ave": Size({"audio": CLIP, "visual": FRAMES}, 28, 3_339, 804),
    "kinetics_sounds": Size({"audio": CLIP, "visual": FRAMES}, 31, 14_799, 3_917),
    "vggsound": Size({"audio": (1, 129, 626), "visual": FRAMES}, 309, 174_544, 24_632),
    "ucf101": Size({"visual": FRAMES, "flow": (2, 3, 224, 224)}, 101, 8_477, 4_843),
    "cmu_mosi": Size({"text": (50, 300), "audio": (50, 5), "visual": (50, 20)}, 2, 1_284, 915),
    "cmu_mosei": Size({"text": (50, 300), "audio": (50, 74), "visual": (50, 35)}, 2, 16_326, 6_530),
    "cg_mnist": Size({"gray": (1, 28, 28), "color": (3, 28, 28)}, 10, 55_000, 15_000),
    "ravdess": Size({"audio": (1, 257, 188), "visual": (3, 1, 224, 224)}, 8, 960, 480),
}


class RandomSamples(MultimodalDataset):
    """Random input of a dataset's shapes. Samples: as ``Size`` says."""

    def __init__(self, size: Size, number: int) -> None:
        self.shapes, self.modalities = dict(size.shapes), tuple(size.shapes)
        self.classes = [str(c) for c in range(size.classes)]
        self.ids, self.labels = [str(i) for i in range(number)], [i % size.classes for i in range(number)]

    @override
    def load(self, i: int, rng: torch.Generator | None) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(i)
        return {m: torch.randn(shape, generator=generator) for m, shape in self.shapes.items()}


@dataclass(frozen=True)
class Estimate:
    """How long a run takes: vanilla, concat, the dataset's recipe, without loading.

    Attributes:
        batch_size: Samples of a step.
        epochs: Epochs of the run.
        step: Seconds of a training step.
        forward: Seconds of an evaluated batch.
        run: Seconds of the whole run.
    """

    batch_size: int
    epochs: int
    step: float
    forward: float
    run: float


def estimate(dataset: str, size: Size, device: str, steps: int) -> Estimate:
    """Time some steps of a dataset's recipe.

    Args:
        dataset: Its name.
        size: What it has.
        device: Where to train.
        steps: How many steps to time, after one that is not.

    Returns:
        The median step and batch, and the run that is made of them.
    """
    config = configure({"dataset": dataset, "method": "vanilla"})
    samples = RandomSamples(size, config.batch_size)
    model = build_model(resolve(config), DataModule(samples, samples, samples)).to(device)
    strategy = find("vanilla", STRATEGIES, "strategy")()
    strategy.attach(model.encoders, dims=model.fusion.dims, num_classes=size.classes, fusion=model.fusion).to(device)
    engine = Engine(model, strategy, build_optimizer(config, model, strategy), loaders={}, epochs=config.epochs)
    batch = samples.batch(range(config.batch_size)).to(torch.device(device))

    def train() -> None:
        engine.logs = {}
        strategy.step(batch, engine)

    @torch.no_grad()
    def evaluate() -> None:
        strategy.forward(model, batch)

    model.train()
    step = _seconds(train, device, steps)
    model.eval()
    forward = _seconds(evaluate, device, steps)
    epoch = size.train // config.batch_size * step + math.ceil(size.evaluated / config.batch_size) * forward
    return Estimate(config.batch_size, config.epochs, step, forward, config.epochs * epoch)


def _seconds(what: Any, device: str, times: int) -> float:
    """The median of some calls after a first one. On a CPU it is processor time, which other programs lengthen less."""
    clock = time.perf_counter if device.startswith("cuda") else time.process_time
    found = []
    for _ in range(1 + times):
        began = clock()
        what()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        found.append(clock() - began)
    return statistics.median(found[1:])


def bench_recipes(names: Sequence[str], device: str, out: Path | None) -> None:
    """Measure, print, and write what was measured.

    Args:
        names: Datasets of ``SIZES``; none named means all.
        device: Where to train.
        out: A JSON file, which is replaced.
    """
    steps = 20 if device.startswith("cuda") else 2
    if not device.startswith("cuda"):
        torch.set_num_threads(1)  # as a run has, unless --threads says otherwise
    console = Console(stderr=True)
    found = {
        name: estimate(name, SIZES[name], device, steps)
        for name in track(names or list(SIZES), "a few steps of each recipe", console=console, transient=True)
    }
    table = Table(title=f"A run with each dataset's recipe (vanilla, concat), estimated, without loading; {device}")
    for title in ("dataset", "train", "batch", "epochs", "s/step", "a run"):
        table.add_column(title, justify="left" if title == "dataset" else "right")
    for name, one in found.items():
        cells = f"{SIZES[name].train:,}", str(one.batch_size), str(one.epochs), f"{one.step:.4f}", duration(one.run)
        table.add_row(name, *cells)
    Console(width=100).print(table)
    if out is not None:
        runs = {name: vars(one) for name, one in found.items()}
        out.write_text(json.dumps({"provenance": provenance(device, 1), "steps": steps, "runs": runs}, indent=1) + "\n")


def duration(seconds: float) -> str:
    """Seconds in words, with two digits: an estimate has no more."""
    for unit, length in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.{0 if seconds >= 10 * length else 1}f} {unit}"
    return f"{seconds:.0f} s"
