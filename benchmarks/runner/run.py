"""One run, start to finish: train, evaluate, checkpoint, record. A run that is killed goes on from its last epoch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import nn

from benchmarks.config.run_config import RunConfig
from benchmarks.records.record import RunRecord
from benchmarks.runner.checkpoint import CorruptFileError, RunState, load_checked, locked
from benchmarks.runner.distributed import by_first_rank
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.events import EpochEnded, EventHandler, RunFinished, RunStarted, StepDone, Warned, ignore_event
from benchmarks.runner.experiment import build, check, first_final_epoch, needed, notes, refuse_too_short, wanted
from benchmarks.runner.metrics import probe
from benchmarks.runner.provenance import provenance
from datasets.core.base import MultimodalDataset
from datasets.core.errors import DataError
from ogm.engine import Diverged, Engine


def run(
    config: RunConfig, environment: RunEnvironment, *, export: bool = False, on_event: EventHandler = ignore_event
) -> RunRecord:
    """The record of a configuration: read if it is there, else made, from the last epoch that was saved.

    Runs that it builds on are made first. A run that diverges is a record, not an error.

    Args:
        config: What is run.
        environment: Where and how.
        export: Leave the trained weights behind for runs that build on this one.
        on_event: Receives the events of the runs that are made here, of those that this one builds on, too. What it
            raises ends the run.

    Returns:
        The record, which is on disk by then.

    Raises:
        ConfigError: The configuration does not fit, or means other data than its record.
        DataError: The data cannot be had.
        CorruptFileError: A file of this program's own has been changed.
    """
    record = by_first_rank(lambda: environment.finished(config, export=export))
    if record is not None:
        return record
    check(config)
    refuse_too_short(config)  # before those that it builds on are made
    torch.set_num_threads(environment.threads)
    threadpool_limits(environment.threads)  # the probe's linear algebra has threads of its own
    torch.use_deterministic_algorithms(True)
    trained = _trained_modules(config, environment, on_event)
    with locked(environment.run_folder(config)):
        record = by_first_rank(lambda: environment.finished(config, export=export))  # by another process, meanwhile
        if record is None:
            record = _make(config, environment, trained, export, on_event)
            on_event(RunFinished(config.key, config, record))
    return record


def _make(
    config: RunConfig,
    environment: RunEnvironment,
    trained: Mapping[str, nn.Module],
    export: bool,
    on_event: EventHandler,
) -> RunRecord:
    """Train, evaluate and record one run, whose folder is locked."""
    engine = build(
        config,
        device=environment.device,
        workers=environment.workers,
        trained=trained,
        debug=environment.debug,
        warn=lambda text: on_event(Warned(config.key, text)),
    )
    epochs = config.epochs if engine.strategy.trains else 0
    state = RunState(environment.run_folder(config), engine, first_final_epoch(config))
    state.load()
    origin: dict[str, Any] = {
        "key": config.key,
        "config": config.model_dump(mode="json"),
        "data": _describe_data(config, engine),
        "provenance": provenance(environment.device, environment.threads),
    }
    if origin["data"]["fingerprint"] != environment.fingerprint(config):
        raise DataError(f"{config.dataset}: the data changed while they were being read: start the same command again")
    on_event(RunStarted(config.key, config, epochs, engine.epoch))
    try:
        while engine.epoch < epochs:
            _train_epoch(config.key, state, config.batch_size, on_event)
        if not epochs:
            state.evaluate()
            state.keep_best()
        selected = {"last": max(epochs, 1) - 1, **{f"{s}_best": state.best_epoch(s) for s in ("val", "test")}}
        outcome: dict[str, Any] = {
            "status": "done",
            "selected": selected,
            "test": {name: state.test_scores(epoch) for name, epoch in selected.items()},
            "probe": probe(engine),
        }
    except Diverged as error:
        outcome = {"status": "diverged", "reason": str(error)}
    cost = {**state.cost(), "seconds_before": _seconds_before(config, environment)}
    record = RunRecord(**origin, **outcome, curves=state.all_curves(), cost=cost)
    return by_first_rank(lambda: _save(record, state, config, environment, export))


def _train_epoch(key: str, state: RunState, batch_size: int, on_event: EventHandler) -> None:
    """Train, evaluate and save one epoch."""
    engine = state.engine
    epoch, start = engine.epoch, time.perf_counter()
    engine.train_epoch(lambda fraction: on_event(StepDone(key, epoch, fraction)))
    state.count_training(time.perf_counter() - start, len(engine.loaders["train"].epoch(0)) * batch_size)
    state.evaluate()
    state.keep_best()
    state.save()
    on_event(EpochEnded(key, engine.epoch, {name: curve[-1] for name, curve in state.all_curves().items()}))


def _save(
    record: RunRecord, state: RunState, config: RunConfig, environment: RunEnvironment, export: bool
) -> RunRecord:
    """Save the record and, if asked for, the weights; the record that stands. What was needed to go on is removed.

    A finished record that is there already, made before anybody asked for its weights, stays as it is; where this run
    came out differently (another machine, other versions), neither is passed off as the other.
    """
    before = environment.finished(config)
    if before is not None and before.result_digest != record.result_digest and not environment.overwrite:
        raise CorruptFileError(
            f"{environment.record_path(config)}: made once more, for runs that build on it, {config.title} came out "
            f"differently (recorded: {_origin(before)}; now: {_origin(record)}): give another --results folder, or "
            "--overwrite to replace the record"
        )
    if export and record.status == "done":
        state.export(environment.export_path(config, record), record.result_digest)
    if before is None or before.result_digest != record.result_digest:
        record.save(environment.results)
        before = record
    state.clear()
    return before


def _origin(record: RunRecord) -> str:
    """Where a record's numbers come from, in a few words."""
    source = record.provenance
    return f"commit {str(source.get('commit'))[:12]}, torch {source.get('torch')}, {source.get('device')}"


def _trained_modules(config: RunConfig, environment: RunEnvironment, on_event: EventHandler) -> dict[str, nn.Module]:
    """What the runs that this one builds on exported, by the names that its strategy gave them."""
    at = {name: need.at for name, need in wanted(config).items()}
    return {name: _trained_module(c, at[name], environment, on_event) for name, c in needed(config).items()}


def _trained_module(config: RunConfig, at: str, environment: RunEnvironment, on_event: EventHandler) -> nn.Module:
    """What an earlier run exported, frozen and in evaluation mode."""
    record = run(config, environment, export=True, on_event=on_event)
    if record.status != "done":
        raise CorruptFileError(f"builds on {config.title}, which {record.status}: {record.reason}")
    trained = _trained_modules(config, environment, on_event)
    engine = build(config, device=environment.device, trained=trained)
    module = engine.strategy.export(engine.model)
    path = environment.export_path(config, record)
    with locked(environment.run_folder(config), shared=True):
        exported = load_checked(path, engine.device)
    if exported["result"] != record.result_digest:
        raise CorruptFileError(
            f"{path} was not made by the run that {environment.record_path(config)} is the record of: delete it"
        )
    module.load_state_dict(exported[at])
    return module.requires_grad_(False).eval()


def _seconds_before(config: RunConfig, environment: RunEnvironment) -> float:
    """What the runs it builds on have cost, and those that they build on; shared ones count in full for each."""
    records = [environment.finished(c) for c in needed(config).values()]
    return sum(r.cost["seconds"] + r.cost.get("seconds_before", 0.0) for r in records if r is not None)


def _describe_data(config: RunConfig, engine: Engine) -> dict[str, Any]:
    splits: dict[str, MultimodalDataset] = {s: loader.dataset for s, loader in engine.loaders.items()}  # type: ignore[attr-defined]
    return {
        "fingerprint": {split: data.fingerprint for split, data in splits.items()},
        "report": {split: data.report.as_dict() for split, data in splits.items()},
        "recipe": dict(splits["train"].recipe),
        "notes": notes(config),
    }
