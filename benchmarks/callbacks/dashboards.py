"""Copies of runs in dashboards (wandb, TensorBoard, MLflow, trackio): one logger for all, one small module for each.

Our own records are the truth: whatever goes wrong in a dashboard changes nothing else.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.callbacks.run_page import (
    JobType,
    RunPage,
    curve_values,
    group_of,
    history,
    page_of,
    report_page,
    summary_of,
)
from benchmarks.config.run_config import ConfigError, known
from benchmarks.records.record import RunRecord
from benchmarks.runner.events import EpochEnded, Event, RunFinished, RunStarted


class DashboardError(RuntimeError):
    """Something went wrong on a dashboard's side: a full disk, no key, no network."""


class PageWriter(Protocol):
    """Writes the page of one run."""

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add the points of an epoch (from 1) to the curves, so that a kill does not lose them."""

    def finish(self, status: str, reason: str, summary: Mapping[str, float]) -> None:
        """Write what the run ended with. ``status`` is a record's, or ``stopped``."""

    def add_report(self, paths: Sequence[Path]) -> None:
        """Add tables and figures: .csv, .md and .svg files, of which a dashboard takes those that it can show."""


class Dashboard(Protocol):
    """Translates pages into the files of one library. It is made from a folder, and imports the library then."""

    def start(self, page: RunPage) -> PageWriter:
        """An empty page, in the place of what an earlier start of the same run has left."""


@dataclass(frozen=True)
class Library:
    """A dashboard that can be chosen.

    Args:
        module: Of the dashboard. Its class ``PagesIn`` is a ``Dashboard``; its function ``how_to_look`` gives the
            command that shows what is in a folder, or nothing where none is needed.
        package: What is imported.
        requirement: What is installed for it.
    """

    module: str
    package: str
    requirement: str


LIBRARIES: Mapping[str, Library] = {
    "wandb": Library("benchmarks.callbacks.wandb", "wandb", "wandb==0.30.0"),
    "tensorboard": Library("benchmarks.callbacks.tensorboard", "tensorboard", "tensorboard==2.21.0"),
    "mlflow": Library("benchmarks.callbacks.mlflow", "mlflow", "mlflow-skinny==3.17.2"),
    "trackio": Library("benchmarks.callbacks.trackio", "trackio", "trackio==0.43.0"),
}
NONE = "none"


def chosen(text: str) -> list[str]:
    """The dashboards that ``--log`` names, each once, all of them installed.

    Raises:
        ConfigError: There is no such dashboard, or its library is not installed.
    """
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    if names == [NONE]:
        return []
    mistakes = []
    for name in names:
        try:
            library = LIBRARIES[known(name, list(LIBRARIES))]
        except ValueError as error:
            mistakes.append(f"--log: {error}; or {NONE}, alone")
            continue
        spec = importlib.util.find_spec(library.package)
        if spec is None or spec.origin is None:  # the latter: a folder of that name, such as wandb's files
            mistakes.append(
                f"--log {name}: {library.package} is not installed: {sys.executable} -m pip install "
                f"{library.requirement}"
            )
    if mistakes:
        raise ConfigError(mistakes)
    return [name for name in names if not _is_off(name)]


def _is_off(name: str) -> bool:
    return name == "wandb" and os.environ.get("WANDB_MODE") == "disabled"


def folder_of(results: Path, name: str) -> Path:
    """Where a dashboard keeps its files: beside the records, where `make clean` removes nothing."""
    return results / "dashboards" / name


def dashboard(name: str, results: Path) -> Dashboard:
    """A dashboard by its name. This imports its library, which takes seconds."""
    made: Dashboard = importlib.import_module(LIBRARIES[name].module).PagesIn(folder_of(results, name))
    return made


class DashboardLogger:
    """Copies runs to one dashboard, each as a page that holds its settings, curves and last numbers.

    A run that goes on from a checkpoint gets its page anew, with the epochs that are done: nothing is there twice, and
    what a killed process had not written yet is there as well.

    The library is imported here, not when the first run has started: where runs are made in this process, the seconds
    would count as that run's.

    Args:
        name: The dashboard's.
        results: The results folder of the runs.
        asked: The keys of the runs that the command is about; others are made because these build on them.
        job_type: What those are.
    """

    def __init__(self, name: str, results: Path, asked: Collection[str], job_type: JobType) -> None:
        self.name = name
        self._dashboard: Dashboard | Exception
        try:
            self._dashboard = dashboard(name, results)
        except Exception as error:  # whatever an import raises; told with the first event, as every failure is
            self._dashboard = error
        self._group, self._asked, self._job_type = group_of(results), frozenset(asked), job_type
        self._open: dict[str, PageWriter] = {}  # by the runs' keys

    def on(self, event: Event) -> None:
        """Copy an event.

        Raises:
            DashboardError: It could not be copied.
        """
        try:
            if isinstance(self._dashboard, Exception):
                raise self._dashboard
            if isinstance(event, RunStarted):
                self._start(event, self._dashboard)
            elif isinstance(event, EpochEnded) and event.key in self._open:
                self._open[event.key].log(event.epoch, curve_values(event.metrics))
            elif isinstance(event, RunFinished) and event.key in self._open:
                self._finish(event.key, event.record)
        except Exception as error:  # whatever a library raises
            raise _explained(error) from error

    def close(self) -> None:
        """End the pages of runs that were stopped.

        Raises:
            DashboardError: One could not be ended.
        """
        try:
            while self._open:
                self._open.popitem()[1].finish("stopped", "", {})
        except Exception as error:
            raise _explained(error) from error

    def _start(self, event: RunStarted, dashboard: Dashboard) -> None:
        if event.key in self._open:  # it was started before, by a worker that was killed
            self._open.pop(event.key).finish("stopped", "", {})
        job_type = self._job_type if event.key in self._asked else "prerequisite"
        writer = self._open[event.key] = dashboard.start(page_of(event.config, self._group, job_type))
        for epoch, values in enumerate(history(event.curves, event.resumed_at), start=1):
            writer.log(epoch, values)

    def _finish(self, key: str, record: RunRecord) -> None:
        self._open.pop(key).finish(record.status, record.reason, summary_of(record))


def log_report(names: Sequence[str], title: str, paths: Sequence[Path], results: Path) -> None:
    """Copy the finished tables and figures of a results folder to dashboards. A failure is a warning.

    Args:
        names: The dashboards.
        title: What stands above the tables.
        paths: The files.
        results: The results folder.
    """
    for name in names:
        try:
            writer = dashboard(name, results).start(report_page(group_of(results), title))
            writer.add_report(paths)
            writer.finish("done", "", {})
        except Exception as error:  # whatever a library raises: the tables and figures are there
            print(f"warning: {name}: {_explained(error)}. Going on without it.", file=sys.stderr, flush=True)


def how_to_look(names: Sequence[str], results: Path) -> list[str]:
    """The commands that show what dashboards have of a results folder, for those that have anything."""
    folders = {name: folder_of(results, name) for name in names}
    modules = {name: importlib.import_module(LIBRARIES[name].module) for name in names if folders[name].exists()}
    commands: list[str] = [module.how_to_look(folders[name]) for name, module in modules.items()]
    return [command for command in commands if command]


def _explained(error: Exception) -> DashboardError:
    text = " ".join(str(error).split())[:200]
    return DashboardError(f"{type(error).__name__}: {text} (--log {NONE} turns dashboards off)")
