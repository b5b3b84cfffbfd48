"""A suite: tables, and the runs they need. Read from suites/*.yaml, or from a file of the user's own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from benchmarks.config.run_config import ConfigError, RunConfig, configure, explain, known, merge, nest
from benchmarks.config.units import DRAWS, name_of_data
from datasets.registry import DATASETS
from ogm.registry import STRATEGIES, find

OWN = "own"  # the rule by which a method itself predicts
RULE = rf"^({OWN}|logit_sum|prob_mean|branch/.+)$"
FOLDER = Path(__file__).parent / "suites"
# Further rows of a comparison, each a method with other options, named as methods are.
FORMS: dict[str, dict[str, Any]] = {
    # the weight that MM-DistillNet's released code gives the alignment of attention maps
    "kd_strong_to_weak + alignment": {"method": "kd_strong_to_weak", "method_args": {"w_mta": 0.005}},
    # as the released commands for ResNets start
    "mcr + pretrained": {"method": "mcr", "method_args": {"pretrained": True}},
    # what the released scripts do, which is not what the paper describes
    "arl as released": {"method": "arl", "method_args": {"variant": "code"}},
    # the method of the paper: the released code, which is our default, never trains the classifiers that it adds
    "aug as in the paper": {"method": "aug", "method_args": {"variant": "paper"}},
    # the weight of audio in the released prediction, chosen for CREMA-D
    "aug + merge 0.4": {"method": "aug", "method_args": {"merge": 0.4}},
}


@dataclass(frozen=True)
class Row:
    """One line of a table: the same settings over several seeds.

    ``configs[i]`` and those of the row it is compared with (``against``, a label in the same table) share their seeds,
    so that differences are paired. A row whose settings a search still has to find has no runs yet. ``rule`` is the
    rule of prediction whose accuracies are shown: ``own`` is the method's; the others are read from the same runs (see
    ``benchmarks.records.predictions``).
    """

    label: str
    configs: tuple[RunConfig, ...]
    against: str | None = None
    rule: str = OWN


@dataclass(frozen=True)
class Table:
    """``name`` (table1, ...) on one dataset. ``rows`` stand in the order in which they are shown."""

    name: str
    title: str
    dataset: str  # our id: synthav, avmnist, crema_d
    variant: str  # what people call this data: "SynthAV", "SynthAV textbook"
    rows: tuple[Row, ...]
    ranked: bool = False  # sorted by validation-selected accuracy, with ranks

    @property
    def slug(self) -> str:
        """The name of the table's files."""
        return f"{self.name}-{self.variant}".lower().replace(" ", "-").replace("/", "-").replace(".", "")


@dataclass(frozen=True)
class Trial:
    """Settings that a search has tried for a row, over the units that it is judged on.

    Args:
        row: The label of the row.
        number: Which trial of the row it is; 0 has the default settings.
        configs: Its runs, one per unit.
        competes: Whether it may be chosen. A default that names a modality may not, where others are searched alike.
    """

    row: str
    number: int
    configs: tuple[RunConfig, ...]
    competes: bool = True


@dataclass(frozen=True)
class Suite:
    """Tables, with the runs that they need.

    Args:
        name: Its file's name, without .yaml.
        title: What stands above its tables.
        tables: In the order in which they are shown.
        quick: Whether its runs are shortened, which every table then says.
        trials: What a search has tried, for a suite whose rows have settings that were searched.
    """

    name: str
    title: str
    tables: tuple[Table, ...]
    quick: bool = False
    trials: tuple[Trial, ...] = ()

    def configs(self) -> list[RunConfig]:
        """Every run once: those of the trials, then those of the tables, in their order."""
        rows = [trial.configs for trial in self.trials] + [row.configs for table in self.tables for row in table.rows]
        return list({c.key: c for configs in rows for c in configs}.values())

    def data(self) -> dict[str, list[dict[str, Any]]]:
        """Dataset -> the different ``dataset_args`` that the runs ask for."""
        return data_of(self.configs())


def data_of(configs: Sequence[RunConfig]) -> dict[str, list[dict[str, Any]]]:
    """Dataset -> the different dataset_args that the runs ask for."""
    found: dict[str, list[dict[str, Any]]] = {}
    for config in configs:
        variants = found.setdefault(config.dataset, [])
        if config.dataset_args not in variants:
            variants.append(config.dataset_args)
    return found


Seeds = Annotated[int, Field(ge=1, le=1000)]


class Strict(BaseModel):
    """The base of everything that is read from a file: unknown names and other types are mistakes."""

    model_config = ConfigDict(extra="forbid", strict=True)


class RowSpec(Strict):
    """A line of a table: everything but these three is a setting of its runs."""

    model_config = ConfigDict(extra="allow")

    label: str = Field(min_length=1)
    against: str | None = None
    rule: str = Field(default=OWN, pattern=RULE)


class TableSpec(Strict):
    """A table, as a suite's file has it."""

    title: str
    rows: list[RowSpec] = Field(min_length=1)
    settings: dict[str, Any] = {}
    against: str | None = None

    @model_validator(mode="after")
    def _compared_with_rows(self) -> TableSpec:
        labels = [row.label for row in self.rows]
        if twice := [label for label in labels if labels.count(label) > 1]:
            raise ValueError(f"two rows are called {twice[0]!r}")
        for label in {self.against, *(row.against for row in self.rows)} - {None}:
            known(str(label), labels)
        return self


class DataSpec(Strict):
    """A dataset in one variant and the tables on it, as a suite's file has them."""

    name: str = Field(min_length=1)
    dataset: str
    tables: list[str] = Field(min_length=1)
    settings: dict[str, Any] = {}
    places: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}  # each combination is a run per seed
    seeds: Seeds | None = None

    @field_validator("dataset")
    @classmethod
    def _known(cls, name: str) -> str:
        return known(name, DATASETS)


class QuickSpec(Strict):
    """A shortened run: its number of seeds, and settings."""

    model_config = ConfigDict(extra="allow")

    seeds: Seeds | None = None


class SuiteSpec(Strict):
    """What a file in suites/ holds."""

    title: str
    seeds: Seeds
    quick: QuickSpec = QuickSpec()
    data: list[DataSpec] = Field(min_length=1)
    tables: dict[str, TableSpec]

    @model_validator(mode="after")
    def _known_tables(self) -> SuiteSpec:
        for data in self.data:
            for name in data.tables:
                known(name, self.tables)
        return self


def path_of(name: str) -> Path:
    """The file of a suite.

    Args:
        name: A name from ``names()``, or the path of a file of the user's own, which ends in .yaml.

    Raises:
        ConfigError: There is no such suite or file.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        if not Path(name).is_file():
            raise ConfigError([f"suite: there is no file {name}"])
        return Path(name)
    try:
        known(name, [*names(), "FILE.yaml"])
    except ValueError as error:
        raise ConfigError([f"suite: {error}"]) from None
    return FOLDER / f"{name}.yaml"


def load(name: str, *, datasets: Sequence[str] = (), seeds: int | None = None, quick: bool = False) -> Suite:
    """A suite with its tables and runs, as today's recipes and defaults have them.

    A row's own settings win over the file's ``quick`` ones, those over the data's, those over the table's.

    Args:
        name: A name from ``names()``, or the path of a YAML file.
        datasets: Which of its datasets; none named means all.
        seeds: Training seeds per row, instead of the file's.
        quick: Use the file's shortened runs.

    Raises:
        ConfigError: One line per mistake.
    """
    path = path_of(name)
    spec = read(path)
    there = {data.dataset for data in spec.data}
    if strange := [dataset for dataset in datasets if dataset not in there]:
        raise ConfigError([f"suite {name} has nothing on {', '.join(strange)}; it has {', '.join(sorted(there))}"])
    shortened = nest(spec.quick.model_extra or {}) if quick else {}
    few = spec.quick.seeds if quick else None
    tables: list[Table] = []
    mistakes: list[str] = []
    for data in spec.data:
        if not datasets or data.dataset in datasets:
            count = seeds or few or data.seeds or spec.seeds
            places = [merge(nest(place), {"seed": s}) for place in grid(data.places) for s in range(count)]
            found, wrong = _tables(spec, data, places, shortened)
            tables += found
            mistakes += [f"{path}, {mistake}" for mistake in wrong]
    slugs = [table.slug for table in tables]
    mistakes += [f"{path}: two tables are called {slug}" for slug in slugs if slugs.count(slug) > 1]
    if mistakes:
        raise ConfigError(list(dict.fromkeys(mistakes)))
    return Suite(path.stem, spec.title, tuple(tables), quick)


def _tables(
    spec: SuiteSpec, data: DataSpec, places: Sequence[Mapping[str, Any]], shortened: Mapping[str, Any]
) -> tuple[list[Table], list[str]]:
    """The tables on one of a suite's data, and what is wrong with their rows."""
    tables, mistakes = [], []
    for name in data.tables:
        table = spec.tables[name]
        common = merge(merge(nest(table.settings), nest(data.settings)), shortened)
        common = merge(common, {"dataset": data.dataset})
        rows = []
        for entry in table.rows:
            try:
                rows.append(_row(entry, common, places, table.against))
            except ConfigError as error:
                mistakes += [f"{name} on {data.name}, row {entry.label}: {mistake}" for mistake in error.mistakes]
        tables.append(Table(name, table.title, data.dataset, data.name, tuple(rows)))
    return tables, mistakes


def read(path: Path) -> SuiteSpec:
    """Raises ConfigError, one line per mistake, for a file that is no suite."""
    parts = (SuiteSpec, DataSpec, TableSpec, RowSpec)
    try:
        return SuiteSpec.model_validate(yaml.safe_load(path.read_text()))
    except yaml.YAMLError as error:
        mistakes = [f"not readable as YAML: {' '.join(str(error).split())}"]
    except ValidationError as error:
        mistakes = [explain(e, {name for part in parts for name in part.model_fields}) for e in error.errors()]
    except (ValueError, RecursionError) as error:  # no text, a date that does not exist, lists within lists
        mistakes = [" ".join(str(error).split())]
    raise ConfigError([f"{path}: {mistake}" for mistake in mistakes])


def _row(entry: RowSpec, common: Mapping[str, Any], places: Sequence[Mapping[str, Any]], against: str | None) -> Row:
    settings = nest(entry.model_extra or {})
    configs = tuple(configure(merge(merge(common, settings), place)) for place in places)
    if strange := [c.dataset for c in configs if c.dataset != common["dataset"]]:
        raise ConfigError([f"dataset={strange[0]!r}: the table is one on {common['dataset']}"])
    against = entry.against or against
    return Row(entry.label, configs, None if against == entry.label else against, entry.rule)


def compare(given: Mapping[str, Any], methods: Sequence[str], seeds: int) -> Suite:
    """One ranked table: methods with the same settings otherwise.

    Args:
        given: The settings that all rows share.
        methods: Names of methods, or of ``FORMS``.
        seeds: Runs per row. Where the data set can be drawn anew, each has a draw of its own, which is what a result is
            to carry over to; where it can be split anew, each has a split of its own; otherwise they differ in their
            training seeds.

    Raises:
        ConfigError: One line per mistake.
    """
    shared = nest(given)
    wrong = {name for name in ("method", "seed") if name in given}
    rows, mistakes = [], [f"{name}: a comparison is given {name}s=" for name in sorted(wrong)]
    for method in methods:
        try:
            for label, args in _forms(method, given):
                settings = merge(shared, {"method": method, **args})
                one, chosen = configure(settings), settings.get("dataset_args", {})
                places = [replicate(one, chosen, number) for number in range(seeds)]
                configs = tuple(configure(merge(settings, place)) for place in places)
                rows.append(Row(label, configs, None if method == "vanilla" else "vanilla"))
        except ConfigError as error:
            mistakes += error.mistakes
            wrong |= error.settings
    if mistakes:
        raise ConfigError(list(dict.fromkeys(mistakes)), wrong)
    one = rows[0].configs[0]
    title = f"{len(rows)} ways to train {one.fusion} on {name_of_data(one.dataset, one.dataset_args)}"
    return Suite("compare", title, (Table("compare", title, one.dataset, one.dataset, tuple(rows), ranked=True),))


def replicate(config: RunConfig, chosen: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The settings of one of several replications of a run.

    Args:
        config: The run.
        chosen: Those of its ``dataset_args`` that have been chosen; they stay as they are.
        number: Which replication, from 0.

    Returns:
        A training seed, and a draw or a split of the data of its own where there are several and none is chosen.
    """
    if drawn := [name for name in DRAWS if name in config.dataset_args]:
        return {"seed": number, "dataset_args": {name: number for name in drawn if name not in chosen}}
    return {"seed": number, "dataset_args": find(config.dataset, DATASETS, "dataset").resplit(chosen, number)}


def competing(methods: Sequence[str]) -> list[str]:
    """The methods and forms of a comparison, each once, vanilla first.

    Args:
        methods: Their names; ``all`` stands for every one that competes.
    """
    every = [name for name in STRATEGIES if find(name, STRATEGIES, "strategy").competes] + list(FORMS)
    wanted = [name for method in methods for name in (every if method == "all" else [method])]
    return list(dict.fromkeys(["vanilla", *wanted]))


def _forms(method: str, given: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """A method's rows in a comparison: one, but for ``unimodal``, which is one per modality."""
    if method in FORMS:
        return [(method, FORMS[method])]
    if method != "unimodal":
        return [(method, {})]
    encoders = configure(given).encoders
    return [(f"{m} only", {"method_args": {"modality": m}}) for m in encoders]


def names() -> list[str]:
    """The suites that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def grid(axes: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of the list-valued entries, in the order they are written."""
    listed = {k: v if isinstance(v, list) else [v] for k, v in axes.items()}
    for values in itertools.product(*listed.values()):
        yield dict(zip(listed, values, strict=True))


def expand(given: Mapping[str, Any]) -> list[RunConfig]:
    """The runs of a grid: every combination of what is given as a list. Raises ConfigError with all mistakes.

    A setting that is a list itself is given as a list of one: ``lr_steps=[[70]]``.
    """
    configs, mistakes, wrong = [], [], set[str]()
    for one in grid(given):
        try:
            configs.append(configure(one))
        except ConfigError as error:
            mistakes += error.mistakes
            wrong |= error.settings
    if mistakes:
        raise ConfigError(list(dict.fromkeys(mistakes)), wrong)
    return configs
