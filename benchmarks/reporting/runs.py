"""Records to a frame of numbers, one row per run: runs.csv. Nothing but records is read."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import pandas as pd

from benchmarks.records.passes import passes
from benchmarks.records.record import SELECTIONS, RunRecord
from benchmarks.reporting.frames import SELECTION, fingerprints, modalities, score


def runs_frame(records: Collection[RunRecord]) -> pd.DataFrame:
    """One row per run and selection protocol; a run without numbers has one row, with its reason.

    Args:
        records: The runs.

    Returns:
        Accuracies, F1, mAP and ECE are fractions; ``probe/<modality>`` belongs to the features after the last epoch,
        ``accuracy/logit_sum`` and the like, by other rules of prediction than the method's, to the epoch that
        validation selected.
    """
    records = sorted(records, key=lambda r: (*(r.config[k] for k in ("dataset", "fusion", "method", "seed")), r.key))
    names = modalities(records)
    measures = ["accuracy", "macro_f1", *(f"accuracy/{m}" for m in names)]
    rules = sorted({rule for r in records for rule in r.scores.get("test", {}) if not rule.startswith("branch/")})
    scored = {f"{m}/{rule}": score(rule, m) for rule in rules for m in ("accuracy", "mAP", "ece")}
    first = ["key", "dataset", "dataset_args", "data_seed", "fusion", "method", "method_args", "optimizer", "seed"]
    last = ["seconds", "passes", "commit", "dirty", "device", "data"]
    measured = [*measures, *(f"probe/{m}" for m in names), *scored]
    columns: dict[str, list[Any]] = {  # a list for each column: a mapping for each row takes ten times the memory
        name: [] for name in [*first, "status", "reason", "selection", "epoch", *measured, *last]
    }
    for r in records:
        run = {
            "key": r.key,
            **{k: r.config[k] for k in ("dataset", "fusion", "method", "optimizer", "seed")},
            "data_seed": r.config["dataset_args"].get("data_seed"),
            **{k: compact_json(r.config[k]) for k in ("dataset_args", "method_args")},
            "status": r.status,
            "reason": r.reason,
            "seconds": _seconds(r),
            "passes": passes(r),
            **{k: r.provenance.get(k) for k in ("commit", "dirty", "device")},
            "data": " ".join(f"{split}:{word}" for split, word in fingerprints(r).items()),
        }
        selections: list[str | None] = [s for s in SELECTIONS if s in r.test]
        for selection in selections or [None]:
            test = r.test.get(selection, {}) if selection else {}
            probe = r.probe if selection == "last" else {}
            row = (
                run
                | {"selection": selection, "epoch": r.selected.get(selection) if selection else None}
                | {name: test.get(name) for name in measures}
                | {f"probe/{m}": probe.get(m) for m in names}
                | {name: read(r) if selection == SELECTION else None for name, read in scored.items()}
            )
            for name, values in columns.items():
                values.append(row.get(name))
    return pd.DataFrame(columns).astype({"data_seed": "Int64", "epoch": "Int64"})


def compact_json(value: Any) -> str:
    """JSON without spaces, with sorted keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _seconds(record: RunRecord) -> float | None:
    """Wall seconds, with those of the runs it builds on."""
    own = record.cost.get("seconds")
    return None if own is None else own + record.cost.get("seconds_before", 0.0)
