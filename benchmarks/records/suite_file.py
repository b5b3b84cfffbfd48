"""What a results folder was made from: its suite.json, which tables are made again by and others do not write over."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from benchmarks.config import suite
from benchmarks.config.run_config import ConfigError, explain, nest
from benchmarks.config.suite import Seeds, Strict, Suite
from benchmarks.records.record import write_whole

NAME = "suite.json"


class Comparison(Strict):
    """Methods in one ranked table: what ``compare`` was asked for."""

    given: dict[str, Any]
    methods: list[str] = Field(min_length=1)
    seeds: Seeds

    def suite(self) -> Suite:
        return suite.compare(self.given, self.methods, self.seeds)

    def folder(self) -> Path:
        """A folder of its own, the same for any number of seeds."""
        one = self.suite().tables[0].rows[0].configs[0]
        asked = {**nest(self.given), "dataset": one.dataset, "fusion": one.fusion, "methods": self.methods}
        word = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:6]
        return Path("results") / "compare" / f"{one.dataset}-{one.fusion}-{word}"

    def joined(self, before: Made) -> Comparison | None:
        """Both in one folder, with the larger number of seeds; None where they are not the same comparison."""
        other = before.compare
        if other is None or self.folder() != other.folder():
            return None
        return self.model_copy(update={"seeds": max(self.seeds, other.seeds)})


class Recipe(Strict):
    """The tables of a suite: what ``reproduce`` was asked for."""

    name: str
    datasets: list[str]
    seeds: Seeds | None = None
    quick: bool = False

    def suite(self) -> Suite:
        return suite.load(self.name, datasets=self.datasets, seeds=self.seeds, quick=self.quick)

    def folder(self) -> Path:
        return Path("results") / (f"{self.name}-quick" if self.quick else self.name)

    def joined(self, before: Made) -> Recipe | None:
        """Both in one folder: the data of either, and the larger number of seeds; None for another suite."""
        other = before.suite
        if other is None or self.folder() != other.folder():
            return None
        datasets = list(dict.fromkeys([*other.datasets, *self.datasets]))
        both = [self.model_copy(update={"datasets": datasets, "seeds": seeds}) for seeds in (other.seeds, self.seeds)]
        return max(both, key=lambda recipe: len(recipe.suite().configs()))


class Made(Strict):
    """suite.json: one of the two."""

    suite: Recipe | None = None
    compare: Comparison | None = None

    @model_validator(mode="after")
    def _one(self) -> Made:
        if (self.suite is None) == (self.compare is None):
            raise ValueError('it must say either what "suite" or what "compare" it was made from')
        return self

    @property
    def asked(self) -> Recipe | Comparison:
        return self.suite or self.compare


def read(folder: Path) -> Made | None:
    """What the folder was made from; None for one that no suite or comparison has made. Raises ConfigError."""
    path = folder / NAME
    if not path.exists():
        return None
    names = {name for part in (Made, Recipe, Comparison) for name in part.model_fields}
    try:
        made = Made.model_validate_json(path.read_bytes())
        made.asked.suite()
    except ValidationError as error:
        mistakes = [explain(e, names) for e in error.errors()]
    except ConfigError as error:
        mistakes = error.mistakes
    else:
        return made
    raise ConfigError(
        [f"{path}: {mistake}; restore it, or delete it and make the folder again" for mistake in mistakes]
    )


def claim(folder: Path, asked: Recipe | Comparison, *, overwrite: bool) -> Recipe | Comparison:
    """Write down what the folder is made from, with what it has already; returns that.

    Raises ConfigError for a folder that another comparison or suite has made, unless it may be replaced: then its
    tables and figures go. Records stay, each under its own key.
    """
    before = read(folder)
    whole = asked if before is None else asked.joined(before)
    if whole is None:
        if not overwrite:
            how = "give another --results, or --overwrite to replace it"
            raise ConfigError([f"{folder} was made by another comparison or suite: {how}"])
        for name in ("tables", "figures"):
            shutil.rmtree(folder / name, ignore_errors=True)
        whole = asked
    kind = "suite" if isinstance(whole, Recipe) else "compare"
    write_whole(folder / NAME, json.dumps({kind: whole.model_dump(mode="json")}, indent=1, sort_keys=True) + "\n")
    return whole
