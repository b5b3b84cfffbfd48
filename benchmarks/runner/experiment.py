"""From a configuration to an engine: the one place where names become objects."""

from __future__ import annotations

import inspect
import typing
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from pydantic import ConfigDict, ValidationError, create_model
from torch import nn

from benchmarks.config.method_defaults import method_defaults
from benchmarks.config.run_config import ConfigError, RunConfig, explain, with_files
from datasets.core.base import DataModule
from datasets.core.errors import DataError
from datasets.core.loader import Loader
from datasets.registry import load
from models.model import MultimodalModel, channels_last, compile_encoders
from models.registry import FUSIONS, encoder_args_from_name, encoder_path
from ogm.context import fold_in, world_size
from ogm.engine import Engine
from ogm.registry import STRATEGIES, find
from ogm.strategy import Strategy
from ogm.types import Need


class IncompatibleError(ConfigError):
    """A combination that cannot run, and why: an answer, not a crash."""


def build(
    config: RunConfig,
    *,
    device: str = "cpu",
    workers: int = 0,
    trained: Mapping[str, nn.Module] | None = None,
    debug: bool = False,
    warn: Callable[[str], object] = warnings.warn,
) -> Engine:
    """Everything a run needs, initialised from the configuration's seed alone.

    Each part is initialised after a seed of its own, so that adding one leaves the others' draws alone. Raises
    ConfigError for options that do not fit, IncompatibleError for parts that do not fit together, DataError for the
    data. ``warn`` is told in one line what is left out.
    """
    check(config)
    refuse_too_short(config)
    data = load(config.dataset, config.dataset_args)
    refuse_too_little(config.dataset, data)
    dtype = torch.float64 if config.precision == "fp64" else torch.float32
    try:
        model = build_model(config, data)
        strategy = find(config.method, STRATEGIES, "strategy")(**config.method_args)
        torch.manual_seed(fold_in(config.seed, "strategy"))
        strategy.attach(
            model.encoders,
            dims=model.fusion.dims,
            num_classes=len(data.train.classes),
            num_samples=len(data.train),
            fusion=model.fusion,
            trained=trained,
        )
        if strategy.needs_whole_batch and config.micro_batch is not None:
            raise ValueError("it decides from the whole batch before it differentiates: leave micro_batch out")
        loaders = {
            name: Loader(
                split,
                batch_size=config.batch_size,
                seed=config.seed,
                workers=workers,
                device=device,
                dtype=dtype,
                drop_last=name == "train",
            )
            for name, split in data.splits().items()
        }
    except ValueError as error:
        raise IncompatibleError([f"{config.method} with {config.fusion} on {config.dataset}: {error}"]) from None
    if config.batch_size < world_size():
        raise IncompatibleError(
            [f"batch_size={config.batch_size} is less than one sample for each of {world_size()} processes"]
        )
    model.to(device, dtype)
    strategy.to(device, dtype)
    if device.startswith("cuda"):
        channels_last(model)
    if config.compile:
        some = data.train.batch(range(min(config.batch_size, len(data.train))))
        why = compile_encoders(model, some.to(torch.device(device), dtype))
        if why is not None:
            warn(f"compile=true is left out: {why}")
    if torch.distributed.is_initialized() and device.startswith("cuda"):
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    optimizer = build_optimizer(config, model, strategy)
    return Engine(
        model,
        strategy,
        optimizer,
        loaders=loaders,
        epochs=config.epochs,
        seed=config.seed,
        debug=debug,
        scheduler=build_scheduler(config, optimizer),
        precision=config.precision,
        micro_batch=config.micro_batch,
        max_norm=config.max_norm,
    )


def refuse_too_little(name: str, data: DataModule) -> None:
    """Raises DataError where there is nothing to tell apart in training, or nothing to evaluate."""
    empty = [split for split, samples in data.splits().items() if not len(samples)]
    if empty:
        raise DataError(f"{name}: there is no sample in {' and '.join(empty)}; each of train, val and test needs some")
    labels = set(map(int, data.train.labels))
    if len(labels) < 2:
        raise DataError(
            f"{name}: all {len(data.train)} training samples are of the class {data.train.classes[labels.pop()]!r}; "
            "there must be two classes to tell apart"
        )


def build_model(config: RunConfig, data: DataModule) -> MultimodalModel:
    modalities = data.train.modalities
    if set(config.encoders) != set(modalities):
        raise ValueError(
            f"encoders are given for {', '.join(config.encoders) or 'nothing'}; it has {', '.join(modalities)}"
        )
    sample = data.train.batch([0]).inputs
    encoders = {}
    for m in modalities:
        torch.manual_seed(fold_in(config.seed, "encoder", m))
        options = config.encoder_args.get(m, {})
        name = config.encoders[m]
        encoders[m] = encoder_class(name)(tuple(sample[m].shape[1:]), *encoder_args_from_name(name), **options)
    torch.manual_seed(fold_in(config.seed, "fusion"))
    dims = {m: encoder.dim for m, encoder in encoders.items()}
    fusion = find(config.fusion, FUSIONS, "fusion")(dims, len(data.train.classes), **config.fusion_args)
    return MultimodalModel(encoders, fusion)


def encoder_class(name: str) -> type[Any]:
    return find(name, {name: encoder_path(name)}, "encoder")


def build_optimizer(config: RunConfig, model: MultimodalModel, strategy: Strategy) -> torch.optim.Optimizer:
    spared = model.fusion.undecayed()
    decayed = [p for p in model.parameters() if all(p is not q for q in spared)]
    own = [{"params": spared, "weight_decay": 0.0}, *strategy.param_groups()]
    groups = [{"params": decayed}, *(g for g in own if g["params"])]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    adaptive = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    return adaptive(groups, lr=config.lr, weight_decay=config.weight_decay)


def build_scheduler(config: RunConfig, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler | None:
    """Per epoch. ``cosine`` ends at 0 after the last epoch."""
    if config.schedule == "step":
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, list(config.lr_steps), config.lr_factor)
    if config.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(config.epochs, 1))
    return None


def needed(config: RunConfig) -> dict[str, RunConfig]:
    """Runs that must be made first: name under which the strategy asks for them -> their configuration.

    They do not depend on the fusion, which they are therefore all given alike: one teacher serves all who need it. Only
    where the fusion makes larger encoders of those it is given, the teachers' must be made so, too.
    """
    kept = find(config.fusion, FUSIONS, "fusion").replaces_encoders
    plain = {} if kept else {"fusion": RunConfig.model_fields["fusion"].default, "fusion_args": {}}
    return {
        name: with_files(
            config.model_copy(
                update={
                    "method": need.method,
                    "method_args": {**method_defaults(need.method, config.dataset), **need.options},
                    **plain,
                }
            )
        )
        for name, need in wanted(config).items()
    }


def wanted(config: RunConfig) -> dict[str, Need]:
    """The same runs as the strategy asks for them."""
    strategy: Strategy = find(config.method, STRATEGIES, "strategy")(**config.method_args)
    return strategy.needs(list(config.encoders))


def first_final_epoch(config: RunConfig) -> int:
    """The first epoch (from 0) whose predictor is the one that the method is for: only from there on are any selected.

    As many as the run has epochs, or more, if it is too short to have one.
    """
    strategy: Strategy = find(config.method, STRATEGIES, "strategy")(**config.method_args)
    return strategy.first_final_epoch(config.epochs) if strategy.trains else 0


def is_too_short(config: RunConfig) -> bool:
    return first_final_epoch(config) >= max(config.epochs, 1)


def refuse_too_short(config: RunConfig) -> None:
    """Raises IncompatibleError where the predictor that the method is for would never exist."""
    if is_too_short(config):
        raise IncompatibleError(
            [
                f"{config.method} trains its final predictor after the first {first_final_epoch(config)} epochs, and "
                f"this run has {config.epochs}: give it more epochs"
            ]
        )


def check(config: RunConfig) -> None:
    """Raises ConfigError, all mistakes at once, for options that a method, fusion or encoder does not have."""
    mistakes = options(find(config.method, STRATEGIES, "strategy"), config.method_args, "method_args")
    mistakes += options(
        find(config.fusion, FUSIONS, "fusion"), config.fusion_args, "fusion_args", {"dims", "num_classes"}
    )
    for m in config.encoder_args.keys() - config.encoders.keys():
        mistakes.append(f"encoder_args.{m}: there is no encoder for {m}; there are {', '.join(config.encoders)}")
    for m, name in config.encoders.items():
        mistakes += options(encoder_class(name), config.encoder_args.get(m, {}), f"encoder_args.{m}", {"shape", "name"})
    if mistakes:
        raise ConfigError(mistakes)


def options(cls: type[Any], given: Mapping[str, Any], where: str, positional: Collection[str] = ()) -> list[str]:
    """What is wrong with the options given to a class, by the names and types its constructor declares."""
    hints = typing.get_type_hints(cls.__init__)
    fields: dict[str, Any] = {
        p.name: (hints.get(p.name, Any), ... if p.default is p.empty else p.default)
        for p in inspect.signature(cls).parameters.values()
        if p.name not in positional
    }
    try:
        create_model(cls.__name__, __config__=ConfigDict(extra="forbid"), **fields)(**given)
    except ValidationError as error:
        wrong: dict[Any, Any] = {}
        for e in error.errors():  # a union complains once for each of its types: one line is enough
            wrong[e["loc"][0]] = {**e, "loc": e["loc"][:1]} if e["loc"][0] in wrong else e
        return [f"{where}.{explain(e, fields)}" for e in wrong.values()]
    if positional:
        return []
    try:
        cls(**given)  # a strategy checks its values when it is made, before it meets a model
    except ValueError as error:
        return [f"{where}: {error}"]
    except Exception as error:  # a fault in somebody's own file
        return [f"{where}: {type(error).__name__}: {error}"]
    return []


def notes(config: RunConfig) -> list[str]:
    """What a reader of this run's numbers should know and cannot see from them."""
    strategy = find(config.method, STRATEGIES, "strategy")(**config.method_args)
    found = []
    if getattr(strategy, "target", None) == "grad" and config.optimizer != "sgd":
        found.append(
            f"{config.method} scales gradients, and {config.optimizer} undoes a constant scale: only changes of the "
            "coefficient act (method_args.target=update scales the update instead)"
        )
    for option in ("end", "ogm_end"):
        last = getattr(strategy, option, None)
        if last is not None and last >= config.epochs - 1:
            found.append(
                f"{config.method} acts until epoch {last}, counted from 0, which a run of {config.epochs} epochs does "
                f"not exceed: it acts to the end (method_args.{option} sets another epoch)"
            )
    return found
