"""One run, start to finish: train, evaluate, checkpoint, record. A run that is killed goes on from its last epoch."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import math
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from threadpoolctl import threadpool_limits
from torch import nn

from benchmarks.build import build, check, needed, notes, wanted
from benchmarks.config import RunConfig
from benchmarks.metrics import evaluate, probe
from benchmarks.provenance import provenance
from benchmarks.record import RunRecord, read_whole, record_path, write_whole
from datasets.base import MultimodalDataset
from ogm.context import world_size
from ogm.engine import Diverged, Engine

Listener = Callable[[str, Mapping[str, Any]], None]
EXPORTS = {"last": "export.pt", "val_best": "export_val_best.pt"}  # epoch -> the weights as they were after it


class Damaged(ValueError):
    """A file this program wrote is no longer what it wrote."""


@dataclass(frozen=True)
class Place:
    """How and where runs are carried out: nothing in here changes a number (but see ``threads``)."""

    results: Path
    work: Path = Path(".work")
    device: str = "cpu"
    threads: int = 1  # of one run on a CPU; another number may change the last bits, and is recorded
    workers: int = 0  # processes that load data for one run
    group: str = ""  # what a dashboard calls these runs together
    debug: bool = False  # raise at the first number that is not finite, instead of recording "diverged"
    files: tuple[tuple[Any, Path], ...] = ()  # what plugins.register makes known in every process

    def folder(self, config: RunConfig) -> Path:
        return self.work / config.key

    def finished(self, config: RunConfig, *, export: bool = False) -> RunRecord | None:
        """The record of a run that is done (and, where asked for, has left its weights behind)."""
        path = record_path(self.results, config.model_dump(), config.key)
        left = [self.folder(config) / name for name in EXPORTS.values()] if export else []
        if not all(p.exists() for p in left):
            return None
        record = read_whole(path)
        return record if record is not None and record.status == "done" else None


def run(
    config: RunConfig, place: Place, *, export: bool = False, listen: Listener = lambda event, about: None
) -> RunRecord:
    """The record of this configuration: read if it is there, else made, from the last epoch that was saved.

    Runs that it builds on are made first. ``export`` leaves the weights behind for runs that build on this one.
    ``listen`` is told ``("start", ...)``, ``("epoch", ...)``, ``("done", ...)``. Raises ConfigError, DataError, Damaged
    for what the user can mend; a diverged run is a record, not an error.
    """
    record = place.finished(config, export=export)
    if record is not None:
        return record
    check(config)
    torch.set_num_threads(place.threads)
    threadpool_limits(place.threads)  # the probe's linear algebra has threads of its own
    torch.use_deterministic_algorithms(True)
    trained = _teachers(config, place, listen)
    with _alone(place.folder(config)):
        record = _run(config, place, trained, export, listen)
    listen("done", {"record": record})
    return record


def _run(
    config: RunConfig, place: Place, trained: Mapping[str, nn.Module], export: bool, listen: Listener
) -> RunRecord:
    engine = build(config, device=place.device, workers=place.workers, trained=trained, debug=place.debug)
    epochs = config.epochs if engine.strategy.trains else 0
    state = _State(place.folder(config) / "checkpoint.pt", engine)
    state.load()
    about: dict[str, Any] = {
        "key": config.key,
        "config": config.model_dump(mode="json"),
        "data": _data(config, engine),
        "provenance": provenance(place.device, place.threads),
    }
    listen("start", {"config": config, "epoch": engine.epoch, "epochs": epochs})
    try:
        while engine.epoch < epochs:
            began = time.perf_counter()
            engine.train_epoch(lambda fraction: listen("step", {"fraction": fraction}))
            state.trained(time.perf_counter() - began, len(engine.loaders["train"].epoch(0)) * config.batch_size)
            state.judge()
            state.keep_best()
            state.save()
            listen(
                "epoch",
                {
                    "epoch": engine.epoch,
                    "epochs": epochs,
                    "curves": {name: x[-1] for name, x in state.all_curves().items()},
                },
            )
        if not epochs:
            state.judge()
            state.keep_best()
        selected = {"last": max(epochs, 1) - 1, **{f"{s}_best": state.best(s) for s in ("val", "test")}}
        outcome: dict[str, Any] = {
            "status": "done",
            "selected": selected,
            "test": {name: state.test_at(epoch) for name, epoch in selected.items()},
            "probe": probe(engine),
        }
    except Diverged as error:
        outcome = {"status": "diverged", "reason": str(error)}
    cost = {**state.cost(), "seconds_before": _seconds_before(config, place)}
    record = RunRecord(**about, **outcome, curves=state.all_curves(), cost=cost)
    if _first_rank():
        if export and record.status == "done":
            state.export("last")
        elif not export:
            (state.path.parent / EXPORTS["val_best"]).unlink(missing_ok=True)
        record.save(place.results)
        state.path.unlink(missing_ok=True)
    if world_size() > 1:
        dist.barrier()  # what the first rank has left behind, the others may read next
    return record


class _State:
    """What a run has reached: the engine, the evaluations so far, the time they took."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self.path, self.engine = path, engine
        self.curves: dict[str, list[float]] = {}
        self.seconds = self.training = 0.0
        self.samples, self.since = 0, time.perf_counter()

    def trained(self, seconds: float, samples: int) -> None:
        self.training, self.samples = self.training + seconds, self.samples + samples

    def judge(self) -> None:
        for split in ("val", "test"):
            for name, value in evaluate(self.engine, split).items():
                self.curves.setdefault(f"{split}/{name}", []).append(value)

    def best(self, split: str) -> int:
        accuracies = self.curves[f"{split}/accuracy"]
        return accuracies.index(max(accuracies))  # the first, where several are equal

    def export(self, at: str) -> None:
        if _first_rank():
            save_whole(self.engine.strategy.export(self.engine.model).state_dict(), self.path.parent / EXPORTS[at])

    def keep_best(self) -> None:
        """Leave the weights behind if validation has never been better. Before ``save``: a kill in between repeats it.

        Whether a later run will ask for them is not known to a run that is gone on with, so each one does.
        """
        if self.best("val") == len(self.curves["val/accuracy"]) - 1:
            self.export("val_best")

    def test_at(self, epoch: int) -> dict[str, float]:
        return {n.removeprefix("test/"): x[epoch] for n, x in self.curves.items() if n.startswith("test/")}

    def all_curves(self) -> dict[str, list[float | None]]:
        named = {**{f"train/{n}": x for n, x in self.engine.curves.items()}, **self.curves}
        return {n: [v if v is not None and math.isfinite(v) else None for v in x] for n, x in named.items()}

    def cost(self) -> dict[str, float]:
        spent = self.seconds + time.perf_counter() - self.since
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if self.engine.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.engine.device)
        return {
            "seconds": spent,
            "training_seconds": self.training,
            "peak_bytes": peak,
            "samples_per_second": self.samples / self.training if self.training else 0.0,
        }

    def save(self) -> None:
        now = time.perf_counter()
        self.seconds, self.since = self.seconds + now - self.since, now
        if _first_rank():
            save_whole(
                {
                    "engine": self.engine.state_dict(),
                    "curves": self.curves,
                    "seconds": self.seconds,
                    "training": self.training,
                    "samples": self.samples,
                },
                self.path,
            )

    def load(self) -> None:
        if world_size() > 1:
            dist.barrier()
        if not self.path.exists():
            return
        saved = load_whole(self.path, self.engine.device)
        self.engine.load_state_dict(saved["engine"])
        self.curves, self.seconds = saved["curves"], saved["seconds"]
        self.training, self.samples = saved["training"], saved["samples"]


def _teachers(config: RunConfig, place: Place, listen: Listener) -> dict[str, nn.Module]:
    """What the runs that this one builds on exported, by the names that its strategy gave them."""
    at = {name: need.at for name, need in wanted(config).items()}
    return {name: _teacher(need, at[name], place, listen) for name, need in needed(config).items()}


def _teacher(config: RunConfig, at: str, place: Place, listen: Listener) -> nn.Module:
    """What an earlier run exported, frozen and in evaluation mode."""
    record = run(config, place, export=True, listen=listen)
    if record.status != "done":
        raise Damaged(f"builds on {config.title}, which {record.status}: {record.reason}")
    engine = build(config, device=place.device, trained=_teachers(config, place, listen))
    module = engine.strategy.export(engine.model)
    module.load_state_dict(load_whole(place.folder(config) / EXPORTS[at], engine.device))
    return module.requires_grad_(False).eval()


def _seconds_before(config: RunConfig, place: Place) -> float:
    """What the runs it builds on have cost, and those that they build on; shared ones count in full for each."""
    records = [place.finished(need) for need in needed(config).values()]
    return sum(r.cost["seconds"] + r.cost.get("seconds_before", 0.0) for r in records if r is not None)


def _data(config: RunConfig, engine: Engine) -> dict[str, Any]:
    sets: dict[str, MultimodalDataset] = {s: loader.dataset for s, loader in engine.loaders.items()}  # type: ignore[attr-defined]
    return {
        "fingerprint": {split: d.fingerprint for split, d in sets.items()},
        "report": {split: d.report.as_dict() for split, d in sets.items()},
        "recipe": dict(sets["train"].recipe),
        "notes": notes(config),
    }


def _first_rank() -> bool:
    return world_size() == 1 or dist.get_rank() == 0


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else works on this run meanwhile; another process that wants it waits, and then finds it done."""
    folder.mkdir(parents=True, exist_ok=True)
    if not _first_rank():
        yield
        return
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def save_whole(state: object, path: Path) -> None:
    """Write state behind its sha256, to a temporary file that is renamed: a kill leaves the old file or the new one."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(path, hashlib.sha256(buffer.getbuffer()).digest() + buffer.getvalue())


def load_whole(path: Path, device: torch.device) -> Any:
    """What ``save_whole`` wrote. Raises Damaged, in one line, for anything else, before anything of it is read."""
    content = path.read_bytes()
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        raise Damaged(f"{path} is damaged: its content does not match its checksum; delete it to start this run again")
    return torch.load(io.BytesIO(content[32:]), weights_only=True, map_location=device)
