"""The page that is written while runs are made."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.callbacks import live_page
from benchmarks.callbacks.live_page import LivePage
from benchmarks.config.run_config import RunConfig
from benchmarks.config.suite import Suite
from benchmarks.records import suite_file
from benchmarks.reporting.report import write_live_page
from benchmarks.runner.events import RunFinished, StepDone
from tests.helpers.records import record


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    """A comparison of two methods, whose runs are not made yet, in a folder of its own."""
    asked = suite_file.Comparison(given={"dataset": "synthav", "epochs": 4}, methods=["vanilla", "ogm_ge"], seeds=2)
    return suite_file.claim(tmp_path, asked, asked.suite(), overwrite=False)


def finish(display: LivePage, config: RunConfig, folder: Path, accuracy: float) -> None:
    made = record(config, accuracy)
    made.save(folder)
    display.on(RunFinished(config.key, config, made))


def test_the_page_has_what_is_done_so_far(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_page, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(live_page, "MOST_SHARE", 1e9)
    page = tmp_path / "report.html"
    display = LivePage(lambda: write_live_page(tmp_path))
    assert "4 runs (4 missing)" in page.read_text("utf-8")
    for config in suite.configs()[:2]:
        finish(display, config, tmp_path, 0.7)
    assert "4 runs (2 done, 2 missing)" in page.read_text("utf-8")
    display.close()


def test_it_is_not_written_at_every_event(suite: Suite, tmp_path: Path) -> None:
    written: list[int] = []
    display = LivePage(lambda: written.append(len(written)))
    finish(display, suite.configs()[0], tmp_path, 0.7)
    display.on(StepDone("key", 0, 0.5))
    assert written == [0]


def test_a_folder_without_tables_gets_no_page(tmp_path: Path) -> None:
    write_live_page(tmp_path)
    assert not (tmp_path / "report.html").exists()
