"""A configuration, resolved: every name is a class, every option is checked, before any data are touched."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from benchmarks.config.method_defaults import method_defaults
from benchmarks.config.run_config import ConfigError, RunConfig, explain, with_files
from datasets.registry import DATASETS
from models.registry import FUSIONS, encoder_path
from ogm.registry import STRATEGIES, find

if TYPE_CHECKING:
    from datasets.core.base import DataModule
    from models.fusion import Fusion
    from ogm.strategy import Strategy
    from ogm.types import Prerequisite


class IncompatibleError(ConfigError):
    """A combination that cannot run, and why: an answer, not a crash."""


@dataclass(frozen=True, eq=False)
class PrerequisiteRun:
    """A run that must be done first.

    Args:
        experiment: The run.
        at: Which of its weights are wanted: those of its ``last`` epoch, or of its best by validation (``val_best``).
    """

    experiment: Experiment
    at: str


@dataclass(frozen=True, eq=False)
class Experiment:
    """A configuration with everything that its names stand for. Made by ``resolve``.

    Args:
        config: The configuration.
        strategy: The method with its options. It is only asked questions; a run trains a ``new_strategy``.
        encoders: The class of each modality's encoder.
        fusion: The class of the fusion.
        dataset: The class of the dataset.
        first_final_epoch: The first epoch, from 0, whose predictor is the one that the method is for. Only from there
            on are epochs selected. The number of epochs, or more, if the run is too short to have one.
        prerequisites: The runs that it builds on, by the names under which the strategy receives what they trained.
        error: Why it cannot run although each option is right; None if it can, as far as is known without data.
    """

    config: RunConfig
    strategy: Strategy
    encoders: Mapping[str, type[Any]]
    fusion: type[Fusion]
    dataset: Any
    first_final_epoch: int = 0
    prerequisites: Mapping[str, PrerequisiteRun] = field(default_factory=lambda: MappingProxyType({}))
    error: Exception | None = None

    @property
    def key(self) -> str:
        """The key of its configuration."""
        return self.config.key

    @property
    def epochs(self) -> int:
        """How many epochs it trains; 0 for a method that only puts together what earlier runs have trained."""
        return self.config.epochs if self.strategy.trains else 0

    def new_strategy(self) -> Strategy:
        """A strategy for one run, not attached yet."""
        return type(self.strategy)(**self.config.method_args)

    def load_data(self) -> DataModule:
        """The three splits of its data.

        Raises:
            DataError: They cannot be had.
            ValueError: The dataset does not take these options.
        """
        data: DataModule = self.dataset.module(**self.config.dataset_args)
        return data

    def require_runnable(self) -> None:
        """Raise ``error``, if there is one."""
        if self.error is not None:
            raise self.error


def resolve(config: RunConfig) -> Experiment:
    """Look up every name of a configuration, and of the runs that it builds on, once, and check every option.

    Args:
        config: The configuration.

    Returns:
        The experiment. One whose parts do not fit together has its ``error``.

    Raises:
        ConfigError: A method, fusion or encoder does not have an option, or does not take its value; all mistakes.
    """
    return _Resolver().resolve(config)


def resolve_all(configs: Sequence[RunConfig]) -> list[Experiment]:
    """``resolve`` for several configurations, each name looked up once for all of them.

    Raises:
        ConfigError: All mistakes in all of them, each once.
    """
    resolver, experiments, mistakes = _Resolver(), [], []
    for config in configs:
        try:
            experiments.append(resolver.resolve(config))
        except ConfigError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ConfigError(list(dict.fromkeys(mistakes)))
    return experiments


class _Resolver:
    """Resolves configurations that share classes and prerequisites."""

    def __init__(self) -> None:
        self._classes: dict[tuple[str, str], Any] = {}
        self._experiments: dict[str, Experiment] = {}
        self._in_progress: list[str] = []  # keys: a run, what it builds on, what that builds on, ...

    def resolve(self, config: RunConfig) -> Experiment:
        """See the function of this name."""
        key = config.key
        if key not in self._experiments:
            self._in_progress.append(key)
            try:
                self._experiments[key] = self._resolve(config)
            finally:
                self._in_progress.pop()
        return self._experiments[key]

    def _class(self, kind: str, name: str, names: Mapping[str, str]) -> Any:
        if (kind, name) not in self._classes:
            self._classes[kind, name] = find(name, names, kind)
        return self._classes[kind, name]

    def _resolve(self, config: RunConfig) -> Experiment:
        strategy_class = self._class("strategy", config.method, STRATEGIES)
        fusion = self._class("fusion", config.fusion, FUSIONS)
        encoders = {m: self._class("encoder", n, {n: encoder_path(n)}) for m, n in config.encoders.items()}
        mistakes = option_mistakes(strategy_class, config.method_args, "method_args")
        mistakes += option_mistakes(fusion, config.fusion_args, "fusion_args", {"dims", "num_classes"})
        for m in config.encoder_args.keys() - encoders.keys():
            mistakes.append(f"encoder_args.{m}: there is no encoder for {m}; there are {', '.join(encoders)}")
        for m, encoder in encoders.items():
            options = config.encoder_args.get(m, {})
            mistakes += option_mistakes(encoder, options, f"encoder_args.{m}", {"shape", "name"})
        if mistakes:
            raise ConfigError(mistakes)
        dataset = self._class("dataset", config.dataset, DATASETS)
        strategy: Strategy = strategy_class(**config.method_args)
        first, prerequisites, error = 0, {}, None
        try:
            first = strategy.first_final_epoch(config.epochs) if strategy.trains else 0
            require_compatible(config, strategy, first)
            prerequisites = self._prerequisites(config, strategy, fusion)
        except Exception as reason:  # of a method of the user's own, too; it is the run that fails by it
            error = reason
        return Experiment(
            config, strategy, MappingProxyType(encoders), fusion, dataset, first, MappingProxyType(prerequisites), error
        )

    def _prerequisites(self, config: RunConfig, strategy: Strategy, fusion: type[Fusion]) -> dict[str, PrerequisiteRun]:
        prerequisites = {}
        for name, prerequisite in strategy.prerequisites(list(config.encoders)).items():
            earlier = prerequisite_config(config, prerequisite, same_fusion=fusion.replaces_encoders)
            if earlier.key in self._in_progress:
                raise IncompatibleError([f"{config.method} builds on a run that builds on it: {earlier.title}"])
            prerequisites[name] = PrerequisiteRun(self.resolve(earlier), prerequisite.at)
        return prerequisites


def prerequisite_config(config: RunConfig, prerequisite: Prerequisite, *, same_fusion: bool) -> RunConfig:
    """The configuration of a run that another builds on.

    It does not depend on the other's fusion, so that one teacher serves all who need it. Only where that fusion makes
    larger encoders of those it is given, the teacher's must be made so, too.

    Args:
        config: The run that builds on it.
        prerequisite: What that run's strategy asks for.
        same_fusion: It has the same fusion, instead of the default.

    Returns:
        The configuration: but for method and fusion that of the other run.
    """
    changes: dict[str, Any] = {
        "method": prerequisite.method,
        "method_args": {**method_defaults(prerequisite.method, config.dataset), **prerequisite.options},
    }
    if not same_fusion:
        changes |= {"fusion": RunConfig.model_fields["fusion"].default, "fusion_args": {}}
    return with_files(config.model_copy(update=changes))


def require_compatible(config: RunConfig, strategy: Strategy, first_final_epoch: int) -> None:
    """Check what can be known without data.

    Args:
        config: The configuration.
        strategy: Its method.
        first_final_epoch: See ``Experiment``.

    Raises:
        IncompatibleError: The method and the other settings do not fit together; all reasons.
    """
    reasons = []
    if first_final_epoch >= max(config.epochs, 1):
        reasons.append(
            f"{config.method} trains its final predictor after the first {first_final_epoch} epochs, and this run has "
            f"{config.epochs}: give it more epochs"
        )
    if strategy.needs_whole_batch and config.micro_batch is not None:
        reasons.append(
            f"{config.method} with {config.fusion} on {config.dataset}: it decides from the whole batch before it "
            "differentiates: leave micro_batch out"
        )
    if reasons:
        raise IncompatibleError(reasons)


def option_mistakes(cls: type[Any], given: Mapping[str, Any], name: str, positional: Collection[str] = ()) -> list[str]:
    """What is wrong with the options given to a class, by the names and types its constructor declares.

    Args:
        cls: The class.
        given: Its options.
        name: What the configuration calls them: ``method_args``, ...
        positional: Parameters that are no options.

    Returns:
        One line for each mistake.
    """
    options = _options_of(cls, frozenset(positional))  # type: ignore[arg-type]  # classes are hashable
    try:
        options(**given)
    except ValidationError as error:
        by_option: dict[Any, Any] = {}
        for e in error.errors():  # a union complains once for each of its types: one line is enough
            option = e["loc"][0]
            by_option[option] = {**e, "loc": e["loc"][:1]} if option in by_option else e
        return [f"{name}.{explain(e, options.model_fields)}" for e in by_option.values()]
    if positional:
        return []
    try:
        cls(**given)  # a strategy checks its values when it is made, before it meets a model
    except ValueError as error:
        return [f"{name}: {error}"]
    except Exception as error:  # a fault in somebody's own file
        return [f"{name}: {type(error).__name__}: {error}"]
    return []


@functools.cache  # a grid has many runs of the same classes, and to make a model takes milliseconds
def _options_of(cls: type[Any], positional: frozenset[str]) -> type[BaseModel]:
    """The parameters of a class's constructor but for ``positional``, as a model that checks values for them."""
    hints = typing.get_type_hints(cls.__init__)
    fields: dict[str, Any] = {
        p.name: (hints.get(p.name, Any), ... if p.default is p.empty else p.default)
        for p in inspect.signature(cls).parameters.values()
        if p.name not in positional
    }
    return create_model(cls.__name__, __config__=ConfigDict(extra="forbid"), **fields)


def resolved_options(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """Every option of a run's parts, with the defaults of their classes written out.

    Args:
        experiment: The run. The options of its data are in the data's own recipe.

    Returns:
        ``method_args``, ``fusion_args`` and, for each modality, ``encoder_args.<modality>``.
    """
    config = experiment.config
    options = {
        "method_args": _with_defaults(type(experiment.strategy), config.method_args),
        "fusion_args": _with_defaults(experiment.fusion, config.fusion_args),
    }
    for m, encoder in experiment.encoders.items():
        options[f"encoder_args.{m}"] = _with_defaults(encoder, config.encoder_args.get(m, {}))
    return options


def _with_defaults(cls: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(cls).parameters.values()
    return {**{p.name: p.default for p in parameters if p.default is not p.empty}, **given}


def notes(experiment: Experiment) -> list[str]:
    """What a reader of a run's numbers should know and cannot see from them.

    Args:
        experiment: The run.

    Returns:
        One sentence each; they are kept in the record.
    """
    config, strategy = experiment.config, experiment.strategy
    sentences = []
    if getattr(strategy, "target", None) == "grad" and config.optimizer != "sgd":
        sentences.append(
            f"{config.method} scales gradients, and {config.optimizer} undoes a constant scale: only changes of the "
            "coefficient act (method_args.target=update scales the update instead)"
        )
    for option in ("end", "ogm_end"):
        last = getattr(strategy, option, None)
        if last is not None and last >= config.epochs - 1:
            sentences.append(
                f"{config.method} acts until epoch {last}, counted from 0, which a run of {config.epochs} epochs does "
                f"not exceed: it acts to the end (method_args.{option} sets another epoch)"
            )
    return sentences
