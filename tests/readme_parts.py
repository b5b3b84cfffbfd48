"""What the sentences of the README and of docs/ are made with: tables, claims about them, numbers as text."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.records.store import records_by_key
from benchmarks.records.suite_file import read
from benchmarks.reporting.agreement import Correlation, Ranking, ranking
from benchmarks.reporting.frames import SELECTION, exact_accuracies, unit_means
from benchmarks.reporting.replication import overlap_ratio
from benchmarks.reporting.statistics import Summary, paired
from benchmarks.reporting.tables import FormattedTable, format_number, format_tables

REFERENCE = Path(__file__).resolve().parents[1] / "results" / "reference"
WIDTH = 120
COUNTS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
COUNTS += ["thirteen", "fourteen", "fifteen", "sixteen"]
DIFFERENCE = "difference to vanilla"  # a column of tables
BASELINES = ["audio only", "visual only", "vanilla"]  # stand first in a table, in this order


class Results:
    """The tables of one folder, by their slugs; what its runs were made on."""

    def __init__(self, name: str) -> None:
        self.folder = folder = REFERENCE / name
        made = read(folder)
        assert made is not None
        records = records_by_key(folder)
        formatted = format_tables(made.suite.tables, records)
        self.trials = made.suite.trials
        self.tables: dict[str, FormattedTable] = {x.table.slug: x for x in formatted}
        self.records = records

    def copy(self) -> Results:
        """The same records, with tables whose numbers may be changed."""
        other = copy.copy(self)
        other.tables = {
            slug: dataclasses.replace(found, numbers=found.numbers.copy()) for slug, found in self.tables.items()
        }
        return other

    @property
    def slug(self) -> str:
        """Of the only table, as ``compare`` makes it; it names the dataset, but none of its options."""
        (slug,) = self.tables
        return slug

    def rows(self, slug: str | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Numbers and cells of a table (None: the only one), by the names of its rows."""
        found = self.tables[slug or self.slug]
        return found.numbers.set_index("row"), found.cells.set_index("setting")

    def seeds(self, slug: str) -> str:
        return COUNTS[len({c.seed for row in self.tables[slug].table.rows for c in row.configs})]

    def by_unit(self, slug: str, label: str, rule: str | None = None) -> list[float]:
        """The accuracies of a row in percent, one per unit, by its own rule of prediction or by another one."""
        (row,) = (row for row in self.tables[slug].table.rows if row.label == label)
        read = dataclasses.replace(row, rule=rule or row.rule)
        accuracies = exact_accuracies(read, self.records, SELECTION)
        assert accuracies is not None
        return [float(100 * x) for x in unit_means(read, accuracies)]

    def ranking(self) -> Ranking:
        """The complete rows of the only table, which is ranked, to be correlated with those of another folder."""
        return ranking(self.folder, self.tables[self.slug].table, self.records)

    def overlap(self, slug: str) -> float:
        """The ratio by which intervals over splits are wider; 0 for draws."""
        return overlap_ratio(self.tables[slug].table.rows[0].configs, self.records)

    def between(
        self, slug: str, ours: str, theirs: str, rule: str | None = None, their_rule: str | None = None
    ) -> Summary:
        """The difference of two rows of a table, paired by unit, in points, whatever they are compared with there."""
        numbers = [self.by_unit(slug, ours, rule), self.by_unit(slug, theirs, their_rule)]
        return paired(*numbers, self.overlap(slug)).difference

    def presence(self, slug: str) -> tuple[float, float]:
        """How often SynthAV's sounds and pictures are there."""
        (recipe,) = {
            (r.data["recipe"]["p_audio"], r.data["recipe"]["p_visual"])
            for row in self.tables[slug].table.rows
            for c in row.configs
            for r in [self.records[c.key]]
        }
        return recipe


@functools.cache
def read_all() -> dict[str, Results]:
    """The committed folders, by their names; read once per process. Copy what a test changes."""
    return {folder.name: Results(folder.name) for folder in sorted(REFERENCE.iterdir())}


def fill_lines(text: str, indent: str = "") -> str:
    """A paragraph in lines as long as they may be; ``indent`` stands before all but the first."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def claim(what: str, holds: bool) -> None:
    if not holds:
        raise ValueError(f"the records do not say that {what}: change the words and the code that makes the numbers")


def listed(parts: Sequence[str]) -> str:
    return ", ".join(parts[:-1]) + f" and {parts[-1]}"


def bounds(numbers: pd.Series) -> tuple[float, float]:
    """The ends of a difference's interval; of its range, where the units are too few for one."""
    ends = ("low", "high") if pd.notna(numbers["difference_low"]) else ("least", "greatest")
    return tuple(float(numbers[f"difference_{end}"]) for end in ends)  # type: ignore[return-value]


def loses(numbers: pd.Series) -> bool:
    return bounds(numbers)[1] < 0


def wins(numbers: pd.Series) -> bool:
    return bounds(numbers)[0] > 0


def unclear(numbers: pd.Series) -> bool:
    low, high = bounds(numbers)
    return low <= 0 <= high


def interval(found: Summary) -> str:
    """Mean and interval; mean and range, where the units are too few for one."""
    if math.isnan(found.low):
        mean, least, greatest = (format_number(x, sign=True) for x in (found.mean, found.least, found.greatest))
        return f"{mean} ({least} to {greatest})"
    ends = ", ".join(format_number(x, sign=True) for x in (found.low, found.high))
    return f"{format_number(found.mean, sign=True)} [{ends}]"


def table(*lines: Sequence[str]) -> str:
    """The first line is the head."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], ["---"] * len(lines[0]), *lines[1:]])


def correlation(found: Correlation) -> str:
    value, low, high = (format_number(x, digits=2) for x in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"
