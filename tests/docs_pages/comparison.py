"""A comparison of all methods on one dataset: which are above joint training, and which below."""

from __future__ import annotations

from benchmarks.reporting.statistics import LEVEL
from benchmarks.reporting.tables import EMPTY
from tests.readme_parts import DIFFERENCE, Results, loses, wins

BASELINE = "vanilla"


class Comparison:
    """A ranked table: its complete rows with a method that uses all modalities, and which are sure of what."""

    def __init__(self, made: Results) -> None:
        self.made = made
        self.numbers, self.cells = made.rows()
        self.numbers = self.numbers[self.numbers["val_best_mean"].notna()]
        joint = [label for label in self.numbers.index if not label.endswith(" only") and label != BASELINE]
        self.joint = self.numbers.loc[joint]
        self.above = [label for label in joint if wins(self.numbers.loc[label])]
        self.below = [label for label in joint if loses(self.numbers.loc[label])]
        self.methods = {row.label: row.configs[0].method for row in made.tables[made.slug].table.rows}

    def cell(self, label: str) -> str:
        """The difference of a row to joint training; a dash where the row is not there or has no result."""
        return str(self.cells.loc[label, DIFFERENCE]) if label in self.numbers.index else EMPTY

    def corrected(self, *, better: bool) -> list[str]:
        """The rows whose difference stays after Holm's correction."""
        sure = self.joint[self.joint["p_holm"] < LEVEL]
        return [label for label in sure.index if (sure.loc[label, "difference_mean"] > 0) == better]

    @property
    def units(self) -> int:
        return int(self.numbers["units"].max())
