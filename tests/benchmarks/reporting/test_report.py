"""A suite's tables on a terminal: what does not fit is named, and no cell is broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.config.suite import compare
from benchmarks.reporting import report
from tests.helpers.records import filled

VANILLA, OGM_GE = [0.5, 0.6, 0.55], [0.7, 0.75, 0.72]


@pytest.mark.parametrize(("width", "missing"), [(60, True), (80, True), (120, True), (240, False)])
def test_a_table_has_as_many_columns_as_the_terminal_has_room_for(
    width: int, missing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = compare({}, ["vanilla", "diagnosing_relearning"], 3)
    for record in filled(suite, [VANILLA, OGM_GE]).values():
        record.save(tmp_path)
    console = Console(width=width, force_terminal=True, color_system=None, record=True)
    monkeypatch.setattr(report, "Console", lambda: console)
    report.show(suite, tmp_path)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    (row,) = [line for line in lines if "diagnosing_relearning" in line]
    assert "71.3 ± 2.5" in row and "…" not in "".join(lines)
    assert any(line.startswith("no room for") for line in lines) is missing
    if width >= 80:
        assert "+17.3" in row
