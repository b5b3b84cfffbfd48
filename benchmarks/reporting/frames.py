"""Records to a frame of numbers, one row per row of a table. Nothing but records is read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from fractions import Fraction
from typing import Any

import pandas as pd

from benchmarks.config.run_config import RunConfig
from benchmarks.config.suite import OWN, Row, Table
from benchmarks.config.units import Unit, sample_of, unit_of
from benchmarks.records.passes import passes
from benchmarks.records.record import SELECTIONS, RunRecord
from benchmarks.reporting.passes import relative_passes
from benchmarks.reporting.published import Published
from benchmarks.reporting.replication import overlap_ratio
from benchmarks.reporting.statistics import LEVEL, Summary, groups, holm, mean_ranks, paired, summary

SELECTION = "val_best"  # of the epoch whose accuracies tables and figures show and compare
Reader = Callable[[RunRecord], float | None]  # one number of a run, if it has it


def modalities(records: Collection[RunRecord]) -> list[str]:
    """All that the records measured one by one, in alphabetical order."""
    metrics = {name for r in records for test in r.test.values() for name in test}
    measured = {name.removeprefix("accuracy/") for name in metrics if name.startswith("accuracy/")}
    return sorted(measured.union(*(r.probe for r in records)))


def fingerprints(record: RunRecord) -> dict[str, str]:
    """Split -> fingerprint of its samples; empty for a run that did not get as far as its data."""
    found = record.data.get("fingerprint", {})
    return {split: found[split] for split in ("train", "val", "test") if split in found}


# ---- one row per setting


def table_frame(table: Table, records: Mapping[str, RunRecord], printed: Published | None = None) -> pd.DataFrame:
    """One row per row of a table.

    Args:
        table: Its rows and their runs.
        records: Key -> record.
        printed: What papers print for it.

    Returns:
        Numbers in percent. A row whose runs are not all done has no means: ``state`` says why. ``std`` is that of the
        runs; ``val_best_low`` and ``val_best_high`` are the ends of an interval over the units; ``difference``,
        ``wins`` and ``p`` are of the accuracies that validation selected, minus those of the row named in ``against``,
        unit by unit, or run by run where there is one unit (``pairs`` of them). ``p`` is not yet corrected: ``correct``
        does that, for all tables of a suite together.

    Raises:
        ValueError: Rows are compared that do not share their seeds.
    """
    printed = printed or Published()
    rows = {row.label: row for row in table.rows}
    names = modalities([r for row in table.rows for c in row.configs if (r := records.get(c.key))])
    lines = []
    for row in table.rows:
        line: dict[str, Any] = {"table": table.name, "variant": table.variant, "row": row.label}
        line |= {"state": state(row, records), "asked": len(row.configs), "against": row.against}
        line |= {"done": sum(_done(records.get(c.key)) for c in row.configs)}
        line |= {"units": len({unit_of(c.dataset_args) for c in row.configs})}
        for name, read in _readers(names, row.rule).items():
            line |= _mean_and_std(name, summary(v) if (v := values(row, records, read)) else None)
        over_units = accuracy_over_units(row, records)
        line |= {f"{SELECTION}_{end}": getattr(over_units, end, math.nan) for end in ("low", "high")}
        line |= _difference(row, rows, records)
        line |= printed.columns(row.label)
        lines.append(line)
    columns = ["table", "variant", "row", "state", "done", "asked", "units"]
    columns += [f"{name}_{part}" for name in _readers(names, OWN) for part in ("mean", "std")]
    columns += [f"{SELECTION}_low", f"{SELECTION}_high", "against", *_COMPARED]
    printed_columns = ["published", "published_note", *(["published_mAP"] if printed.has_mAP else [])]
    frame = pd.DataFrame(lines, columns=[*columns, *printed_columns])
    frame = frame.astype({"wins": "Int64", "pairs": "Int64"})
    return _with_ranks(table, frame, records) if table.ranked else frame


def correct(frames: Sequence[pd.DataFrame]) -> None:
    """Add ``p_holm`` to the frames of a suite's tables: Holm's correction for all of their comparisons together.

    NaN where even the least p that the units allow would not be below LEVEL after the correction: no test.
    """
    corrected = iter(holm([p for frame in frames for p in frame["p"]]))
    tests = sum(int(frame["p"].notna().sum()) for frame in frames)
    for frame in frames:
        ps = [next(corrected) if least * tests < LEVEL else next(corrected) * math.nan for least in frame["p_least"]]
        frame.insert(frame.columns.get_loc("p") + 1, "p_holm", ps)


def state(row: Row, records: Mapping[str, RunRecord]) -> str:
    """What keeps a row from having a mean, in a few words; empty when all its runs are done."""
    if not row.configs:
        return "its settings are not found yet"
    found = [records.get(c.key) for c in row.configs]
    count, n = Counter("missing" if r is None else r.status for r in found), len(found)
    words = [f"{what} {count[what]}/{n}" for what in ("diverged", "failed", "missing") if count[what]]
    if k := count["skipped"]:
        reasons = dict.fromkeys(r.reason for r in found if r is not None and r.status == "skipped")
        words.append(f"refused{'' if k == n else f' {k}/{n}'}: {'; '.join(reasons)}")
    if not words and values(row, records, _accuracy(SELECTION, row.rule)) is None:
        words.append(f"no prediction by {row.rule}")
    return ", ".join(words)


def values(row: Row, records: Mapping[str, RunRecord], read: Reader) -> list[float] | None:
    """One number per run, in the order of the row's configs; None unless every run is done and has it."""
    numbers = []
    for config in row.configs:
        record = records.get(config.key)
        number = read(record) if record is not None and record.status == "done" else None
        if number is None:
            return None
        numbers.append(number)
    return numbers or None


def exact_accuracies(row: Row, records: Mapping[str, RunRecord], selection: str) -> list[Fraction] | None:
    """One accuracy per run as correct samples over all, so that rounding neither makes nor breaks a tie."""
    accuracies = values(row, records, _accuracy(selection, row.rule))
    if accuracies is None:
        return None
    reports = [records[c.key].data.get("report", {}) for c in row.configs]
    counts = [report["test"]["found"] if "test" in report else 0 for report in reports]
    return [_correct_of_all(a, n) if n else Fraction(a) for a, n in zip(accuracies, counts, strict=True)]


def _correct_of_all(accuracy: float, samples: int) -> Fraction:
    hits = round(accuracy * samples)
    return Fraction(hits, samples) if abs(accuracy * samples - hits) < 1e-6 else Fraction(accuracy)


def _done(record: RunRecord | None) -> bool:
    return record is not None and record.status == "done"


def _accuracy(selection: str, rule: str) -> Reader:
    """The test accuracy of a selected epoch, a fraction; by another rule than the method's own only at SELECTION."""
    if rule == OWN:
        return lambda r: r.test.get(selection, {}).get("accuracy")
    return score(rule, "accuracy") if selection == SELECTION else lambda _: None


def score(rule: str, measure: str) -> Reader:
    """A measure of a rule of prediction on test, at the epoch that validation selected, as a record has it."""

    def read(record: RunRecord) -> float | None:
        value: Any = record.scores.get("test", {}).get(rule, {}).get(measure)
        return None if value is None else float(value)

    return read


def _readers(names: Sequence[str], rule: str) -> dict[str, Reader]:
    """Column -> where a record has it, in percent. ``branch``: the modality's own logits in the whole model."""

    def in_percent(read: Reader) -> Reader:
        return lambda r: _percent(read(r))

    def test(metric: str) -> Reader:
        return lambda r: r.test.get(SELECTION, {}).get(metric)

    def probe(name: str) -> Reader:
        return lambda r: r.probe.get(name)

    readers = {selection: _accuracy(selection, rule) for selection in SELECTIONS}
    readers |= {f"branch_{m}": test(f"accuracy/{m}") for m in names}
    readers |= {f"probe_{m}": probe(m) for m in names}
    readers |= {"macro_f1": test("macro_f1") if rule == OWN else score(rule, "macro_f1")}
    readers |= {measure: score(rule, measure) for measure in ("mAP", "ece")}
    return {name: in_percent(read) for name, read in readers.items()}


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def _mean_and_std(name: str, s: Summary | None) -> dict[str, float]:
    return {f"{name}_mean": s.mean if s else math.nan, f"{name}_std": s.std if s else math.nan}


_COMPARED = (
    "difference_mean",
    "difference_std",
    "difference_low",
    "difference_high",
    "difference_least",
    "difference_greatest",
    "wins",
    "pairs",
    "improvement",
    "p",
    "p_least",
)


def _difference(row: Row, rows: Mapping[str, Row], records: Mapping[str, RunRecord]) -> dict[str, float | None]:
    nothing: dict[str, float | None] = {name: math.nan for name in _COMPARED if name not in ("wins", "pairs")}
    if row.against is None:
        return nothing
    if row.against not in rows:
        raise ValueError(f"row {row.label!r} is compared with {row.against!r}, which is not in its table")
    other = rows[row.against]
    if not row.configs or not other.configs:
        return nothing
    if [_seeds(c) for c in row.configs] != [_seeds(c) for c in other.configs]:
        raise ValueError(f"rows {row.label!r} and {other.label!r} are compared but do not share their seeds")
    ours, theirs = exact_accuracies(row, records, SELECTION), exact_accuracies(other, records, SELECTION)
    if ours is None or theirs is None:
        return nothing
    several = len({unit_of(c.dataset_args) for c in row.configs}) > 1
    if several:
        ours, theirs = unit_means(row, ours), unit_means(other, theirs)
    ratio = overlap_ratio(row.configs, records)
    pair = paired([float(100 * x) for x in ours], [float(100 * x) for x in theirs], ratio)
    d = pair.difference
    found: dict[str, float | None] = {"difference_mean": d.mean, "difference_std": d.std}
    found |= {"difference_least": d.least, "difference_greatest": d.greatest}
    if several:  # runs on the same data allow neither an interval nor a test
        found |= {"difference_low": d.low, "difference_high": d.high, "p": pair.p}
        found["p_least"] = 0.0 if ratio else 2.0 ** (1 - d.n)  # of a sign-flip test; a t-test has none
    return {**nothing, **found, "wins": pair.wins, "pairs": d.n, "improvement": pair.improvement}


def accuracy_over_units(row: Row, records: Mapping[str, RunRecord]) -> Summary | None:
    """The selected test accuracy in percent, summarised over the units; None unless every run is done."""
    accuracies = exact_accuracies(row, records, SELECTION)
    if accuracies is None:
        return None
    means = [float(100 * a) for a in unit_means(row, accuracies)]
    return summary(means, overlap_ratio(row.configs, records))


def unit_means(row: Row, numbers: Sequence[Fraction]) -> list[Fraction]:
    """The mean over the runs of each unit of replication, in the order of the row's configs."""
    of_unit: dict[Unit, list[Fraction]] = {}
    for config, number in zip(row.configs, numbers, strict=True):
        of_unit.setdefault(unit_of(config.dataset_args), []).append(number)
    return [sum(same, Fraction(0)) / len(same) for same in of_unit.values()]


def rows_like_their_baseline(table: Table, records: Collection[RunRecord]) -> list[str]:
    """The rows whose runs have the curves of those they are compared with, to the bit: their method did nothing."""
    curves = {r.key: r.curves for r in records if _done(r)}
    rows = {row.label: row for row in table.rows}
    return [
        row.label
        for row in table.rows
        if row.against is not None
        and row.rule == rows[row.against].rule
        and 0 < len(row.configs) == len(rows[row.against].configs)
        and all(
            c.key in curves and curves[c.key] == curves.get(base.key)
            for c, base in zip(row.configs, rows[row.against].configs, strict=True)
        )
    ]


def _seeds(config: RunConfig) -> tuple[int, Unit]:
    return config.seed, sample_of(config.dataset_args)


def _with_ranks(table: Table, frame: pd.DataFrame, records: Mapping[str, RunRecord]) -> pd.DataFrame:
    """Best first by validation-selected accuracy; rows without a mean at the end, without a rank.

    ``passes`` are relative to the row compared with, ``mean_rank`` is averaged over the units; rows that share a letter
    in ``group`` cannot be told apart.
    """
    rows = {row.label: row for row in table.rows}
    accuracies = {label: v for label, row in rows.items() if (v := exact_accuracies(row, records, SELECTION))}
    scores = {label: unit_means(rows[label], v) for label, v in accuracies.items()}
    units = {len(v) for v in scores.values()}
    several = len(units) == 1 and max(units) > 1
    ratio = overlap_ratio([c for label in scores for c in rows[label].configs], records)
    ranks = dict(zip(scores, mean_ranks(list(scores.values()), ratio), strict=True)) if several else {}
    best_first = sorted(scores, key=lambda label: -sum(scores[label])) if several else []
    letters = dict(zip(best_first, groups([scores[label] for label in best_first], ratio), strict=True))
    means = frame["row"].map({label: float(sum(v) / len(v)) for label, v in accuracies.items()})
    counts = {label: values(row, records, passes) for label, row in rows.items() if not state(row, records)}
    relative = relative_passes(counts, {row.against for row in table.rows if row.against is not None})
    frame = frame.assign(
        passes=frame["row"].map(relative).astype(float),
        rank=means.rank(ascending=False, method="min").astype("Int64"),
        mean_rank=[ranks[label].mean if label in ranks else math.nan for label in frame["row"]],
        mean_rank_low=[ranks[label].low if label in ranks else math.nan for label in frame["row"]],
        mean_rank_high=[ranks[label].high if label in ranks else math.nan for label in frame["row"]],
        group=[letters.get(label, "") for label in frame["row"]],
    )
    return frame.sort_values("rank", kind="stable", na_position="last", ignore_index=True)
