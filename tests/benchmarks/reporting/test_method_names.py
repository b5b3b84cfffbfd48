"""Full names: every method has its own, and legends and notes show them once."""

from __future__ import annotations

import pytest

from benchmarks.config.run_config import configure
from benchmarks.config.suite import Row
from benchmarks.reporting.method_names import legend_labels, title_of, titles
from benchmarks.reporting.tables import format_table
from ogm.registry import STRATEGIES
from ogm.strategies.ogm import OGM
from tests.helpers.records import filled, small


class Inherited(OGM):
    """A method of somebody's own, without a title."""


def test_every_method_has_a_name_of_its_own() -> None:
    found = [title_of(method) for method in STRATEGIES]
    assert all(found) and len(set(found)) == len(found)
    assert max(map(len, found)) <= 64  # for a line of a legend


def test_a_title_is_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "inherited", f"{__name__}:Inherited")
    assert title_of("inherited") == ""
    assert title_of("from a file that is not named") == ""


def test_a_name_stands_where_its_id_is_read_first() -> None:
    rows = [
        Row("concat", (configure({}),)),
        Row("concat + ogm", (configure({"method": "ogm"}),)),
        Row("sum + ogm", (configure({"fusion": "sum", "method": "ogm"}),)),
        Row("ogm_ge 0.5", (configure({"method": "ogm_ge"}),)),
        Row("searched", ()),
    ]
    assert legend_labels(rows) == [
        "concat",
        "concat + ogm: On-the-fly Gradient Modulation",
        "sum + ogm",
        "ogm_ge 0.5: On-the-fly Gradient Modulation with Generalization Enhancement",
        "searched",
    ]
    assert list(titles(rows)) == ["vanilla", "ogm", "ogm_ge"]


def test_a_table_names_its_methods() -> None:
    suite = small()
    made = format_table(suite.tables[0], filled(suite, [[0.7] * 3, [0.8] * 3]))
    assert dict(made.notes)["Methods"] == (
        "vanilla: Joint training without balancing; "
        "ogm_ge: On-the-fly Gradient Modulation with Generalization Enhancement."
    )
