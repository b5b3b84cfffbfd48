"""Runs in TensorBoard: a folder of event files for each, below its group and job type."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.callbacks.run_page import RunPage

METRICS = ("val/accuracy", "summary/test/val_best/accuracy", "summary/test/last/accuracy")  # columns beside settings


class PagesIn:
    """TensorBoard's files in a folder."""

    def __init__(self, folder: Path) -> None:
        from torch.utils import tensorboard

        self._library, self._folder = tensorboard, folder

    def start(self, page: RunPage) -> TensorBoardPage:
        """A folder with the settings, as text and as hyperparameters to sort and filter by."""
        folder = self._folder / page.group / page.job_type / page.name
        if folder.exists():
            shutil.rmtree(folder)
        writer: Any = self._library.SummaryWriter(str(folder))
        writer.add_text("config", _table(page.flat_config()))
        settings = {n: x if isinstance(x, bool | int | float) else str(x) for n, x in page.flat_config().items()}
        experiment, started, ended = self._library.summary.hparams(settings, dict.fromkeys(METRICS))  # type: ignore[no-untyped-call]
        writer.file_writer.add_summary(experiment)
        writer.file_writer.add_summary(started)
        writer.flush()
        return TensorBoardPage(writer, ended)


def how_to_look(folder: Path) -> str:
    """The command that starts TensorBoard."""
    return f"tensorboard --logdir {shlex.quote(str(folder))}"


class TensorBoardPage:
    """One run's event file.

    Args:
        writer: Writes it.
        ended: The summary that ends the run in the table of hyperparameters.
    """

    def __init__(self, writer: Any, ended: Any) -> None:
        self._writer, self._ended = writer, ended

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add the epoch's points."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def finish(self, status: str, reason: str, summary: Mapping[str, float]) -> None:
        """Write the summary: as text, and each number as a single point for the table of hyperparameters."""
        for name, value in summary.items():
            self._writer.add_scalar(f"summary/{name}", value, 0)
        self._writer.add_text("summary", _table({"status": status, "reason": reason, **summary}))
        self._writer.file_writer.add_summary(self._ended)
        self._writer.close()

    def add_report(self, paths: Sequence[Path]) -> None:
        """Tables from .md. TensorBoard shows no .svg."""
        for path in paths:
            if path.suffix == ".md" and path.parent.name == "tables":
                self._writer.add_text(f"tables/{path.stem}", path.read_text("utf-8"))


def _table(values: Mapping[str, Any]) -> str:
    """Names and values in Markdown; TensorBoard removes what a browser would carry out."""
    rows = [f"| {name} | {' '.join(str(value).split()).replace('|', '/')} |" for name, value in values.items()]
    return "\n".join(["| name | value |", "| --- | --- |", *rows])
