"""Callbacks get every event, and none of them can change a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.callbacks.base import Callbacks
from benchmarks.callbacks.json_lines import JsonLinesLog
from benchmarks.callbacks.progress import ProgressDisplay
from benchmarks.config.run_config import configure
from benchmarks.runner.events import EpochEnded, Event, RunFinished, RunStarted, StepDone, Warned
from tests.helpers.commands import command, records
from tests.helpers.records import record

CONFIG = configure({"method": "umt"})
TEACHER = configure({"method": "unimodal", "method_args": {"modality": "audio"}})


class Faulty:
    """Fails at a chosen event, and when it is closed."""

    name = "faulty"

    def __init__(self, at: type[Event]) -> None:
        self.at, self.seen, self.closed = at, 0, 0

    def on(self, event: Event) -> None:
        self.seen += 1
        if isinstance(event, self.at):
            raise RuntimeError("no\nnetwork")

    def close(self) -> None:
        self.closed += 1
        raise RuntimeError("still none")


def test_a_failure_is_reported_once_and_the_others_go_on(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    faulty = Faulty(at=RunStarted)
    with Callbacks([faulty, JsonLinesLog(tmp_path / "log" / "events.jsonl")]) as callbacks:
        callbacks.on(Warned("a", "text"))
        callbacks.on(RunStarted("a", CONFIG, 3, 0))
        callbacks.on(EpochEnded("a", 1, {}))
    assert faulty.seen == 2 and faulty.closed == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == ("warning: faulty: RuntimeError: no network. Going on without it; our own records are complete.")
    lines = (tmp_path / "log" / "events.jsonl").read_text().splitlines()
    assert [json.loads(text)["event"] for text in lines] == ["Warned", "RunStarted", "EpochEnded"]


def test_a_failure_while_closing_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with Callbacks([Faulty(at=RunStarted)]):
        pass
    assert "still none" in capsys.readouterr().err


def test_the_display_shows_prerequisites_but_counts_only_the_planned(capsys: pytest.CaptureFixture[str]) -> None:
    display = ProgressDisplay({CONFIG.key: CONFIG})
    display.on(RunStarted(TEACHER.key, TEACHER, 20, 5))
    display.on(StepDone(TEACHER.key, 5, 0.5))
    display.on(EpochEnded(TEACHER.key, 6, {"val/accuracy": 0.25}))
    (task,) = [task for task in display._progress.tasks if task.id == display._tasks[TEACHER.key]]
    assert (task.completed, task.total, task.fields["note"]) == (6, 20, "  val  25.0%")
    display.on(RunFinished(TEACHER.key, TEACHER, record(TEACHER)))
    assert not display._tasks and "unimodal" not in capsys.readouterr().err
    display.on(RunFinished(CONFIG.key, CONFIG, record(CONFIG)))
    display.close()
    said = capsys.readouterr().err
    assert said.startswith("[1/1]") and "umt" in said


def test_a_log_of_a_run_tells_of_its_teachers_too_and_changes_no_record(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "events.jsonl"
    assert main([*command("run", "method=umt", "epochs=2", folder=tmp_path / "a")[3:], "--log-events", str(log)]) == 0
    assert main(command("run", "method=umt", "epochs=2", folder=tmp_path / "b")[3:]) == 0
    assert records(tmp_path / "a") == records(tmp_path / "b")
    told = [json.loads(line) for line in log.read_text().splitlines()]
    methods = {event["key"]: event["config"]["method"] for event in told if event["event"] == "RunStarted"}
    assert sorted(methods.values()) == ["umt", "unimodal", "unimodal"]
    for key in methods:
        names = [event["event"] for event in told if event["key"] == key]
        assert names == ["RunStarted", "EpochEnded", "EpochEnded", "RunFinished"]
        (end,) = (event for event in told if event["key"] == key and event["event"] == "RunFinished")
        assert end["record"]["status"] == "done" and end["record"]["key"] == key


def test_a_log_that_cannot_be_opened_is_known_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    argv = command("run", "epochs=1", folder=tmp_path)[3:]
    assert main([*argv, "--log-events", str(tmp_path / "file" / "events.jsonl")]) == 2
    assert "file" in capsys.readouterr().err and not records(tmp_path)
