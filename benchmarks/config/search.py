"""Distributions over the options of a method, and the random streams that values are drawn from.

A space is a mapping from option to distribution. No distribution names a modality: what belongs to one modality is
drawn for a modality that is itself drawn (``OneModality``), or for each of them alike (``EachModality``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

DIGITS = 4  # significant digits of a drawn number: enough to search, and short enough to be read and typed


class Distribution(Protocol):
    """What an option's value is drawn from."""

    def sample(self, generator: np.random.Generator, modalities: Sequence[str]) -> Any:
        """Draw a value.

        Args:
            generator: Where randomness comes from. Only its ``random()`` is used, whose values do not depend on NumPy's
                version.
            modalities: The modalities of the data set.

        Returns:
            The value, as plain JSON.
        """


@dataclass(frozen=True)
class Choice:
    """One of a few values, each equally likely.

    Args:
        values: The values, at least one.
    """

    values: tuple[Any, ...]

    def sample(self, generator: np.random.Generator, modalities: Sequence[str]) -> Any:
        """Draw one of the values."""
        return self.values[int(generator.random() * len(self.values))]

    def __str__(self) -> str:
        return "|".join(map(str, self.values))


@dataclass(frozen=True)
class Uniform:
    """A number between two others, uniformly.

    Args:
        low: The least.
        high: The greatest, above ``low``.
    """

    low: float
    high: float

    def sample(self, generator: np.random.Generator, modalities: Sequence[str]) -> float:
        """Draw a number."""
        return _rounded(self.low + (self.high - self.low) * generator.random())

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}"


@dataclass(frozen=True)
class LogUniform:
    """A number between two others, whose logarithm is uniform.

    Args:
        low: The least, above 0.
        high: The greatest, above ``low``.
    """

    low: float
    high: float

    def sample(self, generator: np.random.Generator, modalities: Sequence[str]) -> float:
        """Draw a number."""
        return _rounded(float(self.low * (self.high / self.low) ** generator.random()))

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g} (log)"


@dataclass(frozen=True)
class OneModality:
    """A value for one modality, each equally likely to be the one, and a fixed value for the others.

    Args:
        of: What the value is drawn from.
        others: The value of all other modalities. It is written out, so that no default for them remains.
    """

    of: Distribution
    others: float

    def sample(self, generator: np.random.Generator, modalities: Sequence[str]) -> dict[str, Any]:
        """Draw a modality and its value: modality -> value for all of them."""
        names = sorted(modalities)
        chosen = names[int(generator.random() * len(names))]
        return {**dict.fromkeys(names, self.others), chosen: self.of.sample(generator, modalities)}

    def __str__(self) -> str:
        return f"{self.of} for any one modality, {self.others:g} for the others"


@dataclass(frozen=True)
class EachModality:
    """A value for each modality, all from one distribution, independently.

    Args:
        of: What each value is drawn from.
    """

    of: Distribution

    def sample(self, generator: np.random.Generator, modalities: Sequence[str]) -> dict[str, Any]:
        """Draw the values: modality -> value for all of them."""
        return {name: self.of.sample(generator, modalities) for name in sorted(modalities)}

    def __str__(self) -> str:
        return f"{self.of} for each modality"


Space = Mapping[str, Distribution]
LR_FACTOR = LogUniform(0.25, 4.0)  # what every method's learning rate is multiplied by: 2 to the power of U(-2, 2)


def stream(*name: str | int) -> np.random.Generator:
    """A stream of random numbers of its own, the same on every machine.

    Args:
        *name: What the numbers are for. Another name is another stream, independent of this one.
    """
    digest = hashlib.sha256(json.dumps(name).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest)))


def draw(space: Space, modalities: Sequence[str], *name: str | int) -> dict[str, Any]:
    """Draw a value for every option of a space.

    Args:
        space: Option -> distribution.
        modalities: The modalities of the data set.
        *name: What the values are for. Each option has a stream of its own below this name, so that its value does not
            depend on which other options there are.

    Returns:
        Option -> value.
    """
    return {option: of.sample(stream(*name, f"method_args.{option}"), modalities) for option, of in space.items()}


def draw_lr(lr: float, *name: str | int) -> float:
    """Draw a learning rate around a recipe's.

    Args:
        lr: The recipe's learning rate.
        *name: What it is for, as in ``draw``.
    """
    return _rounded(lr * LR_FACTOR.sample(stream(*name, "lr"), ()))


def _rounded(x: float) -> float:
    return float(f"{x:.{DIGITS}g}")
