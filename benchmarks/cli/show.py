"""The command ``show``: one record, to read."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.records.record import RunRecord

BRIEF = "one record, to read"
DESCRIPTION = """\
Prints the record of one run: its settings, its results, its data, what it cost and where it was made.
runs.csv of each results folder lists the keys."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("key", help="the run's key, or the first letters of it")
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        help="a results folder, or one with results folders below it (default: %(default)s)",
    )


def execute(args: argparse.Namespace) -> int:
    """Print every record of the run below the folder. Returns the exit code."""
    from benchmarks.records.store import records_of, results_folders

    matches: list[tuple[Path, RunRecord]] = []
    if not args.key.isalnum():
        raise ValueError(f"{args.key!r} is no key: keys have twelve letters and digits")
    for folder in results_folders(args.results):
        matches += [(folder, record) for record in records_of(folder, args.key)]
    keys = sorted({record.key for _, record in matches})
    if not keys:
        raise ValueError(f"{args.results}: there is no record of a run {args.key}")
    if len(keys) > 1:
        raise ValueError(f"{args.key} is the beginning of {len(keys)} keys: {', '.join(keys[:10])}")
    for folder, record in matches:
        print("\n".join(lines(record, folder)))
    return 0


def lines(record: RunRecord, folder: Path) -> Iterator[str]:
    """A record as lines to read. Accuracies and F1 are in percent.

    Args:
        record: The record.
        folder: The results folder it is in.
    """
    from benchmarks.config.run_config import recorded

    yield f"{record.key}: {recorded(record.config).title}"
    yield f"  in {folder}: {record.status}{f' ({record.reason})' if record.reason else ''}"
    yield from _section("settings", record.config)
    for selection, metrics in record.test.items():
        yield from _section(f"test, {selection} (epoch {record.selected[selection]})", _readable(metrics))
    for split, rules in record.scores.items():
        best = f"{split}, by every rule of prediction (epoch {record.selected['val_best']}; own: {record.prediction})"
        yield from _section(best, {rule: _in_one_line(found) for rule, found in rules.items()})
    yield from _section("probe", _readable({f"accuracy/{m}": value for m, value in record.probe.items()}))
    curves = {name: f"{len(curve)} epochs, the last {_number(curve[-1])}" for name, curve in record.curves.items()}
    yield from _section("curves", curves)
    yield from _section("options, with defaults", record.options)
    yield from _section("data", record.data)
    yield from _section("cost", record.cost)
    yield from _section("made with", record.provenance)


def _readable(metrics: Mapping[str, float]) -> dict[str, str]:
    from benchmarks.records.record import FRACTIONS

    return {n: f"{100 * v:.1f} %" if n.partition("/")[0] in FRACTIONS else _number(v) for n, v in metrics.items()}


def _in_one_line(measures: Mapping[str, Any]) -> str:
    """Every measure but the recalls, which are one per class."""
    return ", ".join(f"{n} {_number(x)}" for n, x in measures.items() if not isinstance(x, list))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _section(title: str, values: Mapping[str, object]) -> Iterator[str]:
    if not values:
        return
    yield f"  {title}"
    width = max(map(len, values))
    for name, value in values.items():
        yield f"    {name:<{width}}  {_number(value) if isinstance(value, float) else value}"
