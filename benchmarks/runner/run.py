"""One run, start to finish: train, evaluate, checkpoint, record. A run that is killed goes on from its last epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import nn

from benchmarks.config.run_config import RunConfig
from benchmarks.records import logits
from benchmarks.records.predictions import Predictions, scores
from benchmarks.records.record import SCORED, RunRecord
from benchmarks.runner.build import allow_tf32, build
from benchmarks.runner.checkpoint import CorruptFileError, RunState, load_checked, locked
from benchmarks.runner.distributed import by_first_rank
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.events import EpochEnded, EventHandler, RunFinished, RunStarted, StepDone, Warned, ignore_event
from benchmarks.runner.experiment import Experiment, PrerequisiteRun, notes, resolve, resolved_options
from benchmarks.runner.metrics import probe
from benchmarks.runner.passes import PassCounter
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
    return run_experiment(resolve(config), environment, export=export, on_event=on_event)


def run_experiment(
    experiment: Experiment, environment: RunEnvironment, *, export: bool = False, on_event: EventHandler = ignore_event
) -> RunRecord:
    """``run`` for a configuration that is resolved already."""
    record = by_first_rank(lambda: environment.finished(experiment, export=export))
    if record is not None:
        return record
    experiment.require_runnable()  # before those that it builds on are made
    torch.set_num_threads(environment.threads)
    threadpool_limits(environment.threads)  # the probe's linear algebra has threads of its own
    torch.use_deterministic_algorithms(True)
    trained = _trained_modules(experiment, environment, on_event)
    with locked(environment.run_folder(experiment)):
        # by another process, meanwhile
        record = by_first_rank(lambda: environment.finished(experiment, export=export))
        if record is None:
            record = _make(experiment, environment, trained, export, on_event)
            on_event(RunFinished(experiment.key, experiment.config, record))
    return record


def _make(
    experiment: Experiment,
    environment: RunEnvironment,
    trained: Mapping[str, nn.Module],
    export: bool,
    on_event: EventHandler,
) -> RunRecord:
    """Train, evaluate and record one run, whose folder is locked."""
    config = experiment.config
    allow_tf32(config.precision == "tf32" and environment.device.startswith("cuda"))
    engine = build(
        experiment,
        device=environment.device,
        workers=environment.workers,
        trained=trained,
        debug=environment.debug,
        warn=lambda text: on_event(Warned(config.key, text)),
    )
    epochs = experiment.epochs
    # compiled code would be made anew whenever a count changes
    passes = None if config.compile else PassCounter([engine.model, *trained.values()])
    state = RunState(environment.run_folder(experiment), engine, experiment.first_final_epoch, passes)
    state.load()
    origin: dict[str, Any] = {
        "key": config.key,
        "config": config.model_dump(mode="json"),
        "data": _describe_data(experiment, engine),
        "options": resolved_options(experiment),
        "first_final_epoch": experiment.first_final_epoch,
        "provenance": provenance(environment.device, environment.threads),
    }
    if origin["data"]["fingerprint"] != environment.fingerprint(config):
        raise DataError(f"{config.dataset}: the data changed while they were being read: start the same command again")
    on_event(RunStarted(config.key, config, epochs, engine.epoch, state.all_curves()))
    outcome: dict[str, Any]
    try:
        while engine.epoch < epochs:
            _train_epoch(config.key, state, config.batch_size, on_event)
        if not epochs:
            state.evaluate()
            state.keep_best()
        outcome = {"status": "done", **_results(state), "probe": probe(engine)}
    except Diverged as error:
        outcome = {"status": "diverged", "reason": str(error)}
    cost = {**state.cost(), **_cost_before(experiment, environment)}
    record = RunRecord(**origin, **outcome, curves=state.all_curves(), cost=cost)
    return by_first_rank(lambda: _save(record, state, experiment, environment, export))


def _results(state: RunState) -> dict[str, Any]:
    """What a record says about the selected epochs."""
    selected = {"last": len(state.curves["val/accuracy"]) - 1, **{f"{s}_best": state.best_epoch(s) for s in SCORED}}
    return {
        "selected": selected,
        "test": {name: state.test_scores(epoch) for name, epoch in selected.items()},
        "prediction": state.engine.strategy.prediction,
        **by_first_rank(lambda: _scored(state.selected_predictions)),
    }


def _scored(predicted: Mapping[str, Predictions]) -> dict[str, Any]:
    """What a record says about the predictions that are kept beside it."""
    return {
        "modalities": list(predicted["val"].modalities),
        "scores": scores(predicted),
        "logits": {split: kept.digest for split, kept in predicted.items()},
    }


def _train_epoch(key: str, state: RunState, batch_size: int, on_event: EventHandler) -> None:
    """Train, evaluate and save one epoch."""
    engine = state.engine
    epoch = engine.epoch
    with state.counted_training(len(engine.loaders["train"].epoch(0)) * batch_size):
        engine.train_epoch(lambda fraction: on_event(StepDone(key, epoch, fraction)))
    state.evaluate()
    state.keep_best()
    state.save()
    on_event(EpochEnded(key, engine.epoch, {name: curve[-1] for name, curve in state.all_curves().items()}))


def _save(
    record: RunRecord, state: RunState, experiment: Experiment, environment: RunEnvironment, export: bool
) -> RunRecord:
    """Save the record and, if asked for, the weights; the record that stands. What was needed to go on is removed.

    A finished record that is there already, made before anybody asked for its weights, stays as it is; where this run
    came out differently (another machine, other versions), neither is passed off as the other.
    """
    before = environment.finished(experiment)
    if before is not None and before.result_digest != record.result_digest and not environment.overwrite:
        raise CorruptFileError(
            f"{environment.record_path(experiment.config)}: made once more, for runs that build on it, "
            f"{experiment.config.title} came out differently (recorded: {_origin(before)}; now: {_origin(record)}): "
            "give another --results folder, or --overwrite to replace the record"
        )
    if export and record.status == "done":
        state.export(environment.export_path(experiment, record), record.result_digest)
    if before is None or before.result_digest != record.result_digest:
        if record.logits:
            logits.save(environment.results, record, state.selected_predictions)
        record.save(environment.results)
        before = record
    state.clear()
    return before


def _origin(record: RunRecord) -> str:
    """Where a record's numbers come from, in a few words."""
    source = record.provenance
    return f"commit {str(source.get('commit'))[:12]}, torch {source.get('torch')}, {source.get('device')}"


def _trained_modules(
    experiment: Experiment, environment: RunEnvironment, on_event: EventHandler
) -> dict[str, nn.Module]:
    """What the runs that this one builds on exported, by the names that its strategy gave them."""
    prerequisites = experiment.prerequisites.items()
    return {name: _trained_module(prerequisite, environment, on_event) for name, prerequisite in prerequisites}


def _trained_module(prerequisite: PrerequisiteRun, environment: RunEnvironment, on_event: EventHandler) -> nn.Module:
    """What an earlier run exported, frozen and in evaluation mode."""
    experiment = prerequisite.experiment
    record = run_experiment(experiment, environment, export=True, on_event=on_event)
    if record.status != "done":
        raise CorruptFileError(f"builds on {experiment.config.title}, which {record.status}: {record.reason}")
    trained = _trained_modules(experiment, environment, on_event)
    engine = build(experiment, device=environment.device, trained=trained)
    module = engine.strategy.export(engine.model)
    path = environment.export_path(experiment, record)
    with locked(environment.run_folder(experiment), shared=True):
        exported = load_checked(path, engine.device)
    if exported["result"] != record.result_digest:
        record_path = environment.record_path(experiment.config)
        raise CorruptFileError(f"{path} was not made by the run that {record_path} is the record of: delete it")
    module.load_state_dict(exported[prerequisite.at])
    return module.requires_grad_(False).eval()


def _cost_before(experiment: Experiment, environment: RunEnvironment) -> dict[str, float]:
    """What the runs it builds on have cost, and those that they build on; shared ones count in full for each.

    Returns:
        ``seconds_before``, ``process_seconds_before``, ``steps_before``, ``encoder_forwards_before`` and
        ``encoder_backwards_before``.
    """
    records = [environment.finished(prerequisite.experiment) for prerequisite in experiment.prerequisites.values()]
    names = ("seconds", "process_seconds", "steps", "encoder_forwards", "encoder_backwards")
    return {
        f"{name}_before": sum(r.cost[name] + r.cost.get(f"{name}_before", 0) for r in records if r is not None)
        for name in names
        if all(r is not None and name in r.cost for r in records)
    }


def _describe_data(experiment: Experiment, engine: Engine) -> dict[str, Any]:
    splits: dict[str, MultimodalDataset] = {s: loader.dataset for s, loader in engine.loaders.items()}  # type: ignore[attr-defined]
    return {
        "fingerprint": {split: data.fingerprint for split, data in splits.items()},
        "report": {split: data.report.as_dict() for split, data in splits.items()},
        "recipe": dict(splits["train"].recipe),
        "notes": notes(experiment),
    }
