"""Progress on the terminal: a bar for all runs and one for each that is being made."""

from __future__ import annotations

from collections.abc import Collection

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmarks.records.record import RunRecord
from benchmarks.runner.events import EpochEnded, Event, RunFinished, RunStarted, StepDone, Warned


class ProgressDisplay:
    """Shows the runs of a grid on standard error: bars on a terminal, elsewhere (a log file, CI) a line per run.

    A bar has the time that has passed, and the time that is left if the rest goes on at the same speed.

    Args:
        planned: The keys of the grid's runs. Runs that are made on the way, such as those that one of the grid builds
            on, get a bar, too, but are not counted.
        done: How many of them are done already.
    """

    name = "progress display"

    def __init__(self, planned: Collection[str] = (), done: int = 0) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
            speed_estimate_period=3600,  # seconds; runs take minutes, and differ
        )
        self._planned, self._done = frozenset(planned), done
        self._all_runs: TaskID | None = None
        if self._planned:
            self._all_runs = self._progress.add_task("runs", total=len(self._planned), completed=done, note="")
        self._bars: dict[str, TaskID] = {}
        if self._console.is_terminal:
            self._progress.start()

    def on(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, RunStarted):
            self._start(event)
        elif isinstance(event, StepDone) and event.key in self._bars:
            self._progress.update(self._bars[event.key], note=f"epoch {event.fraction:4.0%}")
        elif isinstance(event, EpochEnded) and event.key in self._bars:
            accuracy = event.metrics["val/accuracy"] or 0.0
            self._progress.update(self._bars[event.key], completed=event.epoch, note=f"val {accuracy:.1%}")
        elif isinstance(event, Warned):
            self._print(f"warning: {event.text}")
        elif isinstance(event, RunFinished):
            self._finish(event)

    def close(self) -> None:
        """Remove the bars."""
        self._progress.stop()

    def _start(self, event: RunStarted) -> None:
        if event.key not in self._bars:
            total = max(event.epochs, 1)
            self._bars[event.key] = self._progress.add_task(event.config.title, total=total, note="")
        self._progress.update(self._bars[event.key], completed=event.resumed_at)

    def _finish(self, event: RunFinished) -> None:
        if event.key in self._bars:
            self._progress.remove_task(self._bars.pop(event.key))
        if self._all_runs is None or event.key not in self._planned:
            return
        self._done += 1
        self._progress.update(self._all_runs, completed=self._done)
        if event.record.status != "done" or not self._console.is_terminal:
            self._print(f"[{self._done}/{len(self._planned)}] {event.config.title}: {summary(event.record)}")

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def summary(record: RunRecord) -> str:
    """A record in a few words: its test accuracy, or why there is none."""
    if record.status != "done":
        return f"{record.status} ({record.reason})"
    test = record.test["last"]
    reports = record.data.get("report", {})
    gaps = [f"{split} {r['found']} of {r['listed']}" for split, r in reports.items() if r["found"] != r["listed"]]
    incomplete = f"; INCOMPLETE: {', '.join(gaps)}" if gaps else ""
    own = ", ".join(f"{n.partition('/')[2]} {v:.1%}" for n, v in test.items() if n.startswith("accuracy/"))
    return (
        f"test {test['accuracy']:.1%} (by validation {record.test['val_best']['accuracy']:.1%}); {own}; "
        f"{record.cost['seconds']:.0f} s{incomplete}"
    )
