"""Progress on the terminal: a line for all runs and one for each that is being made."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from rich.cells import cell_len, set_cell_size
from rich.console import Console, RenderableType
from rich.progress import Progress, ProgressColumn, Task, TaskID
from rich.text import Text

from benchmarks.callbacks.estimate import RunningTime, RunTimes, time_left
from benchmarks.config.run_config import RunConfig
from benchmarks.records.record import RunRecord
from benchmarks.runner.events import EpochEnded, Event, RunFinished, RunStarted, StepDone, Warned

REFRESH_SECONDS = 1.0
SHARE = 0.01  # of the time, at most, that goes into estimates for all runs


class Line(ProgressColumn):
    """All of a task in one line that fits the terminal: its name, cut where there is no room, and where it is."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def render(self, task: Task) -> Text:
        """The line: ``ogm_ge synthav concat...sgd seed 1  epoch 12/100  val 81.2%  0:03:12 left``."""
        epochs = (
            "" if task.total is None else f"  epoch {min(int(task.completed) + 1, int(task.total))}/{int(task.total)}"
        )
        ending = f"{epochs}{task.fields['note']}{task.fields['left']:>16}"
        return Text(cut(task.description, self._console.width, ending), no_wrap=True, overflow="crop")


class Lines(Progress):
    """The first lines, as many as the terminal has room for: with 1,000 runs at a time, all would take all the time."""

    def __init__(self, console: Console) -> None:
        self._terminal = console
        super().__init__(Line(console), console=console, transient=True)

    def get_renderables(self) -> Iterable[RenderableType]:
        """See rich."""
        yield self.make_tasks_table(self.tasks[: self._terminal.height - 1])


class ProgressDisplay:
    """Shows the runs of a command on standard error: on a terminal where each is, elsewhere a line per finished run.

    The time that is left is estimated from earlier records and from the runs of this command.

    Args:
        planned: The grid's runs by their keys. Those that are made on the way and are not planned, such as those that a
            single run builds on, get a line, too, but are not counted.
        done: The keys of those that are done already.
        times: How long runs take.
        slots: How many runs are made at a time.
    """

    name = "progress display"

    def __init__(
        self,
        planned: Mapping[str, RunConfig] | None = None,
        done: Mapping[str, RunRecord] | None = None,
        times: RunTimes | None = None,
        slots: int = 1,
    ) -> None:
        self._console = Console(stderr=True)
        self._progress = Lines(self._console)
        self._planned, self._times, self._slots = dict(planned or {}), times or RunTimes(), slots
        self._ended = self._planned.keys() & (done or {}).keys()
        self._waiting = {key: config for key, config in self._planned.items() if key not in self._ended}
        self._running: dict[str, RunningTime] = {}
        self._tasks: dict[str, TaskID] = {}
        self._all_runs: TaskID | None = None
        self._left, self._next_estimate = "", 0.0
        if self._planned:
            self._all_runs = self._progress.add_task(
                f"all runs {self._count()}", total=None, note="", left=self._left_of_all()
            )
        if self._console.is_terminal:
            self._progress.start()

    def on(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, RunStarted):
            self._start(event)
        elif isinstance(event, StepDone) and event.key in self._running:
            self._advance(event.key, event.epoch + event.fraction)
        elif isinstance(event, EpochEnded) and event.key in self._running:
            self._advance(event.key, event.epoch, event.metrics["val/accuracy"])
        elif isinstance(event, Warned):
            self._print(f"warning: {event.text}")
        elif isinstance(event, RunFinished):
            self._finish(event)

    def close(self) -> None:
        """Remove the lines."""
        if self._console.is_terminal:
            self._progress.stop()

    def _start(self, event: RunStarted) -> None:
        if event.key in self._tasks:  # it was started before, by a worker that was killed
            self._progress.remove_task(self._tasks[event.key])
        self._waiting.pop(event.key, None)
        self._running[event.key] = RunningTime(event.config, event.epochs, event.resumed_at, time.monotonic())
        accuracies = event.curves.get("val/accuracy", [])[: event.resumed_at]
        self._tasks[event.key] = self._progress.add_task(name_of(event.config), total=event.epochs, note="", left="")
        self._advance(event.key, event.resumed_at, accuracies[-1] if accuracies else None)

    def _advance(self, key: str, epochs_done: float, accuracy: float | None = None) -> None:
        run, task = self._running[key], self._tasks[key]
        run.advance(epochs_done, time.monotonic())
        self._progress.update(task, completed=epochs_done, left=shown(run.left(self._times)))
        if accuracy is not None or epochs_done == run.resumed_at:
            now = "" if accuracy is None else f"  val {accuracy:6.1%}"
            self._progress.update(task, note=now)
        if self._all_runs is not None:
            self._progress.update(self._all_runs, left=self._left_of_all())

    def _finish(self, event: RunFinished) -> None:
        if event.key in self._running:
            del self._running[event.key]
            self._progress.remove_task(self._tasks.pop(event.key))
            if self._times.empty:  # from now on something is known
                self._next_estimate = 0.0
            self._times.add(event.record)
        self._waiting.pop(event.key, None)
        if self._all_runs is None or event.key not in self._planned:
            return
        self._ended.add(event.key)
        count, left = self._count(), self._left_of_all()
        self._progress.update(self._all_runs, description=f"all runs {count}", left=left)
        if event.record.status != "done":  # whole, however long: nothing of a reason may be cut off
            self._print(f"{count} {event.config.title}: {summary(event.record)}")
        elif not self._console.is_terminal:
            ending = f": {brief(event.record)}" + (f", {left}" if left else "")
            self._print(f"{count} " + cut(name_of(event.config), self._console.width - len(count) - 1, ending))

    def _count(self) -> str:
        return f"[{len(self._ended)}/{len(self._planned)}]"

    def _left_of_all(self) -> str:
        """For all runs: estimated once a second at most, more rarely where there are so many that it takes long."""
        began = time.monotonic()
        if began >= self._next_estimate:
            running, waiting = list(self._running.values()), list(self._waiting.values())
            self._left = shown(time_left(running, waiting, self._times, self._slots))
            now = time.monotonic()
            self._next_estimate = now + max(REFRESH_SECONDS, (now - began) / SHARE)
        return self._left

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def name_of(config: RunConfig) -> str:
    """The run's title with the method in front, which stays when the middle is cut out."""
    rest = config.title.replace(f" {config.method} ", " ", 1)
    return f"{config.method} {rest}"


def cut(text: str, width: int, ending: str = "") -> str:
    """Text and an ending in at most ``width`` cells of a terminal: the middle of a longer text is left out."""
    most = width - cell_len(ending)
    if cell_len(text) > most:
        kept = max(most - 3, 0)
        tail = set_cell_size(text[::-1], kept // 3)[::-1]  # a third is enough for the seed
        text = f"{set_cell_size(text, kept - kept // 3)}...{tail}"
    return text + ending


def shown(seconds: float | None) -> str:
    """A time for people, such as ``0:03:12 left``; empty where it is not known."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} left" if hours < 100 else f"{hours // 24} d {hours % 24} h left"


def brief(record: RunRecord) -> str:
    """The record of a run that is done in very few words."""
    return f"test {record.test['last']['accuracy']:.1%}, {record.cost['seconds']:.0f} s{_gaps(record)}"


def summary(record: RunRecord) -> str:
    """A record in a few words: its test accuracy, or why there is none."""
    if record.status != "done":
        return f"{record.status} ({record.reason})"
    test = record.test["last"]
    own = ", ".join(f"{n.partition('/')[2]} {v:.1%}" for n, v in test.items() if n.startswith("accuracy/"))
    return (
        f"test {test['accuracy']:.1%} (by validation {record.test['val_best']['accuracy']:.1%}); {own}; "
        f"{record.cost['seconds']:.0f} s{_gaps(record)}"
    )


def _gaps(record: RunRecord) -> str:
    """Which splits were incomplete, if any."""
    reports = record.data.get("report", {})
    gaps = [f"{split} {r['found']} of {r['listed']}" for split, r in reports.items() if r["found"] != r["listed"]]
    return f"; INCOMPLETE: {', '.join(gaps)}" if gaps else ""
