"""Runs in wandb: offline unless the user says otherwise (WANDB_MODE=online, with a key)."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.callbacks.run_page import PROJECT, RunPage
from benchmarks.callbacks.wandb_file import is_whole

ENDED_WELL = ("done", "skipped")


class PagesIn:
    """wandb's files in a folder.

    Args:
        folder: Must be called wandb: wandb insists on a folder of that name.
    """

    def __init__(self, folder: Path) -> None:
        import wandb

        self._wandb, self._folder = wandb, folder
        self._mode: Any = _mode()

    def start(self, page: RunPage) -> WandbPage:
        """A wandb run beside those that are open. Online, it goes on with what the server has of it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for earlier in self._folder.glob(f"offline-run-*-{page.id}"):
            shutil.rmtree(earlier)  # of two offline runs with one id, `wandb sync` would upload the wrong one last
        run = self._wandb.init(
            project=PROJECT,
            id=page.id,
            name=page.name,
            group=page.group,
            job_type=page.job_type,
            config=dict(page.config),
            tags=list(page.tags),
            mode=self._mode,
            dir=str(self._folder.parent),
            # Versions are in the record; to list every installed package takes most of a second.
            settings=self._wandb.Settings(silent=True, console="off", init_timeout=20, x_save_requirements=False),
            reinit="create_new",
            resume="allow" if self._mode == "online" else None,
        )
        return WandbPage(run)


def how_to_look(folder: Path) -> str:
    """The command that uploads offline runs."""
    return f"wandb sync {shlex.quote(str(folder))}/offline-run-*" if _mode() == "offline" else ""


def _mode() -> str:
    return os.environ.get("WANDB_MODE", "offline")


class WandbPage:
    """One wandb run."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add an epoch, unless the server has it already."""
        if epoch >= self._run.starting_step:
            self._run.log({"epoch": epoch, **values}, step=epoch)

    def finish(self, status: str, reason: str, summary: Mapping[str, float]) -> None:
        """End the run, and look whether it is on the disk: wandb says nothing when it cannot write.

        Raises:
            OSError: It is not.
        """
        self._run.summary.update({"status": status, "reason": reason, **summary})
        self._run.finish(exit_code=0 if status in ENDED_WELL else 1)
        file = Path(self._run.settings.sync_file)
        if not is_whole(file):
            raise OSError(f"wandb could not write all of this run; is the disk full? {file}")

    def add_report(self, paths: Sequence[Path]) -> None:
        """Tables from .csv, figures from .svg."""
        import pandas
        import wandb

        for path in paths:
            if path.suffix == ".csv":
                self._run.log({f"tables/{path.stem}": wandb.Table(dataframe=pandas.read_csv(path).astype(str))})
            elif path.suffix == ".svg":
                self._run.log({f"figures/{path.stem}": wandb.Html(path.read_text("utf-8"), inject=False)})
