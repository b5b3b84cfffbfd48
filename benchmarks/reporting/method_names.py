"""The full names of methods, for the notes of tables and the legends of figures."""

from __future__ import annotations

import re
from collections.abc import Sequence

from benchmarks.config.parts import facts
from benchmarks.config.suite import Row
from ogm.registry import STRATEGIES


def title_of(method: str) -> str:
    """The full name of a method; empty where it has none, or is not registered here.

    A method from a file of the user's own is registered when the file is named on the command line.
    """
    if method not in STRATEGIES:
        return ""
    return facts("method", method)["title"]


def titles(rows: Sequence[Row]) -> dict[str, str]:
    """Id -> full name of every method of the rows that has one, in the order of the rows."""
    methods = dict.fromkeys(config.method for row in rows for config in row.configs)
    return {method: title for method in methods if (title := title_of(method))}


def legend_labels(rows: Sequence[Row]) -> list[str]:
    """The label of each row; where it has a method's id for the first time, with the method's full name."""
    named: set[str] = set()
    labels = []
    for row in rows:
        method = row.configs[0].method if row.configs else ""
        first = method not in named and re.search(rf"(?<!\w){re.escape(method)}(?!\w)", row.label)
        title = title_of(method) if method and first else ""
        named |= {method} if title else set()
        labels.append(f"{row.label}: {title}" if title else row.label)
    return labels
