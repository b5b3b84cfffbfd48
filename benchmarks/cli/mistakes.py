"""All mistakes of a command line at once: of its words, its settings, the options of its parts, and its dashboards."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from benchmarks.cli.options import require_dashboards

if TYPE_CHECKING:
    from benchmarks.config.run_config import RunConfig

T = TypeVar("T")
# Settings that mean nothing without another one: while that one is wrong, nothing can be said of them.
_DEPENDENT: Mapping[str, tuple[str, ...]] = {
    "method": ("methods", "method_args"),
    "methods": ("method_args",),
    "fusion": ("fusion_args",),
    "dataset": ("dataset_args", "encoders", "encoder_args", "fusion_args"),
    "encoders": ("encoder_args",),
}
_OPTIONS = ("method_args", "fusion_args", "encoder_args")  # checked by classes, whose import takes seconds


def checked(
    args: argparse.Namespace, make: Callable[[dict[str, Any]], T], runs: Callable[[T], Collection[RunConfig]]
) -> T:
    """What the settings of a command line ask for.

    A setting that is wrong is left out, and the others are checked without it, so that one command line has to be
    corrected once.

    Args:
        args: The command line.
        make: Makes it of the settings (name -> value, dots in the names), and raises ConfigError.
        runs: Its runs.

    Returns:
        What ``make`` made.

    Raises:
        ConfigError: One line per mistake.
    """
    from benchmarks.config.run_config import ConfigError, parse

    values, mistakes, asked = {}, [], None
    try:
        values = parse(args.settings)
    except ConfigError as error:
        values, mistakes = error.values, error.mistakes
    while asked is None:
        try:
            asked = make(dict(values))
        except ConfigError as error:
            mistakes += error.mistakes
            wrong = {*error.settings, *(name for setting in error.settings for name in _DEPENDENT.get(setting, ()))}
            rest = {name: value for name, value in values.items() if name.partition(".")[0] not in wrong}
            if len(rest) == len(values):
                break
            values = rest
    try:
        require_dashboards(args)
    except ConfigError as error:
        mistakes += error.mistakes
    if not mistakes and asked is not None:
        return asked
    if asked is not None and any(name.partition(".")[0] in _OPTIONS for name in values):
        mistakes += _option_mistakes(runs(asked))
    raise ConfigError(list(dict.fromkeys(mistakes)))


def _option_mistakes(configs: Collection[RunConfig]) -> list[str]:
    """What the classes of runs say of their options."""
    from benchmarks.config.run_config import ConfigError
    from benchmarks.runner.experiment import resolve_all

    try:
        resolve_all(list(configs))
    except ConfigError as error:
        return error.mistakes
    return []
