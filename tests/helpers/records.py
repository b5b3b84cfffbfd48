"""Records as the runner would leave them, with numbers that the test chooses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.config.run_config import RunConfig, configure
from benchmarks.config.suite import Row, Suite, Table
from benchmarks.records.record import SCORED, SELECTIONS, RunRecord
from benchmarks.records.store import read_records, results_folders

SPLITS = ("train", "val", "test")
MEASURES = ("accuracy", "macro_f1", "loss")
PROVENANCE = {"commit": "0123abc", "dirty": False, "device": "a processor", "torch": "2.11.0", "ranks": 1}


def record(config: RunConfig, accuracy: float = 0.8, **changes: Any) -> RunRecord:
    """A finished run with this last accuracy; validation picked a slightly worse test epoch, the test set a better one.

    audio: branch 10 points below, probe 5 below; visual: 40 and 20 below.
    """
    epochs = config.epochs
    selected = {"last": epochs - 1, "val_best": epochs - 2, "test_best": epochs - 3}
    grown = [accuracy * (e + 1) / epochs for e in range(epochs)]
    drops = {"audio": (0.1, 0.05), "visual": (0.4, 0.2)}
    test = {
        "accuracy": list(grown),
        "macro_f1": [accuracy - 0.02] * epochs,
        "loss": [0.5] * epochs,
        "accuracy/audio": [a * 0.9 for a in grown],
        "accuracy/visual": [a * 0.5 for a in grown],
        **{f"{name}/{m}": [0.5] * epochs for name in ("macro_f1", "loss") for m in drops},
    }
    for selection, d in zip(SELECTIONS, (0.0, -0.01, 0.02), strict=True):
        test["accuracy"][selected[selection]] = accuracy + d
        for m, (branch, _) in drops.items():
            test[f"accuracy/{m}"][selected[selection]] = accuracy - branch
    curves = {
        **{f"test/{name}": curve for name, curve in test.items()},
        **{f"val/{name}": curve for name, curve in test.items()},
        "val/accuracy": [*grown[: epochs - 2], 0.9, 0.85],
    }
    scores = scores_at(curves, list(drops), selected["val_best"])
    made = RunRecord(
        config.key,
        config.model_dump(mode="json"),
        "done",
        selected=selected,
        test={s: {name: curve[epoch] for name, curve in test.items()} for s, epoch in selected.items()},
        probe={m: accuracy - probe for m, (_, probe) in drops.items()},
        curves={
            **curves,
            "train/discrepancy_ratio/audio": [1 + 2 * a for a in grown],
            "train/discrepancy_ratio/visual": [1 / (1 + 2 * a) for a in grown],
        },
        data={
            "fingerprint": {s: f"{s}{config.dataset_args.get('data_seed')}" for s in SPLITS},
            "report": {s: {"listed": 8, "found": 8} for s in SPLITS},
            "notes": [],
        },
        cost={"seconds": 10.0, "samples_per_second": 100.0, "peak_bytes": 1e6},
        provenance=PROVENANCE,
        prediction="fused",
        modalities=list(drops),
        scores=scores if config.protocol > 1 else {},
        logits=dict.fromkeys(SCORED, "0" * 64) if config.protocol > 1 else {},
    )
    return dataclasses.replace(made, **changes)


def scores_at(
    curves: Mapping[str, Sequence[float]], modalities: Sequence[str], epoch: int
) -> dict[str, dict[str, dict[str, float]]]:
    """What a record's scores say of an epoch, where both ways to put branches together come out as the prediction."""
    heads = {"own": "", **{f"branch/{m}": f"/{m}" for m in modalities}}
    scores = {
        split: {head: {x: curves[f"{split}/{x}{end}"][epoch] for x in MEASURES} for head, end in heads.items()}
        for split in SCORED
    }
    return {split: {**found, "logit_sum": found["own"], "prob_mean": found["own"]} for split, found in scores.items()}


def committed(dataset: str) -> list[tuple[dict[str, Any], dict[str, str]]]:
    """What the repository's own results say of a dataset: its arguments, and the fingerprint of each split."""
    found = {}
    for folder in results_folders(Path(__file__).parents[2] / "results" / "reference"):
        for made in read_records(folder):
            args, words = made.config["dataset_args"], made.data.get("fingerprint")
            if made.config["dataset"] == dataset and words:
                found[json.dumps([args, words], sort_keys=True)] = args, words
    return list(found.values())


def stopped(config: RunConfig, status: str, reason: str) -> RunRecord:
    """A run without numbers."""
    return RunRecord(config.key, config.model_dump(mode="json"), status, reason, provenance=PROVENANCE)


HOSTILE = "a & b_c %d <e> | \"f\" $g$ {h} \\i #j ~k ^l *m* [n] `o` 'p' &amp;"


def small(labels: Sequence[str] = ("vanilla", "ogm_ge"), seeds: int = 3, *, drawn: bool = True) -> Suite:
    """A suite of one table: the first row on concat, the others compared with it. Each seed draws its own data."""
    methods = ["vanilla", "ogm_ge", "ogm", "ge_noise"]
    rows = tuple(
        Row(
            label,
            tuple(
                configure({"method": methods[i], "seed": s, "dataset_args.data_seed": s if drawn else 0, "epochs": 4})
                for s in range(seeds)
            ),
            labels[0] if i else None,
        )
        for i, label in enumerate(labels)
    )
    return Suite("small", "A small suite", (Table("table2", "Strategies", "synthav", "SynthAV", rows),))


def filled(suite: Suite, accuracies: Sequence[Sequence[float]]) -> dict[str, RunRecord]:
    """Finished runs for its only table: accuracies[row][seed]."""
    rows = zip(suite.tables[0].rows, accuracies, strict=True)
    return {c.key: record(c, a) for row, numbers in rows for c, a in zip(row.configs, numbers, strict=True)}
