"""Runs in MLflow: files in a folder, or the server that the user names in MLFLOW_TRACKING_URI."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.callbacks.run_page import RunPage, shorten

STATES = {"done": "FINISHED", "skipped": "FINISHED", "stopped": "KILLED"}  # the rest have failed
LONGEST, LONGEST_NAME = 6000, 250  # letters of a parameter's value, and of a name
# MLflow refuses plain files unless asked, reports what it is used for, and waits minutes for a server that is away.
VARIABLES = {
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


class PagesIn:
    """MLflow's files in a folder: an experiment for each group."""

    def __init__(self, folder: Path) -> None:
        for name, value in VARIABLES.items():
            os.environ.setdefault(name, value)
        from mlflow import tracking

        self._client = tracking.MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or folder.resolve().as_uri())

    def start(self, page: RunPage) -> MlflowPage:
        """A run in its group's experiment."""
        from mlflow.entities import Param

        client = self._client
        found = client.get_experiment_by_name(page.group)
        experiment = found.experiment_id if found else client.create_experiment(page.group)
        for earlier in client.search_runs([experiment], f"tags.key = '{page.key}'"):
            client.delete_run(earlier.info.run_id)
        tags = {"key": page.key, "group": page.group, "job_type": page.job_type, "tags": ", ".join(page.tags)}
        run = client.create_run(experiment, run_name=page.name, tags=tags).info.run_id
        settings = [Param(_name(n), str(x)[:LONGEST]) for n, x in page.flat_config().items()]
        client.log_batch(run, params=settings)
        return MlflowPage(client, run)


def how_to_look(folder: Path) -> str:
    """The command that starts MLflow's own pages, which are in the package mlflow."""
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return ""
    return f"MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri {shlex.quote(str(folder.resolve()))}"


class MlflowPage:
    """One MLflow run.

    Args:
        client: Of the store.
        run: The run's id.
    """

    def __init__(self, client: Any, run: str) -> None:
        self._client, self._run = client, run

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add the epoch's points."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._run, metrics=[Metric(_name(n), v, now, epoch) for n, v in values.items()])

    def finish(self, status: str, reason: str, summary: Mapping[str, float]) -> None:
        """Write the summary, each number as a metric of a single point."""
        self.log(0, {f"summary/{name}": value for name, value in summary.items()})
        self._client.set_tag(self._run, "status", status)
        self._client.set_tag(self._run, "reason", reason[:LONGEST])
        self._client.set_terminated(self._run, STATES.get(status, "FAILED"))

    def add_report(self, paths: Sequence[Path]) -> None:
        """The files themselves, as artifacts."""
        for path in paths:
            if path.suffix in (".csv", ".svg"):
                self._client.log_artifact(self._run, str(path), "figures" if path.suffix == ".svg" else "tables")


def _name(name: str) -> str:
    """A name as MLflow takes it: ``val/accuracy/audio`` becomes ``val/accuracy.audio``.

    Each is the path of a file, so that one cannot be a folder of another.
    """
    first, slash, rest = re.sub(r"[^\w./ -]|\.\.+", "_", name).partition("/")
    return shorten(first + slash + rest.strip("/").replace("/", "."), LONGEST_NAME)
