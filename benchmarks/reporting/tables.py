"""One table to be read: its cells as text, the notes below it, and both as CSV, Markdown and LaTeX."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.config.run_config import PROTOCOL
from benchmarks.config.suite import OWN, Table
from benchmarks.config.units import unit_of
from benchmarks.records.record import RunRecord
from benchmarks.reporting import passes
from benchmarks.reporting.frames import (
    SELECTION,
    correct,
    fingerprints,
    rows_like_their_baseline,
    table_frame,
)
from benchmarks.reporting.method_names import titles
from benchmarks.reporting.published import PUBLISHED, Published, read_published
from benchmarks.reporting.replication import difference_note, overlap_ratio, rank_note, unit_note

EMPTY = "\N{EN DASH}"  # a cell that cannot have a value: no such modality, nothing to compare with
TIMES = "\N{MULTIPLICATION SIGN}"
QUICK = "QUICK: shortened, not comparable"
QUICK_RANKS_NOTHING = (
    "these runs were shortened to check that everything works, and rank nothing: rows stand in the order of the suite, "
    "and none is compared with another."
)
ACCURACY = "accuracy (by validation)"
BRANCH_AND_PROBE = (
    "a branch is a modality's own part of the trained model, and its accuracy that of its unimodal logits; a probe is "
    "a logistic regression on a modality's frozen features after the last epoch."
)
BEFORE = (
    "they kept no logits, so their scores cannot be computed again, and of epochs with equal validation accuracy the "
    "first was selected."
)
MEAN_AVERAGE_PRECISION = (
    "the average precision of each class against the rest on test, averaged over the classes, in percent, at the epoch "
    "with the best validation accuracy; OGM-GE's paper prints it beside the accuracy in this table."
)
RULES = (
    "logit_sum predicts by the sum of the branches' logits, prob_mean by the mean of their probabilities, branch/NAME "
    "by one of them; all others are the method's own predictions. All rules read the logits of the same runs, at the "
    "epoch that validation selected for the method's own prediction."
)
EXPLAINED = (
    ("Numbers", "Test accuracy in percent, mean ± sample standard deviation over the runs."),
    (
        "Selection",
        "all accuracies are those of the epoch with the best validation accuracy; the CSV file also has the last epoch "
        "and the best test epoch (chosen on the test set itself, as papers do, which flatters).",
    ),
    ("Branch and probe", BRANCH_AND_PROBE),
)


@dataclass(frozen=True)
class FormattedTable:
    """One table, ready to be written.

    Args:
        table: What the suite asked for.
        title: The table's title.
        numbers: One row per row of the table; in percent, not rounded, NaN where there is none.
        cells: The same rows as plain text.
        notes: What stands below the table, as pairs of a name and a text.
    """

    table: Table
    title: str
    numbers: pd.DataFrame
    cells: pd.DataFrame
    notes: list[tuple[str, str]]


def format_table(
    table: Table, records: Mapping[str, RunRecord], *, quick: bool = False, published: Path = PUBLISHED
) -> FormattedTable:
    """A single table; see ``format_tables``."""
    return format_tables([table], records, quick=quick, published=published)[0]


def format_tables(
    asked: Sequence[Table], records: Mapping[str, RunRecord], *, quick: bool = False, published: Path = PUBLISHED
) -> list[FormattedTable]:
    """The numbers, cells and notes of a suite's tables, from the records of their runs.

    Args:
        asked: Their rows and runs. All their comparisons are one family of tests.
        records: Key -> record. Those of other runs are ignored.
        quick: Whether the runs are shortened: the tables then say so, and neither rank nor compare their rows.
        published: The file with the numbers that papers print.

    Raises:
        ValueError: Rows are compared that do not share their seeds, or ``published`` is not usable.
    """
    if quick:
        asked = [_uncompared(table) for table in asked]
    printed = [read_published(table, published) for table in asked]
    frames = [table_frame(table, records, lines) for table, lines in zip(asked, printed, strict=True)]
    correct(frames)
    return [
        _formatted(table, numbers, lines, records, quick=quick)
        for table, numbers, lines in zip(asked, frames, printed, strict=True)
    ]


def _uncompared(table: Table) -> Table:
    """The same rows in their order, neither ranked nor compared with one another."""
    return replace(table, ranked=False, rows=tuple(replace(row, against=None) for row in table.rows))


def _formatted(
    table: Table,
    numbers: pd.DataFrame,
    printed: Published,
    records: Mapping[str, RunRecord],
    *,
    quick: bool,
) -> FormattedTable:
    numbers.insert(0, "quick", quick)
    keys = dict.fromkeys(c.key for row in table.rows for c in row.configs)
    table_notes = notes(table, [records[key] for key in keys if key in records], numbers, printed)
    title = table.title if table.variant in table.title else f"{table.title}: {table.variant}"
    if quick:
        title, table_notes = f"{title} ({QUICK})", [("Quick", QUICK_RANKS_NOTHING), *table_notes]
    return FormattedTable(table, title, numbers, format_cells(numbers), table_notes)


def has_ranks(table: FormattedTable) -> bool:
    """Whether its rows have mean ranks over several units."""
    return "mean_rank" in table.numbers and bool(table.numbers["mean_rank"].notna().any())


# ---- cells


def format_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """The numbers as text: percent with one decimal, mean ± sample std. Columns that would be empty are left out."""
    names = [c.removeprefix("branch_").removesuffix("_mean") for c in frame if re.fullmatch("branch_.*_mean", c)]
    bases = sorted(frame["against"].dropna().unique())
    cells = pd.DataFrame([_row_cells(row, names, bases) for row in frame.to_dict("records")])
    return cells[[c for c in cells if c == ACCURACY or (cells[c] != EMPTY).any()]]


def _row_cells(row: Mapping[str, Any], names: Sequence[str], bases: Sequence[str]) -> dict[str, str]:
    def mean(name: str) -> str:
        return format_number(row[f"{name}_mean"], row[f"{name}_std"])

    ranked = "rank" in row
    line = {"rank": EMPTY if pd.isna(row["rank"]) else str(row["rank"])} if ranked else {}
    line |= {"setting": row["row"], "runs": f"{row['done']}/{row['asked']}"}
    line |= {ACCURACY: row["state"] or mean(SELECTION)}
    if "published_mAP" in row:  # a paper prints mAP for this table
        line |= {"mAP": mean("mAP")}
    line |= _difference_cells(row, bases)
    line |= {f"{m} branch": mean(f"branch_{m}") for m in names} | {f"{m} probe": mean(f"probe_{m}") for m in names}
    if ranked:
        line |= {"passes": EMPTY if math.isnan(row["passes"]) else f"{format_number(row['passes'])}{TIMES}"}
        line |= {"mean rank": format_number(row["mean_rank"]) + _ends(row, "mean_rank"), "group": row["group"] or EMPTY}
    return line | {
        "published": format_number(row["published"]),
        "published mAP": format_number(row.get("published_mAP", math.nan)),
    }


def _difference_cells(row: Mapping[str, Any], bases: Sequence[str]) -> dict[str, str]:
    """The difference's cells, with a column for what it is to where that is not the same in all rows."""
    against = EMPTY if pd.isna(row["against"]) else row["against"]
    difference, wins, p = format_number(row["difference_mean"], sign=True), EMPTY, EMPTY
    if not pd.isna(row["wins"]):
        wins = f"{row['wins']}/{row['pairs']}"
        difference += _ends(row, "difference", sign=True) or _range(row)
    elif against != EMPTY and not row["state"]:
        difference = f"{against} is incomplete"
    if not math.isnan(row["p_holm"]):
        p = "<0.001" if row["p_holm"] < 0.001 else f"{row['p_holm']:.3f}"
    named = {f"difference to {bases[0]}": difference} if len(bases) == 1 else {}
    return (named or {"compared with": against, "difference": difference}) | {"wins": wins, "p (Holm)": p}


def _ends(row: Mapping[str, Any], name: str, *, sign: bool = False) -> str:
    """' [low, high]' of a number's interval, where it has one."""
    if math.isnan(row[f"{name}_low"]):
        return ""
    low, high = (format_number(row[f"{name}_{end}"], sign=sign) for end in ("low", "high"))
    return f" [{low}, {high}]"


def _range(row: Mapping[str, Any]) -> str:
    """' (least to greatest)' of several differences."""
    if row["pairs"] < 2:
        return ""
    least, greatest = (format_number(row[f"difference_{end}"], sign=True) for end in ("least", "greatest"))
    return f" ({least} to {greatest})"


def format_number(mean: float, std: float = math.nan, *, sign: bool = False, digits: int = 1) -> str:
    """'84.6 ± 1.1'; no ± for a single run; a real minus, and never a minus zero."""
    if math.isnan(mean):
        return EMPTY
    text = f"{round(float(mean), digits) + 0.0:{'+' if sign else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")
    return text if math.isnan(std) else f"{text} ± {std:.{digits}f}"


# ---- notes


def notes(
    table: Table, records: Sequence[RunRecord], numbers: pd.DataFrame, printed: Published
) -> list[tuple[str, str]]:
    """What a reader needs to judge the table, from the records it was made of."""
    configs = [c for row in table.rows for c in row.configs]
    units = len({unit_of(c.dataset_args) for c in configs})
    ratio = overlap_ratio(configs, {r.key: r for r in records if r.status == "done"})
    out = [*EXPLAINED, ("Unit", unit_note(configs))]
    if "published_mAP" in numbers and numbers["mAP_mean"].notna().any():
        out.append(("mAP", MEAN_AVERAGE_PRECISION))
    if numbers["pairs"].notna().any():
        out.append(("Difference", difference_note(numbers, units, ratio)))
    if "rank" in numbers:
        out.append(("Rank", rank_note(numbers, units, ratio)))
        out += [("Passes", passes.EXPLAINED)] if numbers["passes"].notna().any() else []
    if names := titles(table.rows):
        out.append(("Methods", "; ".join(f"{method}: {title}" for method, title in names.items()) + "."))
    if any(row.rule != OWN for row in table.rows):
        out.append(("Rule", RULES))
    seeds = f"training {_join_distinct([c.seed for c in configs])}"
    if data_seeds := _join_distinct([c.dataset_args.get("data_seed") for c in configs]):
        seeds += f"; data {data_seeds}"
    fields = ("epochs", "batch_size", "optimizer", "lr", "schedule", "precision")
    recipe = "; ".join(f"{f.replace('_', ' ')} {_join_distinct([getattr(c, f) for c in configs])}" for f in fields)
    out += [("Data", _data_note(table, records)), ("Seeds", f"{seeds}."), ("Training", f"{recipe}.")]
    if same := rows_like_their_baseline(table, records):
        out.append(("No effect", f"{_join_distinct(same)}: the same numbers as the row compared with, in every run."))
    out += [("Mind", f"{text}.") for text in dict.fromkeys(n for r in records for n in r.data.get("notes", ()))]
    if earlier := sum(r.protocol < PROTOCOL for r in records):
        out.append(("Protocol", f"{earlier} of {len(records)} runs are of protocol 1: {BEFORE}"))
    return [*out, ("Made with", _provenance_note(records)), *_published_notes(table, printed)]


def _data_note(table: Table, records: Sequence[RunRecord]) -> str:
    """Which data it was, by fingerprint; two of one split would mean that results on different data are compared."""
    words_of: dict[str, dict[str, list[str]]] = {}
    gaps: list[str] = []
    for r in records:
        splits = words_of.setdefault(" ".join(f"{k}={v}" for k, v in sorted(r.config["dataset_args"].items())), {})
        for split, word in fingerprints(r).items():
            splits.setdefault(split, []).append(word)
        for split, report in r.data.get("report", {}).items():
            if report["found"] != report["listed"]:
                gaps.append(f"{split}: {report['found']} of {report['listed']} listed samples were found")
    words = [
        f"{at}: {', '.join(f'{split} {_join_distinct(w)}' for split, w in by.items())}" for at, by in words_of.items()
    ]
    incomplete = f" INCOMPLETE: {_join_distinct(gaps)}." if gaps else ""
    return f"{table.variant} ({table.dataset}); fingerprints of {'; '.join(words) or 'nothing yet'}.{incomplete}"


def _provenance_note(records: Sequence[RunRecord]) -> str:
    if not records:
        return "nothing yet."

    def listed(name: str) -> str:
        return _join_distinct([r.provenance.get(name, "unknown") for r in records])

    dirty = sum(bool(r.provenance.get("dirty", True)) for r in records)
    changes = f"uncommitted changes in {dirty} of {len(records)} runs" if dirty else "no uncommitted changes"
    commits = _join_distinct([r.provenance.get("commit", "unknown")[:12] for r in records])
    return f"commit {commits}, {changes}; torch {listed('torch')}; device {listed('device')}."


def _published_notes(table: Table, published: Published) -> list[tuple[str, str]]:
    printed = published.accuracy
    if not printed:
        return []
    labels = [row.label for row in table.rows]
    remarks = [f"{label}: {line['note']}" for label, line in printed.items() if label in labels and line["note"]]
    if others := [f"{label} {line['value']}" for label, line in printed.items() if label not in labels]:
        remarks.append(f"also printed there, without a row here: {', '.join(others)}")
    source = _join_distinct([line["paper"] for line in printed.values()])
    measured = "accuracy and mAP" if published.mAP else "accuracy"
    where = f"{source}, its {table.name.replace('table', 'Table ')}, {measured} in percent, as printed"
    return [("Published", "; ".join([where, *remarks]) + ".")]


def _join_distinct(values: Sequence[Any]) -> str:
    return ", ".join(str(v) for v in dict.fromkeys(values) if v is not None)


# ---- files


def to_csv(frame: pd.DataFrame) -> str:
    """A frame as CSV, its numbers with six significant digits."""
    return str(frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def to_markdown(table: FormattedTable) -> str:
    """A table with its title and notes in GitHub's Markdown."""
    cells = table.cells.map(escape_markdown).rename(columns=escape_markdown)
    align = ["left" if c in ("setting", "compared with") else "right" for c in table.cells]
    rows = cells.to_markdown(index=False, tablefmt="pipe", disable_numparse=True, colalign=align)
    table_notes = "\n".join(f"- **{escape_markdown(name)}.** {escape_markdown(text)}" for name, text in table.notes)
    return f"### {escape_markdown(table.title)}\n\n{rows}\n\n{table_notes}\n"


def to_latex(table: FormattedTable) -> str:
    """A float for a two-column paper; needs the packages booktabs and graphicx."""
    align = {column: "l" if column in ("setting", "compared with") else "r" for column in table.cells}
    head = [rf"\shortstack[{at}]{{{BREAK.join(_wrapped(column))}}}" for column, at in align.items()]
    body = [_latex_cells(row, bool(state)) for row, state in zip(_rows(table), table.numbers["state"], strict=True)]
    lines = [r"\toprule", f"{' & '.join(head)} {BREAK}", r"\midrule", *(f"{' & '.join(r)} {BREAK}" for r in body)]
    tabular = "\n".join([rf"\begin{{tabular}}{{{''.join(align.values())}}}", *lines, r"\bottomrule", r"\end{tabular}%"])
    table_notes = "\n".join(rf"\textbf{{{escape_latex(name)}.}} {escape_latex(text)}" for name, text in table.notes)
    return (
        "% needs \\usepackage{booktabs,graphicx}\n"
        "\\begin{table*}\n\\centering\n"
        f"\\caption{{{escape_latex(table.title)}. Test accuracy in percent, mean $\\pm$ sample standard deviation.}}\n"
        f"\\label{{tab:{table.table.slug}}}\n"
        f"\\resizebox{{\\textwidth}}{{!}}{{%\n{tabular}\n}}\n\n"
        f"\\vspace{{4pt}}\\raggedright\\footnotesize\n{table_notes}\n"
        "\\end{table*}\n"
    )


def _rows(table: FormattedTable) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = table.cells.to_dict("records")
    return rows


def _wrapped(heading: str) -> list[str]:
    return [escape_latex(line) for line in textwrap.wrap(heading, 12)]


def _latex_cells(row: Mapping[str, str], broken: bool) -> list[str]:
    """The reason why a row has no numbers stretches over the cells it leaves empty."""
    names, cells = list(row), [escape_latex(text) for text in row.values()]
    if not broken:
        return cells
    first = names.index(ACCURACY)
    end = next((i for i in range(first + 1, len(names)) if row[names[i]] != EMPTY), len(names))
    return [*cells[:first], rf"\multicolumn{{{end - first}}}{{l}}{{\emph{{{cells[first]}}}}}", *cells[end:]]


def escape_markdown(text: str) -> str:
    """Any text as itself in a cell or a line. An underscore within a word is no markup, so ogm_ge stays legible."""
    text = " ".join(text.split())
    text = re.sub(r"([\\`*{}\[\]<>|~#&!])", r"\\\1", text)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)


BREAK = r"\\"  # ends a line
_LATEX: dict[str, Any] = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "±": r"$\pm$",
    TIMES: r"$\times$",
    EMPTY: "--",
    "\N{MINUS SIGN}": "$-$",
    "[": "{[}",  # or a row that begins with one is taken for the option of the \\ before it
    "]": "{]}",
}


def escape_latex(text: str) -> str:
    """Any text as itself in LaTeX, on one line."""
    return " ".join(text.split()).translate(str.maketrans(_LATEX))
