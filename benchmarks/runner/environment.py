"""Where and how runs are carried out, and where each keeps its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.config.run_config import ConfigError, RunConfig
from benchmarks.records.record import RunRecord, record_path
from benchmarks.records.store import find_record, read_records
from benchmarks.runner.generated import Fingerprints
from datasets.core.errors import DataError
from datasets.registry import fingerprints

if TYPE_CHECKING:
    from benchmarks.runner.experiment import Experiment


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
        prepare: Machines of a cluster prepare data that are not ready there, instead of being left out.
    """

    results: Path
    work: Path = Path(".work")
    device: str = "cpu"
    threads: int = 1
    workers: int = 0
    debug: bool = False
    files: tuple[tuple[Any, Path], ...] = ()
    overwrite: bool = False
    prepare: bool = False
    _fingerprints: dict[str, dict[str, str]] = field(default_factory=dict, compare=False, repr=False)

    def fingerprint(self, config: RunConfig) -> Mapping[str, str]:
        """One word for each split of the data that a run means. Looked up once, however many runs share it.

        Raises:
            DataError: The data cannot be had.
            ConfigError: The dataset does not take these options.
        """
        arguments = json.dumps([config.dataset, config.dataset_args], sort_keys=True, default=str)
        if arguments not in self._fingerprints:
            kept = Fingerprints(self.work, config.dataset, arguments)
            found = kept.read()
            if found is None:
                try:
                    found = fingerprints(config.dataset, config.dataset_args)
                except DataError:
                    raise
                except ValueError as error:
                    raise ConfigError([str(error)]) from None
                kept.write(found)
            self._fingerprints[arguments] = found
        return self._fingerprints[arguments]

    def run_folder(self, experiment: Experiment) -> Path:
        """Where a run keeps what it needs to go on: nothing of it is used with other data."""
        data = hashlib.sha256(json.dumps(self.fingerprint(experiment.config), sort_keys=True).encode())
        return self.work / experiment.key / data.hexdigest()[:12]

    def record_path(self, config: RunConfig) -> Path:
        """Where a run's record is, or will be."""
        return record_path(self.results, config.model_dump(), config.key)

    def export_path(self, experiment: Experiment, record: RunRecord) -> Path:
        """The weights that the run of this record leaves for others. Written once: other weights, another name."""
        return self.run_folder(experiment) / f"export-{record.result_digest[:16]}.pt"

    def recorded(self, config: RunConfig) -> RunRecord | None:
        """The record of a run that is done. Nothing of the run is looked up but its data, so torch is not needed.

        Args:
            config: The run.

        Returns:
            None where the run has to be made (again), or only its method can tell (``finished``).

        Raises:
            OtherDataError: It was made with other data, and may not be overwritten.
            DataError: The data cannot be had.
        """
        record = find_record(self.results, self.record_path(config))
        return record if record is not None and self._speaks_for_itself(config, record) else None

    def all_recorded(self, configs: Mapping[str, RunConfig]) -> dict[str, RunRecord]:
        """``recorded`` for many runs at once: the folder is read once, and one record at a time is kept whole.

        Args:
            configs: The runs by their keys.

        Returns:
            Key -> outline of the record (``RunRecord.outline``) of those that are done, in the order of ``configs``.
        """
        found = {}
        for record in read_records(self.results, only=configs.keys()):
            if self._speaks_for_itself(configs[record.key], record):
                found[record.key] = record.outline()
        return {key: found[key] for key in configs if key in found}

    def _speaks_for_itself(self, config: RunConfig, record: RunRecord) -> bool:
        """As ``_stands``; not for a record of protocol 1, which does not say which epochs could be selected."""
        return record.protocol > 1 and self._stands(config, record)

    def _stands(self, config: RunConfig, record: RunRecord) -> bool:
        """Whether a run need not be made again. Raises OtherDataError and DataError, as ``recorded``."""
        if record.status != "done":
            return False
        before, now = record.data.get("fingerprint", {}), self.fingerprint(config)
        if before != now:
            if self.overwrite:
                return False
            changes = [f"{s}: {before.get(s, 'unknown')} then, {x} now" for s, x in now.items() if before.get(s) != x]
            raise OtherDataError(
                [
                    f"{self.record_path(config)}: this run was made with other data ({', '.join(changes)}): "
                    "give another --results folder, or --overwrite to make such runs again"
                ]
            )
        return True

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
        record = find_record(self.results, self.record_path(experiment.config))
        if record is None or min(record.selected.values(), default=-1) < experiment.first_final_epoch:
            return None
        if not self._stands(experiment.config, record):
            return None
        return record if not export or self.export_path(experiment, record).exists() else None
