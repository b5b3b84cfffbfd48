"""What a results folder holds: suite.json lists its tables, their rows and the runs of each row.

Tables are made again from this file and the records alone, so that a changed recipe or default changes nothing in them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field, ValidationError, model_validator

from benchmarks.config import suite as suites
from benchmarks.config.run_config import ConfigError, RunConfig, explain, key_of, known, nest, recorded
from benchmarks.config.suite import OWN, RULE, Row, Seeds, Strict, Suite, Table, Trial
from benchmarks.records.record import write_whole

NAME = "suite.json"


class Request(Protocol):
    """What a command was asked to make a results folder of."""

    def made_from(self) -> dict[str, dict[str, Any]]:
        """What tells it from others that are not to be written over."""


class Comparison(Strict):
    """Methods in one ranked table: what ``compare`` was asked for."""

    given: dict[str, Any]
    methods: list[str] = Field(min_length=1)
    seeds: Seeds

    def suite(self) -> Suite:
        """The table and its runs, with today's recipes and defaults. Raises ConfigError."""
        return suites.compare(self.given, self.methods, self.seeds)

    def made_from(self) -> dict[str, Any]:
        """What tells this comparison from others: the same for any number of seeds."""
        asked = self._settings()
        return {"compare": {"given": json.loads(json.dumps(asked, default=str)), "methods": self.methods}}

    def folder(self) -> Path:
        """A results folder of its own, the same for any number of seeds."""
        asked = {**self._settings(), "methods": self.methods}
        word = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:6]
        return Path("results") / "compare" / f"{asked['dataset']}-{asked['fusion']}-{word}"

    def _settings(self) -> dict[str, Any]:
        first = self.suite().tables[0].rows[0].configs[0]
        return {**nest(self.given), "dataset": first.dataset, "fusion": first.fusion}


class Recipe(Strict):
    """The tables of a suite: what ``reproduce`` was asked for."""

    name: str
    datasets: list[str]
    seeds: Seeds | None = None
    quick: bool = False

    def suite(self) -> Suite:
        """The suite's tables and runs, with today's recipes and defaults. Raises ConfigError."""
        return suites.load(self.name, datasets=self.datasets, seeds=self.seeds, quick=self.quick)

    def made_from(self) -> dict[str, Any]:
        """What tells this suite from others: the same for any data and any number of seeds.

        A file of the user's own is known by its content, too.
        """
        path = suites.path_of(self.name)
        about: dict[str, Any] = {"name": path.stem, "quick": self.quick}
        if path.resolve().parent != suites.FOLDER.resolve():
            about["file"] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        return {"suite": about}

    def folder(self) -> Path:
        """The results folder of this suite."""
        name = suites.path_of(self.name).stem
        return Path("results") / (f"{name}-quick" if self.quick else name)


class RowEntry(Strict):
    """A row in suite.json."""

    label: str = Field(min_length=1)
    against: str | None
    runs: list[str]  # keys
    rule: str = Field(default=OWN, pattern=RULE)


class TableEntry(Strict):
    """A table in suite.json."""

    name: str = Field(min_length=1)
    title: str
    dataset: str
    variant: str = Field(min_length=1)
    ranked: bool
    rows: list[RowEntry] = Field(min_length=1)

    @model_validator(mode="after")
    def _labels(self) -> TableEntry:
        labels = [row.label for row in self.rows]
        if twice := [label for label in labels if labels.count(label) > 1]:
            raise ValueError(f"two rows are called {twice[0]!r}")
        for row in self.rows:
            if row.against is not None:
                known(row.against, labels)
        return self


class TrialEntry(Strict):
    """A trial in suite.json."""

    row: str = Field(min_length=1)
    number: int = Field(ge=0)
    competes: bool
    runs: list[str] = Field(min_length=1)  # keys


class SuiteFile(Strict):
    """The whole of suite.json."""

    made_from: dict[str, dict[str, Any]]
    name: str
    title: str
    quick: bool
    tables: list[TableEntry]
    trials: list[TrialEntry] = Field(default_factory=list)  # of a search
    runs: dict[str, dict[str, Any]]  # key -> the whole configuration


@dataclass(frozen=True)
class Recorded:
    """What a results folder was made from (see ``made_from``), and its tables with their runs."""

    made_from: Mapping[str, Any]
    suite: Suite


def read(folder: Path) -> Recorded | None:
    """The tables of a results folder, with the runs they were made of.

    Args:
        folder: A folder that ``reproduce`` or ``compare`` made.

    Returns:
        None for a folder without suite.json.

    Raises:
        ConfigError: The file is not as ``save`` wrote it; one line per mistake.
    """
    path = folder / NAME
    if not path.exists():
        return None
    names = {name for part in (SuiteFile, TableEntry, RowEntry, TrialEntry) for name in part.model_fields}
    try:
        content = SuiteFile.model_validate_json(path.read_bytes())
        return Recorded(content.made_from, _suite_of(content))
    except ValidationError as error:
        mistakes = [explain(e, names) for e in error.errors()]
    except ConfigError as error:
        mistakes = error.mistakes
    raise ConfigError(
        [f"{path}: {mistake}; restore it, or delete it and make the folder again" for mistake in mistakes]
    )


def _suite_of(content: SuiteFile) -> Suite:
    """Raises ConfigError where runs are missing or contradict their keys, and where two tables are called the same."""
    runs, mistakes = {}, []
    for key, settings in content.runs.items():
        try:
            runs[key] = recorded(settings)
        except ValidationError as error:
            mistakes += [f"runs.{key}.{explain(e, RunConfig.model_fields)}" for e in error.errors()]
            continue
        if key_of(settings) != key:
            mistakes.append(f"runs.{key}: its configuration has the key {key_of(settings)}")
    tables = []
    for table in content.tables:
        missing = [key for row in table.rows for key in row.runs if key not in content.runs]
        mistakes += [f"table {table.name}: there is no run {key}" for key in missing]
        if mistakes:
            continue
        rows = tuple(Row(row.label, tuple(runs[key] for key in row.runs), row.against, row.rule) for row in table.rows)
        tables.append(Table(table.name, table.title, table.dataset, table.variant, rows, table.ranked))
    for trial in content.trials:
        missing = [key for key in trial.runs if key not in content.runs]
        mistakes += [f"trial {trial.number} of {trial.row}: there is no run {key}" for key in missing]
    slugs = [table.slug for table in tables]
    mistakes += [f"two tables are called {slug}" for slug in dict.fromkeys(slugs) if slugs.count(slug) > 1]
    if mistakes:
        raise ConfigError(mistakes)
    trials = tuple(Trial(t.row, t.number, tuple(runs[key] for key in t.runs), t.competes) for t in content.trials)
    return Suite(content.name, content.title, tuple(tables), content.quick, trials)


def save(folder: Path, contents: Recorded) -> None:
    """Write suite.json.

    Args:
        folder: The results folder.
        contents: Its tables and what they were made from.

    Raises:
        Unwritable: The file cannot be written.
    """
    suite = contents.suite
    tables = [
        {
            "name": table.name,
            "title": table.title,
            "dataset": table.dataset,
            "variant": table.variant,
            "ranked": table.ranked,
            "rows": [
                {"label": row.label, "against": row.against, "runs": [c.key for c in row.configs]}
                | ({} if row.rule == OWN else {"rule": row.rule})
                for row in table.rows
            ],
        }
        for table in suite.tables
    ]
    about = {"made_from": contents.made_from, "name": suite.name, "title": suite.title, "quick": suite.quick}
    trials = [
        {"row": t.row, "number": t.number, "competes": t.competes, "runs": [c.key for c in t.configs]}
        for t in suite.trials
    ]
    head = _lines({**about, "tables": tables}, 4).removesuffix("\n}")
    if trials:
        head += f',\n "trials": {_lines(trials, 1, " ")}'
    runs = [f"  {json.dumps(c.key)}: {json.dumps(c.model_dump(mode='json'), sort_keys=True)}" for c in suite.configs()]
    write_whole(folder / NAME, f'{head},\n "runs": {{\n' + ",\n".join(runs) + "\n }\n}\n")


def _lines(value: Any, depth: int, indent: str = "") -> str:
    """JSON with one line per element of the outer ``depth`` levels."""
    if not depth or not value or not isinstance(value, dict | list):
        return json.dumps(value)
    inner = f"{indent} "
    if isinstance(value, dict):
        parts = [f"{inner}{json.dumps(name)}: {_lines(part, depth - 1, inner)}" for name, part in value.items()]
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    return "[\n" + ",\n".join(f"{inner}{_lines(part, depth - 1, inner)}" for part in value) + f"\n{indent}]"


def claim(folder: Path, asked: Request, suite: Suite, *, overwrite: bool) -> Suite:
    """Write down what a results folder is made of: what is asked for now, and what it has already.

    Args:
        folder: The results folder.
        asked: What the command was asked for.
        suite: Its tables.
        overwrite: Whether a folder that another comparison or suite has made may be replaced. Then its tables and
            figures are deleted; records stay, each under its own key.

    Returns:
        All tables of the folder.

    Raises:
        ConfigError: Another comparison or suite has made the folder, and it may not be replaced.
    """
    before = read(folder)
    if before is not None and before.made_from != asked.made_from():
        if not overwrite:
            raise ConfigError([f"{folder} was made {_difference(before.made_from, asked.made_from())}"])
        for name in ("tables", "figures"):
            shutil.rmtree(folder / name, ignore_errors=True)
        before = None
    whole = suite if before is None else joined(before.suite, suite)
    save(folder, Recorded(asked.made_from(), whole))
    return whole


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """By what else a folder was made, and what can be done."""
    advice = "give another --results, or --overwrite to replace its tables"
    names = [made.get("suite", {}).get("name") for made in (before, now)]
    if names[0] is not None and names[0] == names[1] and all("file" in made["suite"] for made in (before, now)):
        return f"from {names[0]}.yaml as it was before it was changed: {advice}; its records stay"
    return f"by another comparison or suite: {advice}"


def joined(before: Suite, now: Suite) -> Suite:
    """Both in one: tables of either; where both have one, today's, unless all of its runs are among the earlier ones.

    So more seeds go on, and asking for fewer loses nothing.
    """
    earlier = {table.slug: table for table in before.tables}
    tables = {table.slug: _fuller(earlier.get(table.slug), table) for table in now.tables}
    return Suite(now.name, now.title, tuple({**earlier, **tables}.values()), now.quick, now.trials)


def _fuller(before: Table | None, now: Table) -> Table:
    if before is None:
        return now
    had = {row.label: {c.key for c in row.configs} for row in before.rows}
    return before if all({c.key for c in row.configs} <= had.get(row.label, set()) for row in now.rows) else now
