"""What happens while runs are carried out, as typed values that can travel between processes and machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.config.run_config import RunConfig
from benchmarks.records.record import RunRecord


@dataclass(frozen=True)
class Event:
    """Something that happened in one run.

    Args:
        key: The run's key (``RunConfig.key``).
    """

    key: str


@dataclass(frozen=True)
class RunStarted(Event):
    """A run begins, or goes on from a checkpoint.

    Args:
        config: The run's configuration.
        epochs: How many epochs it trains in all; 0 for a method that only evaluates earlier runs.
        resumed_at: How many of them are done already.
        curves: The record's curves of these: one value per epoch.
    """

    config: RunConfig
    epochs: int
    resumed_at: int
    curves: Mapping[str, Sequence[float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class StepDone(Event):
    """One optimizer step is done.

    Args:
        epoch: The epoch it belongs to, from 0.
        fraction: How much of that epoch is done, in (0, 1].
    """

    epoch: int
    fraction: float


@dataclass(frozen=True)
class EpochEnded(Event):
    """An epoch is trained, evaluated and saved.

    Args:
        epoch: How many epochs are done.
        metrics: The newest value of every curve of the record: ``train/loss/fused``, ``val/accuracy``, ...
    """

    epoch: int
    metrics: Mapping[str, float | None]


@dataclass(frozen=True)
class Warned(Event):
    """Something that a person should know and that does not change a number.

    Args:
        text: One line.
    """

    text: str


@dataclass(frozen=True)
class RunFinished(Event):
    """A run has ended, one way or another.

    Args:
        config: The run's configuration.
        record: What came of it; ``record.status`` says whether it was done.
    """

    config: RunConfig
    record: RunRecord


@dataclass(frozen=True)
class RunDeferred(Event):
    """A run was written down for somebody else to carry out; what builds on it may follow.

    Args:
        config: The run's configuration.
    """

    config: RunConfig


EventHandler = Callable[[Event], None]


def ignore_event(event: Event) -> None:
    """The handler of those who do not listen."""


def as_json(event: Event) -> dict[str, Any]:
    """The event as plain JSON: its class under ``event``, then its fields."""
    fields = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    for name, value in fields.items():
        if isinstance(value, RunConfig):
            fields[name] = value.model_dump(mode="json")
        elif isinstance(value, RunRecord):
            fields[name] = dataclasses.asdict(value)
    return {"event": type(event).__name__, **fields}


def from_json(content: Mapping[str, Any]) -> Event:
    """The event that ``as_json`` has made plain.

    Raises:
        ValueError: It is not what ``as_json`` writes.
    """
    fields = dict(content)
    kinds = {cls.__name__: cls for cls in (RunStarted, StepDone, EpochEnded, Warned, RunFinished, RunDeferred)}
    try:
        if "config" in fields:
            fields["config"] = RunConfig(**fields["config"])
        if "record" in fields:
            fields["record"] = RunRecord(**fields["record"])
        return kinds[fields.pop("event")](**fields)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an event: {error}") from None
