"""Where and how runs are carried out, and where each keeps its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.config.run_config import ConfigError, RunConfig
from benchmarks.records.record import RunRecord, record_path
from benchmarks.records.store import find_record
from benchmarks.runner.experiment import Experiment
from datasets.core.errors import DataError


class OtherDataError(ConfigError):
    """A record was made with other data than those that the same configuration means today."""


@dataclass(frozen=True)
class RunEnvironment:
    """How and where runs are carried out. Nothing in here changes a number (but see ``threads``).

    Args:
        results: Where records go.
        work: Where checkpoints and exported weights go.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...
        threads: Of one run on a CPU. Another number may change the last bits of a result, and is recorded.
        workers: Processes that load data, for each run.
        debug: Stop at the first number that is not finite, instead of recording that the run diverged.
        files: Files of the user's own, as pairs of what they hold (``method``, ...) and their path. Every process that
            makes runs registers them.
        overwrite: Make runs again whose record was made with other data or came out differently, instead of refusing.
    """

    results: Path
    work: Path = Path(".work")
    device: str = "cpu"
    threads: int = 1
    workers: int = 0
    debug: bool = False
    files: tuple[tuple[Any, Path], ...] = ()
    overwrite: bool = False
    _fingerprints: dict[str, dict[str, str]] = field(default_factory=dict, compare=False, repr=False)

    def fingerprint(self, experiment: Experiment) -> Mapping[str, str]:
        """One word for each split of the data that an experiment means. Looked up once, however many runs share it.

        Raises:
            DataError: The data cannot be had.
            ConfigError: The dataset does not take these options.
        """
        arguments = experiment.config.model_dump_json(include={"dataset", "dataset_args"})
        if arguments not in self._fingerprints:
            try:
                splits = experiment.load_data().splits()
            except DataError:
                raise
            except ValueError as error:
                raise ConfigError([str(error)]) from None
            self._fingerprints[arguments] = {split: data.fingerprint for split, data in splits.items()}
        return self._fingerprints[arguments]

    def run_folder(self, experiment: Experiment) -> Path:
        """Where a run keeps what it needs to go on: nothing of it is used with other data."""
        data = hashlib.sha256(json.dumps(self.fingerprint(experiment), sort_keys=True).encode())
        return self.work / experiment.key / data.hexdigest()[:12]

    def record_path(self, config: RunConfig) -> Path:
        """Where a run's record is, or will be."""
        return record_path(self.results, config.model_dump(), config.key)

    def export_path(self, experiment: Experiment, record: RunRecord) -> Path:
        """The weights that the run of this record leaves for others. Written once: other weights, another name."""
        return self.run_folder(experiment) / f"export-{record.result_digest[:16]}.pt"

    def finished(self, experiment: Experiment, *, export: bool = False) -> RunRecord | None:
        """The record of a run that is done.

        Args:
            experiment: The run.
            export: It must have left its weights behind, too.

        Returns:
            None where the run has to be made (again).

        Raises:
            OtherDataError: It was made with other data, and may not be overwritten.
        """
        path = self.record_path(experiment.config)
        record = find_record(self.results, path)
        if record is None or record.status != "done":
            return None
        if min(record.selected.values(), default=-1) < experiment.first_final_epoch:
            return None
        before, now = record.data.get("fingerprint", {}), self.fingerprint(experiment)
        if before != now:
            if self.overwrite:
                return None
            changes = [f"{s}: {before.get(s, 'unknown')} then, {x} now" for s, x in now.items() if before.get(s) != x]
            raise OtherDataError(
                [
                    f"{path}: this run was made with other data ({', '.join(changes)}): give another --results folder, "
                    "or --overwrite to make such runs again"
                ]
            )
        return record if not export or self.export_path(experiment, record).exists() else None
