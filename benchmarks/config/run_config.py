"""The configuration of one run: frozen, checked, with a key that is the same on every machine."""

from __future__ import annotations

import functools
import hashlib
import json
import reprlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from benchmarks.config.method_defaults import adaptive_lr, method_defaults, recipe
from datasets.core.settings import read_settings
from datasets.registry import DATASETS
from models.registry import ENCODERS, FAMILIES, FUSIONS
from ogm.registry import STRATEGIES, nearest

RECORDED = "recorded"  # validation context: a run of the past, whose names need not be known here any more
# What a run means and records. 2 (2026-11): logits, every rule of prediction, equal epochs chosen by their loss, random
# numbers of one stream per step. Runs of 1 can be read, shown and tabled; they are not made any more.
PROTOCOL: Literal[2] = 2
FILES: dict[str, str] = {}  # what has come from files outside the project (see user_files.py): name -> digest


class ConfigError(ValueError):
    """Every mistake in a configuration.

    Args:
        mistakes: One line each.
        settings: The settings that are wrong, without what stands behind a dot, as far as it is known.
        values: What could be read nevertheless: name -> value.
    """

    def __init__(
        self, mistakes: Sequence[str], settings: Collection[str] = (), values: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = list(mistakes)
        self.settings = frozenset(settings)
        self.values = dict(values or {})

    def __reduce__(self) -> tuple[type[ConfigError], tuple[Any, ...]]:
        # An exception is otherwise made again from its text, not from the lines.
        return type(self), (self.mistakes, self.settings, self.values)


class RunConfig(BaseModel):
    """One run. What changes a number is in here, and nothing else is; ``key`` is the proof.

    Made by ``configure``, which fills in the recipe of the dataset and the defaults of the method, so that a record
    says everything outright.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    dataset: str = "synthav"
    method: str = "vanilla"
    fusion: str = "concat"
    encoders: dict[str, str] = {}  # modality -> encoder
    seed: int = Field(default=0, ge=0)
    dataset_args: dict[str, Any] = {}
    method_args: dict[str, Any] = {}
    fusion_args: dict[str, Any] = {}
    encoder_args: dict[str, dict[str, Any]] = {}  # modality -> options of its encoder
    epochs: int = Field(default=100, ge=0)
    batch_size: int = Field(default=64, ge=1)
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    momentum: float = Field(default=0.9, ge=0, lt=1)  # sgd only; adam and adamw keep torch's betas
    weight_decay: float = Field(default=1e-4, ge=0, allow_inf_nan=False)
    schedule: Literal["constant", "step", "cosine"] = "step"
    lr_steps: tuple[int, ...] = (70,)  # epochs at which "step" multiplies lr by lr_factor
    lr_factor: float = Field(default=0.1, gt=0, le=1)
    max_norm: float | None = Field(default=None, gt=0)  # clips the gradient's norm
    micro_batch: int | None = Field(default=None, ge=1)  # accumulates a batch in parts of this size
    precision: Literal["fp32", "tf32", "fp64", "bf16"] = "fp32"  # tf32: fp32 whose products are rounded, on CUDA alone
    compile: bool = False  # torch.compile on the encoders: faster on an accelerator, other last bits
    files: dict[str, str] = {}  # what of it came from a file outside the project -> digest of its content
    protocol: Literal[1, 2] = PROTOCOL  # goes up when the same settings change their meaning

    @field_validator("dataset", "method", "fusion")
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        if info.context == RECORDED:
            return name
        kind = str(info.field_name)
        names = {"dataset": DATASETS, "method": STRATEGIES, "fusion": FUSIONS}[kind]
        return known(name, names, f"python -m benchmarks list {kind}s")

    @field_validator("encoders")
    @classmethod
    def _known_encoders(cls, encoders: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        for name in encoders.values() if info.context != RECORDED else ():
            family, colon, _ = name.partition(":")
            names = FAMILIES if colon else [*ENCODERS, *(f"{family}:NAME" for family in FAMILIES)]
            known(family if colon else name, names, "python -m benchmarks list encoders")
        return encoders

    @functools.cached_property
    def key(self) -> str:
        """Twelve letters that stand for all of it; see ``key_of``."""
        return key_of(self.model_dump(mode="json"))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, without the key, which is that of the settings before ``update``."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("key", None)
        return copied

    @property
    def title(self) -> str:
        """A name for people: 'synthav concat ogm_ge alpha=0.8 seed 1'."""
        options = [f"{k}={v}" for part in (self.dataset_args, self.method_args) for k, v in sorted(part.items())]
        return " ".join([self.dataset, self.fusion, self.method, *options, self.optimizer, f"seed {self.seed}"])


def key_of(settings: Mapping[str, Any]) -> str:
    """The key of a configuration as a record holds it, also where a method in it is not known here.

    What equals its default is left out, so that a setting added one day leaves the keys of old records alone; the day a
    default changes its meaning, ``protocol`` goes up. It is part of every key but those of protocol 1.
    """
    default = _defaults()
    chosen = {name: x for name, x in settings.items() if name not in default or x != default[name]}
    text = json.dumps(chosen, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@functools.cache
def _defaults() -> dict[str, Any]:
    return RunConfig(protocol=1).model_dump(mode="json")


def known(name: str, names: Collection[str], command: str = "") -> str:
    """The name itself.

    Args:
        name: The name.
        names: Those that there are.
        command: What prints them all, with what is known of each; without one, the message lists them.

    Raises:
        ValueError: There is no such name; the message has the nearest one.
    """
    if name not in names:
        which = f"the {len(names)} that `{command}` prints" if command else ", ".join(names)
        raise ValueError(f"{name!r} is not one of {which}{nearest(name, names)}")
    return name


def configure(given: Mapping[str, Any]) -> RunConfig:
    """A complete configuration: what is given, over the method's defaults, over the dataset's recipe.

    Args:
        given: Settings by name; dots go deeper (``method_args.alpha``).

    Returns:
        The configuration of one run.

    Raises:
        ConfigError: Every mistake at once, one line each.
    """
    given = nest(given)
    dataset, method = (str(given.get(name, RunConfig.model_fields[name].default)) for name in ("dataset", "method"))
    args = given.get("dataset_args", {})
    chosen = recipe(dataset, args) if isinstance(args, Mapping) else {}  # what is no mapping is refused below
    chosen["method_args"] = method_defaults(method, dataset)
    if given.get("optimizer") in ("adam", "adamw") and dataset in DATASETS:
        chosen["lr"] = adaptive_lr(dataset)
    if "protocol" in given:
        raise ConfigError([f"protocol: runs are made by protocol {PROTOCOL}; leave it out"], ["protocol"])
    if "files" in given:
        raise ConfigError(
            ["files: there is no such setting; use --method-file, --fusion-file, --encoder-file, --dataset-file"],
            ["files"],
        )
    try:
        return with_files(RunConfig(**merge(chosen, given)))
    except ValidationError as error:
        raise refused(error, RunConfig.model_fields) from None


def recorded(settings: Mapping[str, Any]) -> RunConfig:
    """The configuration of a run that has been made, from its settings as a file holds them.

    Nothing is filled in from today's recipes and defaults, and methods, fusions, encoders and datasets may have names
    that are not known here (any more, or without the user's own files).

    Args:
        settings: Every field of the configuration, as plain JSON.

    Returns:
        The configuration, with the key that it had when it was made.

    Raises:
        ValidationError: The settings are not those of a run.
    """
    return RunConfig.model_validate(dict(settings), context=RECORDED)


def with_files(config: RunConfig) -> RunConfig:
    """The configuration with the digests of those parts, weights too, that come from files outside the project."""
    used = [config.dataset, config.method, config.fusion, *config.encoders.values()]
    weights = {str(options["weights"]) for options in config.encoder_args.values() if "weights" in options}
    files = {name: FILES[name] for name in used if name in FILES}
    files |= {w: hashlib.sha256(Path(w).read_bytes()).hexdigest()[:16] for w in weights if Path(w).is_file()}
    return config.model_copy(update={"files": files})


def refused(error: ValidationError, names: Collection[str]) -> ConfigError:
    """All of pydantic's errors, as mistakes in settings that may have ``names``."""
    errors = error.errors()
    return ConfigError([explain(e, names) for e in errors], {str(e["loc"][0]) for e in errors if e["loc"]})


def explain(error: Mapping[str, Any], names: Collection[str]) -> str:
    """One of pydantic's errors in one line."""
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{where}: there is no such setting{nearest(str(error['loc'][-1]), names)}"
    if error["type"] == "missing":
        return f"{where}: is missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    if not where:  # all of it
        return message
    given = reprlib.repr(error["input"])  # not all of a long list
    return f"{where}: {message}" if "ctx" in error and "error" in error["ctx"] else f"{where}={given}: {message}"


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` wins; mappings are merged, everything else is replaced."""
    both = {
        k: merge(base[k], v) for k, v in over.items() if isinstance(v, Mapping) and isinstance(base.get(k), Mapping)
    }
    return {**base, **over, **both}


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names to mappings in mappings: {"a.b": 1} -> {"a": {"b": 1}}."""
    out: dict[str, Any] = {}
    for name, value in flat.items():
        head, dot, rest = name.partition(".")
        out = merge(out, {head: nest({rest: value}) if dot else value})
    return out


def parse(settings: Sequence[str]) -> dict[str, Any]:
    """Settings as a command line gives them.

    Args:
        settings: Each written name=value, such as ``["lr=0.05", "method_args.alpha=0.8"]``; values are YAML.

    Returns:
        Name -> value; dots stay in the names.

    Raises:
        ConfigError: One line per mistake.
    """
    values, mistakes = read_settings(settings, "method=ogm_ge or lr=0.05")
    if mistakes:
        raise ConfigError(mistakes, values=values)
    return values
