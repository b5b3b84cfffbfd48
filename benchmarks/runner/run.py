"""One run, start to finish: train, evaluate, checkpoint, record. A run that is killed goes on from its last epoch."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import math
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from threadpoolctl import threadpool_limits
from torch import nn

from benchmarks.config.run_config import ConfigError, RunConfig
from benchmarks.records.record import RunRecord, record_path, write_whole, writing
from benchmarks.records.store import find_record
from benchmarks.runner.distributed import by_first_rank, is_first_rank
from benchmarks.runner.experiment import build, check, first_final_epoch, needed, notes, refuse_too_short, wanted
from benchmarks.runner.metrics import evaluate, probe
from benchmarks.runner.provenance import provenance
from datasets.core.base import MultimodalDataset
from datasets.core.errors import DataError
from datasets.registry import fingerprints
from ogm.context import world_size
from ogm.engine import Diverged, Engine

Listener = Callable[[str, Mapping[str, Any]], None]


class Damaged(ValueError):
    """A file this program wrote is no longer what it wrote."""


class OtherData(ConfigError):
    """A record was made with other data than those that the same configuration means today."""


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
    overwrite: bool = False  # runs whose record does not fit are made again, not refused
    _fingerprints: dict[str, dict[str, str]] = field(default_factory=dict, compare=False, repr=False)

    def fingerprint(self, config: RunConfig) -> Mapping[str, str]:
        """split -> one word for the data that the configuration means; looked at once, however many runs share them."""
        asked = config.model_dump_json(include={"dataset", "dataset_args"})
        if asked not in self._fingerprints:
            try:
                self._fingerprints[asked] = fingerprints(config.dataset, config.dataset_args)
            except DataError:
                raise
            except ValueError as error:
                raise ConfigError([str(error)]) from None
        return self._fingerprints[asked]

    def folder(self, config: RunConfig) -> Path:
        """Where a run keeps what it needs to go on: nothing of it is used with other data."""
        data = hashlib.sha256(json.dumps(self.fingerprint(config), sort_keys=True).encode())
        return self.work / config.key / data.hexdigest()[:12]

    def record(self, config: RunConfig) -> Path:
        return record_path(self.results, config.model_dump(), config.key)

    def export(self, config: RunConfig, record: RunRecord) -> Path:
        """The weights that the run of this record has left for others. Written once: other weights, another name."""
        return self.folder(config) / f"export-{record.result_digest[:16]}.pt"

    def finished(self, config: RunConfig, *, export: bool = False) -> RunRecord | None:
        """The record of a run that is done (and, where asked for, has left its weights behind).

        Raises OtherData for one that was made with other data, unless it may be overwritten.
        """
        path = self.record(config)
        record = find_record(self.results, path)
        if record is None or record.status != "done":
            return None
        if min(record.selected.values(), default=-1) < first_final_epoch(config):
            return None
        before, now = record.data.get("fingerprint", {}), self.fingerprint(config)
        if before != now:
            if self.overwrite:
                return None
            differ = [f"{s}: {before.get(s, 'unknown')} then, {x} now" for s, x in now.items() if before.get(s) != x]
            raise OtherData(
                [
                    f"{path}: this run was made with other data ({', '.join(differ)}): give another --results folder, "
                    "or --overwrite to make such runs again"
                ]
            )
        return record if not export or self.export(config, record).exists() else None


def run(
    config: RunConfig, place: Place, *, export: bool = False, listen: Listener = lambda event, about: None
) -> RunRecord:
    """The record of this configuration: read if it is there, else made, from the last epoch that was saved.

    Runs that it builds on are made first. ``export`` leaves the weights behind for runs that build on this one.
    ``listen`` is told ``("start", ...)``, ``("epoch", ...)``, ``("done", ...)``. Raises ConfigError, DataError, Damaged
    for what the user can mend; a diverged run is a record, not an error.
    """
    record = by_first_rank(lambda: place.finished(config, export=export))
    if record is not None:
        return record
    check(config)
    refuse_too_short(config)  # before those that it builds on are made
    torch.set_num_threads(place.threads)
    threadpool_limits(place.threads)  # the probe's linear algebra has threads of its own
    torch.use_deterministic_algorithms(True)
    trained = _teachers(config, place, listen)
    with _locked(place.folder(config)):
        record = by_first_rank(lambda: place.finished(config, export=export))  # by another process, meanwhile
        if record is None:
            record = _run(config, place, trained, export, listen)
    listen("done", {"record": record})
    return record


def _run(
    config: RunConfig, place: Place, trained: Mapping[str, nn.Module], export: bool, listen: Listener
) -> RunRecord:
    engine = build(config, device=place.device, workers=place.workers, trained=trained, debug=place.debug)
    epochs = config.epochs if engine.strategy.trains else 0
    state = _State(place.folder(config), engine, first_final_epoch(config))
    state.load()
    about: dict[str, Any] = {
        "key": config.key,
        "config": config.model_dump(mode="json"),
        "data": _data(config, engine),
        "provenance": provenance(place.device, place.threads),
    }
    if about["data"]["fingerprint"] != place.fingerprint(config):
        raise DataError(f"{config.dataset}: the data changed while they were being read: start the same command again")
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
    return by_first_rank(lambda: _keep(record, state, config, place, export))


def _keep(record: RunRecord, state: _State, config: RunConfig, place: Place, export: bool) -> RunRecord:
    """Save the record and, if asked for, the weights; the record that stands. What was needed to go on is removed.

    A finished record that is there already, made before anybody asked for its weights, stays as it is; where this run
    came out differently (another machine, other versions), neither is passed off as the other.
    """
    before = place.finished(config)
    if before is not None and before.result_digest != record.result_digest and not place.overwrite:
        raise Damaged(
            f"{place.record(config)}: made once more, for runs that build on it, {config.title} came out differently "
            f"(recorded: {_origin(before)}; now: {_origin(record)}): give another --results folder, or --overwrite to "
            "replace the record"
        )
    if export and record.status == "done":
        state.export(place.export(config, record), record.result_digest)
    if before is None or before.result_digest != record.result_digest:
        record.save(place.results)
        before = record
    state.clear()
    return before


def _origin(record: RunRecord) -> str:
    """Where a record's numbers come from, in a few words."""
    about = record.provenance
    return f"commit {str(about.get('commit'))[:12]}, torch {about.get('torch')}, {about.get('device')}"


class _State:
    """What a run has reached: the engine, the evaluations so far, the time they took, its best weights.

    Epochs before ``first`` are evaluated, but not selected: the predictor that the method is for does not exist yet.
    """

    def __init__(self, folder: Path, engine: Engine, first: int) -> None:
        self.checkpoint, self.best_weights = folder / "checkpoint.pt", folder / "best.pt"
        self.engine, self.first = engine, first
        self.curves: dict[str, list[float]] = {}
        self.seconds = self.training = 0.0
        self.samples, self.since = 0, time.perf_counter()

    def trained(self, seconds: float, samples: int) -> None:
        self.training, self.samples = self.training + seconds, self.samples + samples

    def judge(self) -> None:
        for split in ("val", "test"):
            for name, value in evaluate(self.engine, split).items():
                self.curves.setdefault(f"{split}/{name}", []).append(value)
        wrong = [name for name, curve in self.curves.items() if not math.isfinite(curve[-1])]
        if wrong:
            raise Diverged(f"{', '.join(wrong)} stopped being finite after epoch {max(self.engine.epoch - 1, 0)}")

    def best(self, split: str) -> int:
        accuracies = self.curves[f"{split}/accuracy"][self.first :]
        return self.first + accuracies.index(max(accuracies))  # the first, where several are equal

    def weights(self) -> dict[str, Any]:
        """What the run would leave to others if it ended here."""
        return self.engine.strategy.export(self.engine.model).state_dict()

    def keep_best(self) -> None:
        """Put the weights aside if validation has never been better. Before ``save``: a kill in between repeats it.

        Whether a later run will ask for them is not known to a run that is gone on with, so each one does.
        """
        now = len(self.curves["val/accuracy"]) - 1
        if is_first_rank() and now >= self.first and self.best("val") == now:
            save_whole(self.weights(), self.best_weights)

    def export(self, path: Path, result: str) -> None:
        """Leave the weights, as they are and as they were at their best, for those who know the run's ``result``."""
        if not path.exists():
            best = load_whole(self.best_weights, self.engine.device)
            save_whole({"result": result, "last": self.weights(), "val_best": best}, path)

    def clear(self) -> None:
        """The run is over: what it needed to go on is not needed any more."""
        self.checkpoint.unlink(missing_ok=True)
        self.best_weights.unlink(missing_ok=True)

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
        if is_first_rank():
            save_whole(
                {
                    "engine": self.engine.state_dict(),
                    "curves": self.curves,
                    "seconds": self.seconds,
                    "training": self.training,
                    "samples": self.samples,
                },
                self.checkpoint,
            )

    def load(self) -> None:
        if world_size() > 1:
            dist.barrier()
        if not self.checkpoint.exists():
            return
        saved = load_whole(self.checkpoint, self.engine.device)
        if saved["engine"]["epoch"] > self.first and not self.best_weights.exists():
            raise Damaged(f"{self.best_weights} is gone: delete {self.checkpoint}, too, to start this run again")
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
    path = place.export(config, record)
    with _locked(place.folder(config), shared=True):
        left = load_whole(path, engine.device)
    if left["result"] != record.result_digest:
        raise Damaged(f"{path} was not made by the run that {place.record(config)} is the record of: delete it")
    module.load_state_dict(left[at])
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


@contextlib.contextmanager
def _locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Nobody else works on this run meanwhile (``shared``: others may read, too); whoever comes later waits.

    With several ranks the first one holds the lock for all of them.
    """
    if not is_first_rank():
        yield
        return
    path = folder / "lock"
    with contextlib.ExitStack() as stack:
        with writing(path):
            folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(path.open("w"))
            fcntl.flock(lock, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
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
