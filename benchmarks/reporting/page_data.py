"""What the page's scripts show, as one piece of JSON: tables with their numbers and curves, and the methods."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.config import parts
from benchmarks.config.method_facts import described, options
from benchmarks.config.method_text import method_text
from benchmarks.config.run_config import RunConfig
from benchmarks.config.suite import Row, Suite
from benchmarks.records.record import RunRecord
from benchmarks.reporting.across import TUNED, data_name
from benchmarks.reporting.frames import modalities
from benchmarks.reporting.page_numbers import LOWER_IS_BETTER, PARTS, rounded, row_curves, views
from benchmarks.reporting.tables import ACCURACY, FormattedTable
from ogm.registry import STRATEGIES

OF_JOINT_TRAINING = 3  # forward and backward passes of a step of joint training with two modalities: 2 + 1
DECLARED = ("p_holm", "rank", "mean_rank", "mean_rank_low", "mean_rank_high", "passes", "published")


@dataclass(frozen=True)
class Chapter:
    """A suite on the page.

    Args:
        suite: The suite.
        progress: How far it has come, in a sentence.
        tables: Its tables.
        records: Key -> record.
        without_result: (run, state, reason) of every run that has no result.
    """

    suite: Suite
    progress: str
    tables: Sequence[FormattedTable]
    records: Mapping[str, RunRecord]
    without_result: Sequence[tuple[RunConfig, str, str]]


def anchor(number: int, table: FormattedTable) -> str:
    """The id of a table's section: those of two suites may have the same name."""
    return table.table.slug if number == 0 else f"{number + 1}-{table.table.slug}"


def data_block(chapters: Sequence[Chapter]) -> str:
    """The page's data as JSON that may stand in a script element, whatever it holds."""
    methods: dict[str, Any] = {}
    for chapter in chapters:
        for config in chapter.suite.configs():
            if config.method not in methods:
                methods[config.method] = _method(config.method)
    tables = [
        _table(anchor(number, table), chapter, table)
        for number, chapter in enumerate(chapters)
        for table in chapter.tables
    ]
    content = {
        "parts": PARTS,
        "accuracy": ACCURACY,
        "lowerIsBetter": LOWER_IS_BETTER,
        "tables": tables,
        "methods": methods,
    }
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _table(name: str, chapter: Chapter, table: FormattedTable) -> dict[str, Any]:
    records, rows = chapter.records, {row.label: row for row in table.table.rows}
    lines, cells = table.numbers.to_dict("records"), table.cells.to_dict("records")
    ordered = [rows[line["row"]] for line in lines]  # as the table is sorted
    names = modalities([records[c.key] for row in rows.values() for c in row.configs if c.key in records])
    of_view = views(table.table, records)
    place = {row.label: i for i, row in enumerate(table.table.rows)}
    for view in of_view:
        view["rows"] = [view["rows"][place[row.label]] for row in ordered]
    return {
        "id": name,
        "title": table.title,
        "suite": chapter.suite.title,
        "data": data_name(table.table),
        "ranked": table.table.ranked,
        "modalities": names,
        "views": of_view,
        "rows": [
            _row(row, line, names, records) | {"cells": shown}
            for row, line, shown in zip(ordered, lines, cells, strict=True)
        ],
    }


def _row(row: Row, line: Mapping[str, Any], names: Sequence[str], records: Mapping[str, RunRecord]) -> dict[str, Any]:
    one = row.configs[0] if row.configs else None
    return {
        "label": row.label,
        "base": TUNED.sub("", row.label),
        "tuned": bool(TUNED.search(row.label)),
        "method": one.method if one else None,
        "fusion": one.fusion if one else None,
        "against": row.against,
        "rule": row.rule,
        "state": line["state"],
        "runs": f"{line['done']}/{line['asked']}",
        "group": line.get("group", ""),
        **{name: rounded(line[name]) for name in DECLARED if name in line and line[name] == line[name]},
        "each": {
            f"{m} {kind}": [rounded(line[f"{kind}_{m}_{part}"], 2) for part in ("mean", "std")]
            for kind in ("branch", "probe")
            for m in names
            if f"{kind}_{m}_mean" in line
        },
        "settings": _settings(one) if one else "",
        "made": _provenance(row, records),
        **row_curves(row, records, names),
    }


def _settings(config: RunConfig) -> str:
    """What tells this row's runs from others of the method, on one line."""
    values = {name: getattr(config, name) for name in ("epochs", "batch_size", "optimizer", "lr", "schedule")}
    values |= {"fusion": config.fusion} | {f"method_args.{k}": v for k, v in sorted(config.method_args.items())}
    return " ".join(f"{name}={value}" for name, value in values.items())


def _provenance(row: Row, records: Mapping[str, RunRecord]) -> dict[str, str]:
    """Where a row's numbers come from: heading -> text."""
    found = [records[c.key] for c in row.configs if c.key in records]
    if not found:
        return {}

    def distinct(name: str) -> str:
        return ", ".join(dict.fromkeys(str(r.provenance.get(name, "unknown")) for r in found))

    dirty = sum(bool(r.provenance.get("dirty", True)) for r in found)
    seconds = sum(r.cost.get("seconds", 0.0) for r in found)
    return {
        "commit": distinct("commit") + (f" (uncommitted changes in {dirty} of {len(found)} runs)" if dirty else ""),
        "torch": distinct("torch"),
        "device": distinct("device"),
        "run time": f"{seconds / 60:.1f} minutes in all",
        "training seeds": ", ".join(dict.fromkeys(str(c.seed) for c in row.configs)),
        "runs": ", ".join(r.key for r in found),
    }


def _method(name: str) -> dict[str, Any]:
    """What is known of a method from its class; only its name where it is not registered here."""
    if name not in STRATEGIES:
        return {"title": name}
    told = parts.facts("method", name)
    text = method_text(parts.docstring(STRATEGIES[name]))
    passes, balances = told["cost"].splitlines()[0].split(" + "), told["balances"].split()
    return {
        "title": told["title"] or name,
        "category": told["kind"],
        "most": None if balances[-1] == "more" else int(balances[-1]),
        "cost": rounded(sum(map(int, passes)) / OF_JOINT_TRAINING, 2),
        "idea": text.idea,
        "steps": text.algorithm,
        "facts": described(told, name),
        "options": {shown: text.options.get(option, "") for option, shown in options(told).items()},
        "differences": text.differences,
        "references": text.references,
    }
