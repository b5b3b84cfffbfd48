"""Ranked tables of several data sets in one ranking."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from benchmarks.config.suite import Table
from benchmarks.config.units import name_of_data
from benchmarks.reporting.tables import EMPTY, FormattedTable, format_number

TUNED = re.compile(r" \(tuned(?:: its default)?\)")  # in the label of a row whose settings were searched


def data_name(table: Table) -> str:
    """What tells the data of a table from those of others on the same data set."""
    one = next(config for row in table.rows for config in row.configs)
    return name_of_data(table.dataset, one.dataset_args)


def ranked_data(tables: Sequence[FormattedTable]) -> list[str]:
    """The data of those tables that rank their rows, each once, in the order of the tables."""
    return list(dict.fromkeys(data_name(table.table) for table in tables if table.table.ranked))


def across_data(tables: Sequence[FormattedTable]) -> pd.DataFrame:
    """The mean rank over the data sets that a setting has, in its defaults, best first.

    Args:
        tables: The page's tables. Those that do not rank their rows are left out; of several on the same data the
            first that has a setting counts. Rows whose settings were searched, or that have no mean, have no rank.

    Returns:
        Columns ``setting``, ``mean rank``, ``data sets`` and, for each data set, "3 of 57". A rank is among the rows of
        its own table, so settings with few data sets were ranked among others than those with many.
    """
    ranks: dict[str, dict[str, tuple[int, int]]] = {}
    columns = ranked_data(tables)
    for table in tables:
        if table.table.ranked:
            data = data_name(table.table)
            rows = table.numbers[~table.numbers["row"].map(lambda label: bool(TUNED.search(label)))]
            means = rows.set_index("row")["val_best_mean"].dropna().round(4)  # rounding makes no rank
            for label, rank in means.rank(ascending=False, method="min").astype(int).items():
                ranks.setdefault(str(label), {}).setdefault(data, (int(rank), len(means)))
    mean = {label: sum(rank for rank, _ in found.values()) / len(found) for label, found in ranks.items()}
    lines = [
        {"setting": label, "mean rank": format_number(mean[label]), "data sets": str(len(ranks[label]))}
        | {data: "{} of {}".format(*ranks[label][data]) if data in ranks[label] else EMPTY for data in columns}
        for label in sorted(ranks, key=lambda label: (mean[label], -len(ranks[label])))
    ]
    return pd.DataFrame(lines)
