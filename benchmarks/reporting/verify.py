"""A results folder of anybody's, verified: what its records say is computed again from the logits beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.config.run_config import PROTOCOL, ConfigError, recorded
from benchmarks.config.suite import Suite
from benchmarks.records import store, suite_file
from benchmarks.records.logits import Logits
from benchmarks.records.predictions import Predictions, scores
from benchmarks.records.record import RunRecord
from benchmarks.reporting import tables
from benchmarks.reporting.frames import fingerprints
from benchmarks.reporting.runs import runs_frame
from datasets.core.errors import DataError
from datasets.registry import DATASETS
from ogm.registry import STRATEGIES, find

TOLERANCE = 1e-9  # relative: another version of NumPy may add in another order


@dataclass
class Findings:
    """What was verified, and what is wrong.

    Args:
        problems: One line each.
        runs: Records that were read.
        recomputed: Those whose every score was computed again from its logits.
        without_logits: The names of those whose logits are not beside them, so that this could not be done.
        data: Draws of the data that were compared with the data here, and those that are not here.
        tables: Files of numbers that were made again and compared.
    """

    problems: list[str] = field(default_factory=list)
    runs: int = 0
    recomputed: int = 0
    without_logits: list[str] = field(default_factory=list)
    data: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    tables: int = 0


def verify(folder: Path, on_record: Callable[[int, int], object] = lambda *_: None) -> Findings:
    """Verify a results folder. Nothing in it is changed.

    Every record: its digest, its key, its place, what its parts say of each other; its scores, computed from its
    logits; its options and first final epoch, where its method is known here. All together: labels and fingerprints
    that belong to the same data agree, and agree with the data here, where they can be had; each run that
    ``suite.json`` lists is there; the tables are those of the records.

    Args:
        folder: A folder that reproduce, compare, tune, grid or run made.
        on_record: Called with the number of records that were looked at, and of all.

    Raises:
        ValueError: There is no record in the folder.
    """
    found = Findings()
    records: dict[str, RunRecord] = {}
    for where, record in store.each_record(folder):
        if isinstance(record, ValueError):
            found.problems.append(f"{where}: {_without(folder, record)}")
        elif record.key in records and records[record.key].result_digest != record.result_digest:
            found.problems.append(f"{where}: the run {record.key} has another result in another file")
        else:
            records[record.key] = record
    found.runs = len(records)
    if not records and not found.problems:
        raise ValueError(f"{folder}: there is no record in this folder")
    if earlier := sum(record.protocol < PROTOCOL for record in records.values()):
        found.problems.append(f"{earlier} runs are of an earlier protocol, which kept no logits: they are not verified")
    truth = _Data(found)
    try:
        with Logits(folder) as logits:
            for number, record in enumerate(records.values(), 1):
                found.problems += (f"{_name(record)}: {x}" for x in _of_record(record, logits, truth, found))
                on_record(number, len(records))
            found.problems += _stray_logits(folder, logits, records)
    except ValueError as error:  # the packed file is no archive
        found.problems.append(_without(folder, error))
    if names := found.without_logits:
        shown = f"{'; '.join(names[:3])}{'; ...' if len(names) > 3 else ''}"
        found.problems.append(f"the logits of {len(names)} runs are missing, so their scores are not verified: {shown}")
    _verify_suite(folder, records, found)
    return found


def _without(folder: Path, error: ValueError) -> str:
    return str(error).replace(f"{folder}/", "")


def _name(record: RunRecord) -> str:
    return f"{record.key} ({recorded(record.config).title})"


def _of_record(record: RunRecord, logits: Logits, data: _Data, found: Findings) -> Iterator[str]:
    """What is wrong with one record."""
    if record.protocol < PROTOCOL:
        return
    yield from _of_method(record)
    if record.status != "done":
        return
    try:
        kept = logits.of(record)
    except ValueError as error:
        yield _without(logits.folder, error)
        return
    if kept is None:
        found.without_logits.append(_name(record))
        return
    yield from differences(record.scores, scores(kept), "scores")
    yield from data.compare(record, kept)
    found.recomputed += 1


def _of_method(record: RunRecord) -> Iterator[str]:
    """Whether options, first final epoch and rule of prediction are those of the method, where it is known here."""
    config, given = record.config, record.config["method_args"]
    for name, value in given.items() if record.options else ():
        if record.options.get("method_args", {}).get(name) != value:
            yield f"options.method_args.{name} is not {value!r}, which its configuration has"
    if config["method"] not in STRATEGIES or record.status != "done":
        return
    try:
        strategy = find(config["method"], STRATEGIES, "strategy")(**given)
    except (TypeError, ValueError) as error:
        yield f"{config['method']} does not take its options here: {error}"
        return
    first = strategy.first_final_epoch(config["epochs"]) if strategy.trains else 0
    if record.first_final_epoch != first:
        yield f"first_final_epoch is {record.first_final_epoch}; {config['method']} has its predictor from {first} on"
    if record.prediction != strategy.prediction:
        yield f"prediction is {record.prediction!r}; {config['method']} predicts by {strategy.prediction!r}"


def differences(recorded_scores: Any, computed: Any, where: str) -> Iterator[str]:
    """The first number in which nested scores differ, as a line; nothing where they agree up to rounding."""
    if isinstance(computed, Mapping):
        if not isinstance(recorded_scores, Mapping) or recorded_scores.keys() != computed.keys():
            yield f"{where} has not the entries {', '.join(computed)}"
            return
        for name, value in computed.items():
            for line in differences(recorded_scores[name], value, f"{where}.{name}"):
                yield line
                return
    elif isinstance(computed, list):
        if not isinstance(recorded_scores, list) or len(recorded_scores) != len(computed):
            yield f"{where} has not {len(computed)} entries"
            return
        for number, value in enumerate(computed):
            for line in differences(recorded_scores[number], value, f"{where}[{number}]"):
                yield line
                return
    elif (recorded_scores is None) != (computed is None) or (
        computed is not None and not math.isclose(recorded_scores, computed, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    ):
        yield f"{where} is {recorded_scores}; its logits give {computed}"


class _Data:
    """What is known of the data by now: fingerprints of each variant, labels of each fingerprint."""

    def __init__(self, found: Findings) -> None:
        self._found = found
        self._variants: dict[str, tuple[str, dict[str, str]]] = {}
        self._labels: dict[str, tuple[str, bytes]] = {}

    def compare(self, record: RunRecord, kept: Mapping[str, Predictions]) -> Iterator[str]:
        """What about a run's data contradicts other runs, or the data here."""
        config, words = recorded(record.config), fingerprints(record)
        variant = config.model_dump_json(include={"dataset", "dataset_args"})
        if variant not in self._variants:
            self._variants[variant] = record.key, words
            yield from self._compare_with_here(config.dataset, config.dataset_args, words)
        other, known = self._variants[variant]
        for split in words:
            if known.get(split) != words[split]:
                yield f"its {split} data are not those of {other}, which has the same dataset_args"
        for split, predictions in kept.items():
            labels = predictions.label.astype("<i8").tobytes()
            if split not in words:
                yield f"data.fingerprint has no {split}"
                continue
            other, expected = self._labels.setdefault(words[split], (record.key, labels))
            if labels != expected:
                yield f"its labels of {split} are not those {'of the data here' if other == HERE else f'of {other}'}"

    def _compare_with_here(self, dataset: str, args: Mapping[str, Any], words: Mapping[str, str]) -> Iterator[str]:
        try:
            here = dataset in DATASETS and may_be_loaded(args)
            splits = find(dataset, DATASETS, "dataset").module(**args).splits() if here else None
        except DataError:
            splits = None
        except (TypeError, ValueError) as error:
            yield f"{dataset} does not take its dataset_args here: {error}"
            return
        self._found.data[splits is not None] += 1
        for split, data in (splits or {}).items():
            if words.get(split) != data.fingerprint:
                yield f"its {split} data are not those that {dataset} has here"
            else:
                self._labels[data.fingerprint] = HERE, np.asarray(data.labels, "<i8").tobytes()


HERE = "here"
MOST_SAMPLES = 20_000  # of a data set that is generated: more would take minutes, and memory, of who checks a folder


def may_be_loaded(args: Mapping[str, Any]) -> bool:
    """Whether data with these options, which somebody else wrote, are loaded for the comparison.

    Not those of a file that the options name, which is another one here, if any; nor a great number of samples.
    """
    sizes = [value for name, value in args.items() if name.startswith("num_")]
    return "path" not in args and all(isinstance(n, int) and n <= MOST_SAMPLES for n in sizes)


def _stray_logits(folder: Path, logits: Logits, records: Mapping[str, RunRecord]) -> Iterator[str]:
    """Logits that belong to no record."""
    single = {path.stem.rpartition("-")[2] for path in (folder / "logits").rglob("*.npz")}
    for key in sorted((single | logits.packed_keys()) - records.keys()):
        yield f"there are logits of {key}, and no record"


def _verify_suite(folder: Path, records: Mapping[str, RunRecord], found: Findings) -> None:
    """Whether every run of ``suite.json`` is there, and the folder's numbers are those of its records."""
    try:
        made = suite_file.read(folder)
    except ConfigError as error:
        found.problems += (_without(folder, ValueError(mistake)) for mistake in error.mistakes)
        return
    if made is None:
        return
    for config in made.suite.configs():
        if config.key not in records:
            found.problems.append(f"{config.key} ({config.title}): suite.json lists this run, and it has no record")
        elif (record := records[config.key]).status != "done":
            found.problems.append(f"{_name(record)}: {record.status}: {record.reason}")
    try:
        expected = dict(_numbers(made.suite, records))
    except ValueError as error:
        found.problems.append(f"its tables cannot be made: {error}")
        return
    for name, content in expected.items():
        path = folder / name
        if not path.exists():
            found.problems.append(f"{name} is missing: `python -m benchmarks tables {folder}` makes it")
        elif path.read_text() != content:
            found.problems.append(
                f"{name} is not what its records say (or another version made it): `python -m benchmarks tables "
                f"{folder}` makes it anew"
            )
        else:
            found.tables += 1


def _numbers(suite: Suite, records: Mapping[str, RunRecord]) -> Iterator[tuple[str, str]]:
    """The files of numbers below a results folder, and their content."""
    yield "runs.csv", tables.to_csv(runs_frame(list(records.values())))
    for table in tables.format_tables(suite.tables, records, quick=suite.quick):
        yield f"tables/{table.table.slug}.csv", tables.to_csv(table.numbers)
        yield f"tables/{table.table.slug}.md", tables.to_markdown(table)
