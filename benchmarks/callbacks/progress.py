"""What people watch while runs go on: progress on the terminal, and a mirror in wandb. Mirrors, never the truth."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from benchmarks.config.run_config import RunConfig
from benchmarks.records.record import RunRecord

PROJECT = "ogm-bench"


class Board:
    """One display for a whole grid: a bar for all runs, and one for each that is being made.

    Without a terminal (a log file, CI): a line per finished run.
    """

    def __init__(self, total: int, done: int) -> None:
        self.console = Console(stderr=True)
        self.live = self.console.is_terminal
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
        )
        self.total, self.done = total, done
        self.all = self.progress.add_task("runs", total=total, completed=done, note="")
        self.bars: dict[str, TaskID] = {}

    def __enter__(self) -> Board:
        if self.live:
            self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def hear(self, config: RunConfig, event: str, about: Mapping[str, Any]) -> None:
        """An event of a run (see ``run.run``)."""
        if event == "start":
            task = self.bars.get(config.key)
            if task is None:
                task = self.bars[config.key] = self.progress.add_task(
                    config.title, total=max(about["epochs"], 1), note=""
                )
            self.progress.update(task, completed=about["epoch"])
        elif event == "step" and config.key in self.bars:
            self.progress.update(self.bars[config.key], note=f"epoch {about['fraction']:4.0%}")
        elif event == "epoch" and config.key in self.bars:
            note = f"val {about['curves']['val/accuracy']:.1%}"
            self.progress.update(self.bars[config.key], completed=about["epoch"], note=note)

    def finish(self, config: RunConfig, record: RunRecord) -> None:
        if config.key in self.bars:
            self.progress.remove_task(self.bars.pop(config.key))
        self.done += 1
        self.progress.update(self.all, completed=self.done)
        if record.status != "done" or not self.live:
            self.say(f"[{self.done}/{self.total}] {config.title}: {summary(record)}")


def summary(record: RunRecord) -> str:
    """A record in a few words."""
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


class Mirror:
    """Copies a run to wandb: offline unless the user says otherwise (WANDB_MODE=online, with a key).

    Our own records are the truth. Whatever goes wrong on wandb's side, a full disk, no key, no network, is said once
    and changes nothing else.
    """

    def __init__(self, folder: Path, group: str, warn: Callable[[str], None]) -> None:
        self.folder, self.group, self.warn = folder, group, warn
        self.mode = os.environ.get("WANDB_MODE", "offline")
        self.run: Any = None

    def hear(self, config: RunConfig, event: str, about: Mapping[str, Any]) -> None:
        """An event of a run (see ``run.run``)."""
        if event == "start":
            self.start(
                config.title, {"id": config.key, "config": config.model_dump(mode="json"), "tags": [config.method]}
            )
        elif event == "epoch":
            self.tell(lambda run: run.log({"epoch": about["epoch"], **about["curves"]}, step=about["epoch"]))
        elif event == "done":
            record: RunRecord = about["record"]
            flat = {f"{selection}/{name}": v for selection, test in record.test.items() for name, v in test.items()}
            flat |= {f"probe/{m}": v for m, v in record.probe.items()}
            self.tell(lambda run: run.summary.update({"status": record.status, "reason": record.reason, **flat}))
            self.finish()

    def start(self, name: str, about: Mapping[str, Any]) -> None:
        if self.mode == "disabled":
            return
        try:
            import wandb

            self.folder.mkdir(parents=True, exist_ok=True)
            self.run = wandb.init(
                project=PROJECT,
                group=self.group or None,
                name=name,
                mode=self.mode,
                dir=str(self.folder),  # type: ignore[arg-type]
                settings=wandb.Settings(silent=True, console="off", init_timeout=20),
                resume="allow" if self.mode == "online" else None,
                **about,
            )
        except Exception as error:  # a mirror must not stop a run, whatever wandb raises
            self._lost(error)

    def tell(self, what: Callable[[Any], object]) -> None:
        if self.run is not None:
            try:
                what(self.run)
            except Exception as error:  # as above
                self._lost(error)

    def finish(self) -> None:
        run = self.run
        self.tell(lambda run: run.finish())
        self.run = None
        if run is None:
            return
        # wandb says nothing when its disk is full; only its own log does.
        internal = Path(run.settings.log_internal)
        if internal.exists() and "no space left" in internal.read_text(errors="replace").lower():
            self._lost(OSError("no space left on wandb's disk: its copy of this run has gaps"))

    def _lost(self, error: Exception) -> None:
        self.run, self.mode = None, "disabled"
        text = " ".join(str(error).split())[:300]
        self.warn(
            f"wandb: {type(error).__name__}: {text}. Going on without it; our own records are complete. "
            "(WANDB_MODE=disabled turns it off)"
        )


def warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)


def mirror_report(name: str, title: str, paths: Sequence[Path], folder: Path, warn: Callable[[str], None]) -> None:
    """The finished tables and figures of a suite, as one wandb run in its group."""
    mirror = Mirror(folder, name, warn)
    mirror.start(f"{name}: tables and figures", {"notes": title})

    def send(run: Any) -> None:
        import pandas
        import wandb

        for path in paths:
            if path.suffix == ".csv":
                run.log({f"tables/{path.stem}": wandb.Table(dataframe=pandas.read_csv(path).astype(str))})
            elif path.suffix == ".svg":
                run.log({f"figures/{path.stem}": wandb.Html(path.read_text(), inject=False)})

    mirror.tell(send)
    mirror.finish()
