"""A suite: the tables somebody wants, and the runs they need. Read from suites/*.yaml."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.config import ConfigError, RunConfig, configure, known, merge, nest

FOLDER = Path(__file__).parent / "suites"
# Further rows of a comparison, each a method with other options, named as methods are.
FORMS: dict[str, dict[str, Any]] = {
    # the weight that MM-DistillNet's released code gives the alignment of attention maps
    "kd_strong_to_weak + alignment": {"method": "kd_strong_to_weak", "method_args": {"w_mta": 0.005}},
}


@dataclass(frozen=True)
class Row:
    """One line of a table: the same settings over all seeds. ``configs[i]`` and those of the row it is compared with
    (``against``, a label in the same table) share their seeds, so that differences are paired."""

    label: str
    configs: tuple[RunConfig, ...]
    against: str | None = None


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
        return f"{self.name}-{self.variant}".lower().replace(" ", "-").replace("/", "-").replace(".", "")


@dataclass(frozen=True)
class Suite:
    name: str
    title: str
    tables: tuple[Table, ...]
    quick: bool = False  # shortened: every table says so

    def configs(self) -> list[RunConfig]:
        """Every run once, in the order of the tables."""
        return list({c.key: c for table in self.tables for row in table.rows for c in row.configs}.values())

    def data(self) -> dict[str, list[dict[str, Any]]]:
        return data_of(self.configs())


def data_of(configs: Sequence[RunConfig]) -> dict[str, list[dict[str, Any]]]:
    """dataset -> the different dataset_args that the runs ask for."""
    found: dict[str, list[dict[str, Any]]] = {}
    for config in configs:
        variants = found.setdefault(config.dataset, [])
        if config.dataset_args not in variants:
            variants.append(config.dataset_args)
    return found


def load(name: str, *, datasets: Sequence[str] = (), seeds: int | None = None, quick: bool = False) -> Suite:
    """The suite in ``suites/<name>.yaml``, on those of its data whose dataset is in ``datasets`` (none named: all).

    ``seeds`` training seeds instead of the file's. A row's own settings win over the file's ``quick`` ones, those over
    the data's, those over the table's. Raises ConfigError.
    """
    try:
        known(name, names())
    except ValueError as error:
        raise ConfigError([f"suite: {error}"]) from None
    spec = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    shortened = nest(spec["quick"]) if quick else {}
    few = shortened.pop("seeds", None)
    tables = []
    for data in spec["data"]:
        if datasets and data["dataset"] not in datasets:
            continue
        count = seeds or few or data.get("seeds", spec["seeds"])
        places = [merge(nest(place), {"seed": s}) for place in grid(data.get("places", {})) for s in range(count)]
        for table in data["tables"]:
            about = spec["tables"][table]
            common = merge(
                nest(about.get("settings", {})), nest({"dataset": data["dataset"], **data.get("settings", {})})
            )
            common = merge(common, shortened)
            rows = tuple(_row(entry, common, places, about.get("against")) for entry in about["rows"])
            tables.append(Table(table, about["title"], data["dataset"], data["name"], rows))
    if not tables:
        raise ConfigError(
            [
                f"suite {name} has nothing on {', '.join(datasets)}; it has "
                + ", ".join(sorted({d["dataset"] for d in spec["data"]}))
            ]
        )
    return Suite(name, spec["title"], tuple(tables), quick)


def _row(
    entry: Mapping[str, Any], common: Mapping[str, Any], places: Sequence[Mapping[str, Any]], against: str | None
) -> Row:
    settings = nest({k: v for k, v in entry.items() if k not in ("label", "against")})
    configs = tuple(configure(merge(merge(common, settings), place)) for place in places)
    against = entry.get("against", against)
    return Row(entry["label"], configs, None if against == entry["label"] else against)


def compare(given: Mapping[str, Any], methods: Sequence[str], seeds: int) -> Suite:
    """One ranked table: methods with the same settings otherwise. Raises ConfigError."""
    rows, mistakes = [], []
    for method in methods:
        for label, args in _forms(method, given):
            try:
                configs = tuple(
                    configure(merge(nest(given), {"method": method, "seed": s, **args})) for s in range(seeds)
                )
            except ConfigError as error:
                mistakes += error.mistakes
                continue
            rows.append(Row(label, configs, None if method == "vanilla" else "vanilla"))
    if mistakes:
        raise ConfigError(list(dict.fromkeys(mistakes)))
    one = rows[0].configs[0]
    title = f"{len(rows)} ways to train {one.fusion} on {one.dataset}"
    return Suite("compare", title, (Table("compare", title, one.dataset, one.dataset, tuple(rows), ranked=True),))


def competing(methods: Sequence[str]) -> list[str]:
    """The methods and forms that are meant, each once, vanilla first; ``all``: every one that competes."""
    from ogm.registry import STRATEGIES, find

    every = [name for name in STRATEGIES if find(name, STRATEGIES, "strategy").competes] + list(FORMS)
    wanted = [name for method in methods for name in (every if method == "all" else [method])]
    return list(dict.fromkeys(["vanilla", *wanted]))


def _forms(method: str, given: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """A method's rows in a comparison: one, but for ``unimodal``, which is one per modality."""
    if method in FORMS:
        return [(method, FORMS[method])]
    if method != "unimodal":
        return [(method, {})]
    encoders = configure({k: v for k, v in nest(given).items() if k in ("dataset", "encoders")}).encoders
    return [(f"{m} only", {"method_args": {"modality": m}}) for m in encoders]


def names() -> list[str]:
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
    configs, mistakes = [], []
    for one in grid(given):
        try:
            configs.append(configure(one))
        except ConfigError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ConfigError(list(dict.fromkeys(mistakes)))
    return configs
