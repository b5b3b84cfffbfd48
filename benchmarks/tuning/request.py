"""What ``tune`` was asked for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from benchmarks.config.suite import Seeds
from benchmarks.records.suite_file import Comparison


class Tuning(Comparison):
    """Methods in one ranked table, each with its defaults and with what a search finds for it.

    Args:
        given: The settings that all rows share. What is given is not searched, but for the learning rate, which is
            searched around the one that is given.
        methods: Names of methods or forms; ``vanilla`` first.
        seeds: Fresh units per row: the runs of the tables.
        trials: Trials per row, the default settings among them.
        units: Tuning units: the runs of a trial.
        tuning_seed: Starts the streams that trials are drawn from.
    """

    seeds: Seeds = 5
    trials: Annotated[int, Field(ge=1, le=1000)] = 8
    units: Annotated[int, Field(ge=1, le=1000)] = 2
    tuning_seed: int = Field(default=0, ge=0)

    def made_from(self) -> dict[str, Any]:
        """What tells this search from others: the same for any number of fresh units."""
        return {"tune": {**super().made_from()["compare"], **self._budget()}}

    def folder(self) -> Path:
        """A results folder of its own, the same for any number of fresh units."""
        compared = super().folder()
        word = hashlib.sha256(json.dumps([compared.name, self._budget()], sort_keys=True).encode()).hexdigest()[:6]
        return Path("results") / "tune" / f"{compared.name.rpartition('-')[0]}-{word}"

    def _budget(self) -> dict[str, int]:
        return {"trials": self.trials, "units": self.units, "tuning_seed": self.tuning_seed}
