"""A copy of every run in wandb: offline unless the user says otherwise (WANDB_MODE=online, with a key)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.runner.events import EpochEnded, Event, RunFinished, RunStarted

PROJECT = "ogm-bench"


class WandbError(RuntimeError):
    """Something went wrong on wandb's side: a full disk, no key, no network."""


class WandbLogger:
    """Copies runs to wandb, each as a wandb run of the same name; their curves, and their scores as its summary.

    Our own records are the truth: whatever goes wrong here changes nothing else.

    Args:
        folder: Where wandb keeps its files.
        group: What wandb calls these runs together; empty: nothing.
    """

    name = "wandb"

    def __init__(self, folder: Path, group: str = "") -> None:
        self._folder, self._group = folder, group
        self._mode = os.environ.get("WANDB_MODE", "offline")
        self._runs: dict[str, Any] = {}  # by our runs' keys

    def on(self, event: Event) -> None:
        """Copy an event.

        Raises:
            WandbError: It could not be copied.
        """
        if self._mode == "disabled":
            return
        try:
            if isinstance(event, RunStarted):
                config = event.config
                self._finish(event.key)  # it was started before, by a worker that was killed
                self._runs[event.key] = _start(
                    self._folder,
                    self._group,
                    config.title,
                    id=config.key,
                    config=config.model_dump(mode="json"),
                    tags=[config.method],
                )
            elif isinstance(event, EpochEnded) and event.key in self._runs:
                self._runs[event.key].log({"epoch": event.epoch, **event.metrics}, step=event.epoch)
            elif isinstance(event, RunFinished) and event.key in self._runs:
                record = event.record
                scores = {f"{selection}/{n}": v for selection, test in record.test.items() for n, v in test.items()}
                scores |= {f"probe/{m}": v for m, v in record.probe.items()}
                self._runs[event.key].summary.update({"status": record.status, "reason": record.reason, **scores})
                self._finish(event.key)
        except Exception as error:
            self._runs.clear()
            raise _explained(error) from error

    def close(self) -> None:
        """Finish what is still open.

        Raises:
            WandbError: It could not be finished.
        """
        try:
            for key in list(self._runs):
                self._finish(key)
        except Exception as error:
            raise _explained(error) from error

    def _finish(self, key: str) -> None:
        run = self._runs.pop(key, None)
        if run is not None:
            _finish(run)


def log_report(name: str, title: str, paths: Sequence[Path], folder: Path) -> None:
    """Copy the finished tables and figures of a suite to wandb, as one run in its group. A failure is a warning.

    Args:
        name: The suite's name.
        title: Its title.
        paths: The files; tables are read from .csv, figures from .svg.
        folder: Where wandb keeps its files.
    """
    if os.environ.get("WANDB_MODE", "offline") == "disabled":
        return
    try:
        import pandas
        import wandb

        run = _start(folder, name, f"{name}: tables and figures", notes=title)
        for path in paths:
            if path.suffix == ".csv":
                run.log({f"tables/{path.stem}": wandb.Table(dataframe=pandas.read_csv(path).astype(str))})
            elif path.suffix == ".svg":
                run.log({f"figures/{path.stem}": wandb.Html(path.read_text(), inject=False)})
        _finish(run)
    except Exception as error:  # whatever wandb raises: the tables and figures are there
        print(f"warning: wandb: {_explained(error)}. Going on without it.", file=sys.stderr, flush=True)


def _start(folder: Path, group: str, name: str, **more: Any) -> Any:
    """A new wandb run, beside those that are open."""
    import wandb

    mode: Any = os.environ.get("WANDB_MODE", "offline")
    folder.mkdir(parents=True, exist_ok=True)
    return wandb.init(
        project=PROJECT,
        group=group or None,
        name=name,
        mode=mode,
        dir=str(folder),
        settings=wandb.Settings(silent=True, console="off", init_timeout=20),
        reinit="create_new",
        resume="allow" if mode == "online" else None,
        **more,
    )


def _finish(run: Any) -> None:
    """End a wandb run. wandb says nothing when its disk is full; only its own log does.

    Raises:
        OSError: The disk is full.
    """
    run.finish()
    internal = Path(run.settings.log_internal)
    if internal.exists() and "no space left" in internal.read_text(errors="replace").lower():
        raise OSError("no space left on wandb's disk: its copy of this run has gaps")


def _explained(error: Exception) -> WandbError:
    text = " ".join(str(error).split())[:200]
    return WandbError(f"{type(error).__name__}: {text} (WANDB_MODE=disabled turns it off)")
