"""Runs in trackio: a SQLite file in a folder, shown by a server of this machine's own."""

from __future__ import annotations

import contextlib
import contextvars
import io
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.callbacks.run_page import PROJECT, RunPage

ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")  # with one of these trackio sends runs away from this machine


class PagesIn:
    """trackio's files in a folder, which is fixed for a process when trackio is imported.

    Args:
        folder: Where, unless TRACKIO_DIR names another one.

    Raises:
        RuntimeError: trackio was imported for another folder.
    """

    def __init__(self, folder: Path) -> None:
        folder = _folder(folder)
        os.environ["TRACKIO_DIR"] = str(folder)
        import trackio
        from trackio.utils import TRACKIO_DIR

        if folder != TRACKIO_DIR:
            raise RuntimeError(f"trackio writes to {TRACKIO_DIR} in this process, and cannot change to {folder}")
        self._trackio, self._database = trackio, folder / f"{PROJECT}.db"

    def start(self, page: RunPage) -> TrackioPage:
        """A trackio run."""
        trackio = self._trackio
        with _quiet():
            for earlier in trackio.Api().runs(PROJECT) if self._database.exists() else ():
                if earlier.name == page.name:
                    earlier.delete()
            # trackio ends what its context holds as the current run when the next one starts; here several are open
            run = contextvars.copy_context().run(
                trackio.init,
                PROJECT,
                name=page.name,
                group=page.group,
                config={"job_type": page.job_type, "tags": list(page.tags), **page.config},
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        return TrackioPage(run)


def how_to_look(folder: Path) -> str:
    """The command that starts trackio's server."""
    return f"TRACKIO_DIR={shlex.quote(str(_folder(folder)))} trackio show --project {PROJECT}"


def _folder(default: Path) -> Path:
    return Path(os.environ.get("TRACKIO_DIR") or default.resolve())


class TrackioPage:
    """One trackio run, which a thread of trackio's writes down twice a second.

    What this thread cannot write it leaves out, with a warning in trackio's words. So the rows that are in the database
    are counted at the end. There are none to count where trackio sends runs to a server, or where the folder is on a
    network disk, on which it writes files of lines.
    """

    def __init__(self, run: Any) -> None:
        self._run, self._epoch, self._rows = run, 0, 0

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add the epoch's points."""
        self._epoch = epoch
        self._add(values, epoch)

    def finish(self, status: str, reason: str, summary: Mapping[str, float]) -> None:
        """Write the summary beside the last epoch: trackio has no place of its own for it.

        Raises:
            OSError: Some of the run is not on the disk.
        """
        ending = {"status": status, "reason": reason, **summary}
        self._add({f"summary/{name}": value for name, value in ending.items()}, self._epoch)
        with _quiet():
            self._run.finish()
        self._check()

    def add_report(self, paths: Sequence[Path]) -> None:
        """Tables from .csv, figures from .svg."""
        import pandas
        import trackio

        for path in paths:
            if path.suffix == ".csv":
                table = trackio.Table(dataframe=pandas.read_csv(path).astype(str))
                self._add({f"tables/{path.stem}": table}, 0)
            elif path.suffix == ".svg":
                self._add({f"figures/{path.stem}": trackio.Html(path.read_text("utf-8"))}, 0)

    def _check(self) -> None:
        from trackio.sqlite_storage import SQLiteStorage
        from trackio.utils import get_storage_mode

        if get_storage_mode() != "sqlite" or any(os.environ.get(name) for name in ELSEWHERE):
            return
        written = SQLiteStorage.get_log_count(PROJECT, self._run.name, run_id=self._run.id)
        if written < self._rows:
            raise OSError(f"trackio has written {written} of {self._rows} rows of this run; is the disk full?")

    def _add(self, values: Mapping[str, Any], step: int) -> None:
        self._run.log(dict(values), step=step)
        self._rows += 1


def _quiet() -> contextlib.redirect_stdout[io.StringIO]:
    """Within, nothing is printed: trackio prints several lines for every run."""
    return contextlib.redirect_stdout(io.StringIO())
