"""From an experiment to an engine: data, model, strategy and optimizer, initialised from the seed alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import nn

from benchmarks.config.run_config import RunConfig
from benchmarks.runner.experiment import Experiment, IncompatibleError
from datasets.core.base import DataModule
from datasets.core.errors import DataError
from datasets.core.loader import Loader
from models.model import MultimodalModel, channels_last, compile_encoders
from models.registry import encoder_args_from_name
from ogm.context import world_size
from ogm.engine import Engine
from ogm.seeds import fold_in
from ogm.strategy import Strategy


def build(
    experiment: Experiment,
    *,
    device: str = "cpu",
    workers: int = 0,
    trained: Mapping[str, nn.Module] | None = None,
    debug: bool = False,
    warn: Callable[[str], object] = warnings.warn,
) -> Engine:
    """Everything a run needs, initialised from the configuration's seed alone.

    Each part is initialised after a seed of its own, so that adding one leaves the others' draws alone.

    Args:
        experiment: The run.
        device: Where it is trained.
        workers: Processes that load data.
        trained: What the runs that it builds on have trained, by the names that its strategy gave them.
        debug: Stop at the first number that is not finite.
        warn: Receives a line for each thing that is left out.

    Returns:
        The engine, before its first epoch.

    Raises:
        IncompatibleError: The parts do not fit together.
        DataError: The data cannot be had, or nothing can be learned from them.
    """
    experiment.require_runnable()
    config, data = experiment.config, experiment.load_data()
    require_learnable(config.dataset, data)
    dtype = torch.float64 if config.precision == "fp64" else torch.float32
    try:
        model = build_model(experiment, data)
        strategy = _attached_strategy(experiment, model, data, trained)
        loaders = _loaders(config, data, device, dtype, workers)
    except ValueError as error:
        raise IncompatibleError([f"{config.method} with {config.fusion} on {config.dataset}: {error}"]) from None
    if config.batch_size < world_size():
        raise IncompatibleError(
            [f"batch_size={config.batch_size} is less than one sample for each of {world_size()} processes"]
        )
    strategy.to(device, dtype)
    model = _placed(model, config, data, device, dtype, warn)
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
        precision=engine_precision(config),
        micro_batch=config.micro_batch,
        max_norm=config.max_norm,
    )


def engine_precision(config: RunConfig) -> Literal["fp32", "fp64", "bf16"]:
    """The precision that the engine computes with. TF32 is float32 to it: only the device's products differ."""
    return "fp32" if config.precision == "tf32" else config.precision


def allow_tf32(allowed: bool) -> None:
    """Set for this process whether CUDA may round the factors of float32 products to TF32, which has 10 bits.

    By torch's default it may in convolutions and not in matrix products.
    """
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def _placed(
    model: MultimodalModel,
    config: RunConfig,
    data: DataModule,
    device: str,
    dtype: torch.dtype,
    warn: Callable[[str], object],
) -> MultimodalModel:
    """The model on its device, compiled if that is asked for and possible."""
    model.to(device, dtype)
    if device.startswith("cuda"):
        channels_last(model)
    if config.compile:
        batch = data.train.batch(range(min(config.batch_size, len(data.train))))
        reason = compile_encoders(model, batch.to(torch.device(device), dtype))
        if reason is not None:
            warn(f"compile=true is left out: {reason}")
    if torch.distributed.is_initialized() and device.startswith("cuda"):
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return model


def _attached_strategy(
    experiment: Experiment, model: MultimodalModel, data: DataModule, trained: Mapping[str, nn.Module] | None
) -> Strategy:
    strategy = experiment.new_strategy()
    torch.manual_seed(fold_in(experiment.config.seed, "strategy"))
    strategy.attach(
        dict(model.encoders.items()),
        dims=model.fusion.dims,
        num_classes=len(data.train.classes),
        num_samples=len(data.train),
        fusion=model.fusion,
        trained=trained,
    )
    return strategy


def _loaders(config: RunConfig, data: DataModule, device: str, dtype: torch.dtype, workers: int) -> dict[str, Loader]:
    return {
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


def require_learnable(dataset: str, data: DataModule) -> None:
    """Refuse data with nothing to tell apart in training, or nothing to evaluate.

    Args:
        dataset: What the error calls them.
        data: The three splits.

    Raises:
        DataError: A split is empty, or all training samples are of one class.
    """
    empty = [split for split, samples in data.splits().items() if not len(samples)]
    if empty:
        raise DataError(
            f"{dataset}: there is no sample in {' and '.join(empty)}; each of train, val and test needs some"
        )
    labels = set(map(int, data.train.labels))
    if len(labels) < 2:
        raise DataError(
            f"{dataset}: all {len(data.train)} training samples are of the class "
            f"{data.train.classes[labels.pop()]!r}; there must be two classes to tell apart"
        )


def build_model(experiment: Experiment, data: DataModule) -> MultimodalModel:
    """The encoders and the fusion, initialised from the seed.

    Args:
        experiment: The run.
        data: Its data, whose first training sample shows the shape of each modality.

    Returns:
        The model, on the CPU in float32.

    Raises:
        ValueError: The encoders do not fit the data, or each other.
    """
    config, modalities = experiment.config, data.train.modalities
    if set(experiment.encoders) != set(modalities):
        raise ValueError(
            f"encoders are given for {', '.join(experiment.encoders) or 'nothing'}; it has {', '.join(modalities)}"
        )
    sample = data.train.batch([0]).inputs
    encoders = {}
    for m in modalities:
        torch.manual_seed(fold_in(config.seed, "encoder", m))
        arguments = encoder_args_from_name(config.encoders[m])
        options = config.encoder_args.get(m, {})
        encoders[m] = experiment.encoders[m](tuple(sample[m].shape[1:]), *arguments, **options)
    torch.manual_seed(fold_in(config.seed, "fusion"))
    dims = {m: encoder.dim for m, encoder in encoders.items()}
    fusion = experiment.fusion(dims, len(data.train.classes), **config.fusion_args)
    return MultimodalModel(encoders, fusion)


def build_optimizer(config: RunConfig, model: MultimodalModel, strategy: Strategy) -> torch.optim.Optimizer:
    """The run's optimizer, over the model and what the strategy trains of its own.

    Args:
        config: Which optimizer, and its settings.
        model: Its parameters, those that the fusion names without weight decay.
        strategy: Attached to the model.

    Returns:
        The optimizer, with one group for the model, one without decay, and the strategy's.
    """
    undecayed = model.fusion.undecayed()
    decayed = [p for p in model.parameters() if all(p is not q for q in undecayed)]
    further = [{"params": undecayed, "weight_decay": 0.0}, *strategy.param_groups()]
    groups = [{"params": decayed}, *(g for g in further if g["params"])]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    adaptive = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return adaptive(groups, lr=config.lr, weight_decay=config.weight_decay)


def build_scheduler(config: RunConfig, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler | None:
    """The learning rate's course from epoch to epoch; None where it is constant. ``cosine`` ends at 0."""
    if config.schedule == "step":
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, list(config.lr_steps), config.lr_factor)
    if config.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(config.epochs, 1))
    return None
