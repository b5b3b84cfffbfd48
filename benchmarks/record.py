"""What one run leaves behind: one small file, written once, never edited."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import glob
import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

SELECTIONS = ("last", "val_best", "test_best")


@dataclass(frozen=True)
class RunRecord:
    """One run's numbers. Accuracies and F1 are fractions in [0, 1]; epochs count from 0.

    ``test[selection]`` holds the test metrics of the epoch ``selected[selection]``: ``accuracy``, ``macro_f1``,
    ``loss`` of the fused prediction and ``accuracy/<modality>`` etc. of each modality's own. ``probe[modality]`` is the
    test accuracy of a linear probe on that modality's features at the end. ``curves`` have one entry per epoch:
    ``train/loss/fused``, ``train/discrepancy_ratio/audio``, ``train/coefficient/audio``, ``val/accuracy``,
    ``test/accuracy/visual``... ``cost`` and ``provenance`` are the only parts that two runs of one configuration on one
    machine may disagree about.
    """

    key: str
    config: Mapping[str, Any]
    status: Literal["done", "diverged", "failed", "skipped"]
    reason: str = ""  # one line, unless done
    selected: Mapping[str, int] = field(default_factory=dict)
    test: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    probe: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)  # fingerprints, counts listed and found
    cost: Mapping[str, float] = field(default_factory=dict)  # seconds, seconds_before (of runs it builds on), ...
    provenance: Mapping[str, Any] = field(default_factory=dict)  # commit, dirty, versions, device, ranks

    @property
    def result_digest(self) -> str:
        """One word (64 hex digits) for all but ``cost`` and ``provenance``: equal for two runs that came out alike."""
        kept = {name: x for name, x in dataclasses.asdict(self).items() if name not in ("cost", "provenance")}
        return hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def path(self, folder: Path) -> Path:
        return record_path(folder, self.config, self.key)

    def save(self, folder: Path) -> Path:
        """Write it whole or not at all, below ``folder``/records."""
        path = self.path(folder)
        write_whole(path, json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True, allow_nan=False) + "\n")
        return path

    @classmethod
    def load(cls, path: Path) -> RunRecord:
        """Raises ValueError, in one line, for a file that is not a whole record."""
        try:
            return cls(**json.loads(path.read_text()))
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
            raise ValueError(f"{path} is not a whole record ({error}): delete it to make this run again") from None


def record_path(folder: Path, config: Mapping[str, Any], key: str) -> Path:
    place = folder / "records" / config["dataset"] / config["fusion"] / config["method"]
    return place / f"{config['seed']}-{key}.json"


class Unwritable(OSError):
    """A file of this program's own cannot be written: ``filename`` says which, ``strerror`` why."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Any OSError names ``path``: the system's own often does not say where the disk is full."""
    try:
        yield
    except OSError as error:
        raise Unwritable(error.errno, error.strerror or str(error), str(path)) from error


def write_whole(path: Path, content: str | bytes) -> None:
    """A file that is either there completely or not at all; its folder is made. Raises Unwritable.

    What a process that was killed has left of the same file is cleared away: a part that is still being written is
    locked by whoever writes it.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for part in path.parent.glob(f"{glob.escape(path.name)}.*.part"):
            with contextlib.suppress(FileNotFoundError, BlockingIOError), part.open("rb") as left:
                fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()
        fresh, file = _part_of(path)
        try:
            with file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)


def _part_of(path: Path) -> tuple[Path, BinaryIO]:
    """A new file beside ``path``, open and locked."""
    while True:
        fresh = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
        file = fresh.open("xb")
        fcntl.flock(file, fcntl.LOCK_EX)
        if fresh.exists():  # else it was taken for one that was left, before it was locked
            return fresh, file
        file.close()


def read_records(folder: Path) -> Iterator[RunRecord]:
    """Every record below ``folder``, in order of their paths."""
    for path in sorted((folder / "records").rglob("*.json")):
        yield RunRecord.load(path)
