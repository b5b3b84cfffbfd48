"""Progress: every line fits the terminal, names keep their ends, and the time left comes from runs that were made."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from benchmarks.callbacks import progress
from benchmarks.callbacks.estimate import RunningTime, RunTimes, time_left, times_from
from benchmarks.callbacks.progress import ProgressDisplay, cut, name_of, shown
from benchmarks.config.run_config import RunConfig, configure
from benchmarks.runner.events import EpochEnded, RunFinished, RunStarted, StepDone
from tests.helpers.records import record

LONG = {"preset": "textbook", "root": "x" * 200, "name": "[red]中文" * 20}


def made(seconds: float, **settings: Any) -> Any:
    """A run that is done, and how long it took."""
    return record(configure({"epochs": 10, **settings}), cost={"seconds": seconds})


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is written to a terminal of 80 columns."""
    written = io.StringIO()
    console = Console(file=written, width=80, height=25, force_terminal=True, color_system=None)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    return written


def lines_of(display: ProgressDisplay) -> list[str]:
    """What the display shows now."""
    console = Console(width=80, file=io.StringIO())
    with console.capture() as captured:
        console.print(display._progress.get_renderable())
    return captured.get().splitlines()


def test_lines_fit_eighty_columns_and_say_what_counts(terminal: io.StringIO) -> None:
    config = configure({"method": "diagnosing_relearning", "epochs": 100})
    config = config.model_copy(update={"dataset_args": LONG})
    others = {c.key: c for c in (configure({"seed": seed}) for seed in range(120))}
    display = ProgressDisplay({config.key: config, **others})
    display.on(RunStarted(config.key, config, 100, 40, {"val/accuracy": [0.5] * 40}))
    display.on(StepDone(config.key, 40, 0.5))
    one, two = lines_of(display)
    assert one.startswith("all runs [0/121]")
    assert two.startswith("diagnosing_relearning") and "..." in two and "seed 0  epoch 41/100  val  50.0%" in two
    display.on(EpochEnded(config.key, 100, {"val/accuracy": 1.0}))
    for line in [one, two, *lines_of(display)]:
        assert cell_len(line) <= 80, line
    display.on(RunFinished(config.key, config, record(config)))
    display.close()
    assert "Traceback" not in terminal.getvalue()


def test_of_many_runs_at_a_time_those_have_lines_for_which_there_is_room(terminal: io.StringIO) -> None:
    configs = {config.key: config for config in (configure({"seed": seed}) for seed in range(60))}
    display = ProgressDisplay(configs, slots=60)
    for key, config in configs.items():
        display.on(RunStarted(key, config, 100, 0))
    shown_lines = lines_of(display)
    assert len(shown_lines) == 24 and shown_lines[0].startswith("all runs [0/60]")
    display.close()


def test_a_log_file_has_a_short_line_for_each_run(capsys: pytest.CaptureFixture[str]) -> None:
    config = configure({"method": "ogm_ge"}).model_copy(update={"dataset_args": LONG})
    display = ProgressDisplay({config.key: config, "other": configure({"seed": 9})}, times=RunTimes())
    display.on(RunStarted(config.key, config, 20, 0))
    display.on(RunFinished(config.key, config, record(config)))
    display.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("[1/2] ogm_ge synthav") and line.endswith("seed 0: test 80.0%, 10 s, 0:00:10 left")
    assert cell_len(line) <= 80


@pytest.mark.parametrize("text", ["short", "x" * 300, "中文" * 100, "[red]a[/red]" * 30])
@pytest.mark.parametrize("width", [20, 40, 80])
def test_what_is_cut_keeps_both_ends(text: str, width: int) -> None:
    line = cut(text, width, " end")
    assert cell_len(line) <= width and line.endswith(" end") and line.startswith(text[:4])
    assert line == f"{text} end" or f"{text[-2:]} end" in line


def test_a_name_begins_with_the_method() -> None:
    assert name_of(configure({"method": "ogm_ge", "seed": 3})).startswith("ogm_ge synthav concat ")


def test_times() -> None:
    assert [shown(seconds) for seconds in (None, 5, 192.4, 86400, 1e6)] == [
        "",
        "0:00:05 left",
        "0:03:12 left",
        "24:00:00 left",
        "11 d 13 h left",
    ]


def test_the_most_similar_runs_tell_how_long_one_takes() -> None:
    times = RunTimes()
    assert times.seconds(configure({})) is None
    times.add(made(100, method="mmpareto"))
    assert times.seconds(configure({"method": "ogm_ge", "epochs": 10})) == pytest.approx(100)  # of the same data set
    times.add(made(20, method="ogm_ge", lr=0.01))
    assert times.seconds(configure({"method": "ogm_ge", "epochs": 5})) == pytest.approx(10)  # the same method
    times.add(made(60, method="ogm_ge", seed=3))
    assert times.seconds(configure({"method": "ogm_ge", "epochs": 10})) == pytest.approx(60)  # but for its seed
    times.add(record(configure({"method": "ogm_ge", "epochs": 10}), status="failed", cost={"seconds": 1.0}))
    assert times.seconds(configure({"method": "ogm_ge", "epochs": 10})) == pytest.approx(60)


def test_the_time_left_is_not_estimated_anew_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at each run that is waiting: of a large grid that would keep the driver busy."""
    planned = {config.key: config for config in (configure({"seed": seed}) for seed in range(50))}
    times = RunTimes()
    times.add(made(10))
    asked: list[RunConfig] = []
    seconds = times.seconds

    def counted(config: RunConfig) -> float | None:
        asked.append(config)
        return seconds(config)

    monkeypatch.setattr(times, "seconds", counted)
    display = ProgressDisplay(planned, times=times)
    key, config = next(iter(planned.items()))
    display.on(RunStarted(key, config, 20, 0))
    for step in range(300):
        display.on(StepDone(key, 0, step / 300))
    display.close()
    assert len(asked) < 50 * 20


def test_estimates_for_very_many_runs_take_a_hundredth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, began = 0.0, []

    def slow(*_: Any) -> None:
        nonlocal now
        began.append(now)
        now += 0.5

    monkeypatch.setattr(progress, "time_left", slow)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    config = configure({})
    display = ProgressDisplay({config.key: config})
    display.on(RunStarted(config.key, config, 100, 0))
    for step in range(2000):
        display.on(StepDone(config.key, 0, step / 2000))
        now += 0.1
    assert 3 <= len(began) <= 5
    display.close()


def test_the_time_left_is_shared_by_the_runs_at_a_time() -> None:
    times, waiting = RunTimes(), [configure({"seed": seed, "epochs": 10}) for seed in range(4)]
    assert time_left([], waiting, times, 2) is None and time_left([], [], times, 2) == 0
    running = RunningTime(waiting[0], epochs=10, resumed_at=4, started=50.0)
    assert time_left([running], waiting[1:], times, 2) is None
    running.advance(6, now=60.0)  # 5 seconds per epoch
    assert time_left([running], waiting[1:], times, 2) == pytest.approx((20 + 3 * 50) / 2)
    times.add(made(10))
    assert time_left([running], waiting[1:], times, 2) == pytest.approx((20 + 3 * 10) / 2)
    assert time_left([running], [], times, 2) == pytest.approx(20)  # one run cannot be shared


def test_earlier_records_are_read_and_a_damaged_one_is_no_error(tmp_path: Path) -> None:
    path = made(30, seed=1).save(tmp_path)
    path.with_name("damaged-123456789012.json").write_text("{")
    wanted: list[RunConfig] = [configure({"epochs": 10})]
    assert times_from(tmp_path, wanted, []).seconds(wanted[0]) == pytest.approx(30)
    assert times_from(tmp_path / "none", wanted, []).seconds(wanted[0]) is None
