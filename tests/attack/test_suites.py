"""Hundreds of damaged suite files and suite.json: a suite, or lines that say what is wrong; never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.suites import MADE, SUITES, damage_made, damage_suites

pytestmark = pytest.mark.long


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_damaged_suites(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert damage_suites(path, 400, tmp_path, monkeypatch, capsys) > 200


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.parent.name)
def test_damaged_suite_json(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert damage_made(path, 400, tmp_path, capsys) > 200
