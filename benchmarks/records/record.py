"""The record of one run: a small file, written once and never edited, with a digest that shows if it was changed."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json
from typing_extensions import TypedDict

from benchmarks.config.run_config import explain, key_of
from datasets.core.files import write_atomic

SELECTIONS = ("last", "val_best", "test_best")
FRACTIONS = ("accuracy", "macro_f1")  # what lies in [0, 1], of the prediction or (accuracy/audio) of a modality

PLACE = ("dataset", "fusion", "method")  # settings that name the folders which a record is in
NAME = re.compile(r"\w[\w.+-]*")
SCORED = ("val", "test")  # the splits that are evaluated

Number = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Settings(TypedDict):
    """Those parts of a configuration that tables go by; the key vouches for the rest."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    dataset: str
    fusion: str
    method: str
    optimizer: str
    seed: int
    epochs: int
    protocol: int
    dataset_args: dict[str, Any]
    method_args: dict[str, Any]


class Found(TypedDict):
    """How many samples of a split were listed, and how many of them were there."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    listed: int
    found: int


class Data(TypedDict, total=False):
    """What a run's data were: a fingerprint of each split, counts, notes for readers of its numbers."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    fingerprint: dict[str, str]
    report: dict[str, Found]
    notes: list[str]


class Truncated(ValueError):
    """A file that ends too soon, or is no JSON at all: nothing in it can be lost by making its run again."""


@dataclass(frozen=True)
class RunRecord:
    """One run's numbers. Accuracies and F1 are fractions in [0, 1]; epochs count from 0.

    ``test[selection]`` holds the test metrics of the epoch ``selected[selection]``: ``accuracy``, ``macro_f1``,
    ``loss`` of the fused prediction and ``accuracy/<modality>`` etc. of each modality's own. ``probe[modality]`` is the
    test accuracy of a linear probe on that modality's features at the end. ``curves`` have one entry per epoch:
    ``train/loss/fused``, ``train/discrepancy_ratio/audio``, ``train/coefficient/audio``, ``val/accuracy``,
    ``test/accuracy/visual``... ``cost`` and ``provenance`` are the only parts that two runs of one configuration on one
    machine may disagree about.

    ``scores[split][rule]`` has every measure of every rule of prediction (see ``predictions.py``) at the epoch that
    validation selected, computed from the logits whose digests are in ``logits``. Records of protocol 1 have none of
    this, nor ``options``.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    key: str
    config: Settings
    status: Literal["done", "diverged", "failed", "skipped"]
    reason: str = ""  # one line, unless done
    selected: Mapping[str, Annotated[int, Field(ge=0)]] = field(default_factory=dict)
    test: Mapping[str, Mapping[str, Number]] = field(default_factory=dict)
    probe: Mapping[str, Fraction] = field(default_factory=dict)
    curves: Mapping[str, Sequence[Number | None]] = field(default_factory=dict)
    data: Data = field(default_factory=Data)  # fingerprints, counts listed and found
    cost: Mapping[str, Number] = field(default_factory=dict)  # seconds, steps, ...; _before: of runs it builds on
    provenance: Mapping[str, Any] = field(default_factory=dict)  # commit, dirty, versions, device, ranks
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # all of method, fusion, encoders
    first_final_epoch: Annotated[int, Field(ge=0)] = 0  # the first one that could be selected
    prediction: str = ""  # the rule by which the method predicts, which scores call "own"
    modalities: Sequence[str] = field(default_factory=list)  # in the order of the logits
    scores: Mapping[str, Mapping[str, Mapping[str, Number | list[Fraction | None]]]] = field(default_factory=dict)
    logits: Mapping[str, str] = field(default_factory=dict)  # split -> sha256

    @property
    def protocol(self) -> int:
        """Of its configuration: 1 for records without logits."""
        return self.config.get("protocol", 1)

    @property
    def result_digest(self) -> str:
        """One word (64 hex digits) for all but ``cost`` and ``provenance``: equal for two runs that came out alike."""
        kept = {name: x for name, x in self._content().items() if name not in ("cost", "provenance")}
        return _sha256(canonical(kept))

    def outline(self) -> RunRecord:
        """The record without its numbers, which take most room."""
        origin = {name: self.provenance[name] for name in ("device", "commit") if name in self.provenance}
        return RunRecord(
            self.key,
            self.config,
            self.status,
            self.reason,
            provenance=origin,
            modalities=self.modalities,
            logits=self.logits,
        )

    def _content(self) -> dict[str, Any]:
        """The fields that records of its protocol have."""
        content = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return content if self.protocol > 1 else {n: x for n, x in content.items() if n not in SINCE_2}

    def path(self, folder: Path) -> Path:
        """Where this record is, in a file of its own, below a results folder."""
        return record_path(folder, self.config, self.key)

    def text(self, *, indent: int | None = 1) -> str:
        """The record as a file has it, with its digest; without ``indent`` in one line."""
        content = self._content()
        content["digest"] = _sha256(canonical(content))
        separators = None if indent else (",", ":")
        return json.dumps(content, indent=indent, separators=separators, sort_keys=True, allow_nan=False) + "\n"

    def save(self, folder: Path) -> Path:
        """Write it whole or not at all, with its digest, below ``folder``/records."""
        path = self.path(folder)
        write_whole(path, self.text())
        return path

    @classmethod
    def load(cls, path: Path) -> RunRecord:
        """A record from its own file.

        Raises:
            Truncated: The file ends too soon.
            ValueError: It is not as ``save`` wrote it in any other way, or says what cannot be.
        """
        try:
            content = json.loads(path.read_text())
        except (ValueError, RecursionError) as error:  # no JSON, or no text
            why = " ".join(str(error).split())
            raise Truncated(f"{path} is not a whole record ({why}): delete it to make this run again") from None
        try:
            record = cls.from_content(content)
            _check_place(record, path)
        except ValueError as error:
            raise ValueError(
                f"{path} cannot be used: {error}; restore it, or delete it to make this run again"
            ) from None
        return record

    @classmethod
    def from_line(cls, line: str) -> RunRecord:
        """A record from a line of a packed file. Raises ValueError, in one line, for what ``text`` cannot have written.

        Without its digest, a line that ``text`` has written is what the digest is of: to write JSON anew for each of
        100,000 records would take most of the time that it takes to read them.
        """
        content = from_json(line, allow_inf_nan=False)  # words that records share are kept once
        digest = content.get("digest") if isinstance(content, dict) else None
        rest = line.rstrip("\n").replace(f'"digest":"{digest}",', "", 1)
        return cls.from_content(content, rest if digest == _sha256(rest) else None)

    @classmethod
    def from_content(cls, content: Any, text: str | None = None) -> RunRecord:
        """A record from the JSON of its file.

        Args:
            content: The JSON.
            text: Of its fields, if its digest has been found to be that of this text.

        Raises:
            ValueError: ``text`` cannot have written this; one line.
        """
        if not isinstance(content, dict) or "digest" not in content:
            raise ValueError("it has no digest, so it cannot be checked")
        fields = {name: value for name, value in content.items() if name != "digest"}
        if text is None:
            text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)  # as ``canonical``
            if content["digest"] != _sha256(text):
                raise ValueError("its digest does not match its content: it was changed after it was written")
        try:
            RECORD.validate_json(text)
        except ValidationError as error:
            raise ValueError(explain(error.errors()[0], cls.__dataclass_fields__)) from None
        record = cls(**fields)
        _check(record)
        return record


RECORD = TypeAdapter(RunRecord)
SINCE_2 = ("options", "first_final_epoch", "prediction", "modalities", "scores", "logits")


def canonical(content: Mapping[str, Any]) -> str:
    """A record's fields as the one line of JSON, with sorted keys, that its digest is of."""
    plain = json.loads(json.dumps(content, allow_nan=False))  # tuples are lists and keys are text, as in the file
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _check_place(record: RunRecord, path: Path) -> None:
    place = record_path(Path(), record.config, record.key)
    if path.absolute().parts[-len(place.parts) :] != place.parts:
        raise ValueError(f"it is a copy: its own place is {place}")


def _check(record: RunRecord) -> None:
    """Raises ValueError where parts of a record contradict each other."""
    for part in PLACE:
        if not NAME.fullmatch(record.config[part]):  # type: ignore[literal-required]
            raise ValueError(f"config.{part} is {record.config[part]!r}, which is no name")  # type: ignore[literal-required]
    if record.key != key_of(record.config):
        raise ValueError(f"its key, {record.key}, is not that of its configuration, {key_of(record.config)}")
    longest = max(record.config["epochs"], 1)
    if long := [name for name, curve in record.curves.items() if len(curve) > longest]:
        raise ValueError(f"curves.{long[0]} is longer than its {longest} epochs")
    for name, curve in record.curves.items():
        split, _, metric = name.partition("/")
        if split == "train" or metric.partition("/")[0] not in FRACTIONS:
            continue
        if bad := [x for x in curve if x is None or not 0 <= x <= 1]:
            raise ValueError(f"curves.{name} has {bad[0]}, which is not in [0, 1]")
    if record.status == "done":
        _check_done(record, longest)


def _check_done(record: RunRecord, longest: int) -> None:
    """What is selected lies within the curves, and is what they say of that epoch."""
    names = sorted(SELECTIONS)
    if sorted(record.selected) != names or sorted(record.test) != names:
        raise ValueError(f"selected and test are not those of {', '.join(SELECTIONS)}")
    trained = any(name.startswith("train/") for name in record.curves)
    epochs = longest if trained else record.selected["last"] + 1  # what is not trained is evaluated once
    if ragged := [name for name, curve in record.curves.items() if len(curve) != epochs]:
        raise ValueError(f"curves.{ragged[0]} has {len(record.curves[ragged[0]])} epochs, not {epochs}")
    if not {"val/accuracy", "test/accuracy"} <= record.curves.keys():
        raise ValueError("curves has no val/accuracy or no test/accuracy")
    if record.selected["last"] != epochs - 1 or max(record.selected.values()) >= epochs:
        raise ValueError(f"selected names epochs that are not the last, or not among its {epochs}")
    for selection, epoch in record.selected.items():
        shown = {n.removeprefix("test/"): x[epoch] for n, x in record.curves.items() if n.startswith("test/")}
        if dict(record.test[selection]) != shown:
            raise ValueError(f"test.{selection} is not what its curves have at epoch {epoch}")
    if record.protocol > 1:
        _check_scored(record)
        return
    for split in SCORED:
        curve, epoch = record.curves[f"{split}/accuracy"], record.selected[f"{split}_best"]
        best = curve[epoch]
        if any(later is None or best is None or later > best for later in curve[epoch:]):
            raise ValueError(f"selected.{split}_best is epoch {epoch}, and a later one is better")


def _check_scored(record: RunRecord) -> None:
    """The selected epochs are the best ones, and what is scored there is what the curves have."""
    for split in SCORED:
        if f"{split}/loss" not in record.curves:
            raise ValueError(f"curves has no {split}/loss")
        epoch = best_epoch(record.curves, split, record.first_final_epoch)
        if record.selected[f"{split}_best"] != epoch:
            raise ValueError(f"selected.{split}_best is not epoch {epoch}, which is the best")
    if sorted(record.scores) != sorted(SCORED) or sorted(record.logits) != sorted(SCORED):
        raise ValueError(f"scores and logits are not those of {' and '.join(SCORED)}")
    epoch = record.selected["val_best"]
    for split in SCORED:
        heads = {"own": "", **{f"branch/{m}": f"/{m}" for m in record.modalities}}
        for head, suffix in heads.items():
            for name in (*FRACTIONS, "loss"):
                curve = record.curves.get(f"{split}/{name}{suffix}", [None] * (epoch + 1))
                if record.scores[split].get(head, {}).get(name) != curve[epoch]:
                    raise ValueError(f"scores.{split}.{head}.{name} is not what its curve has at epoch {epoch}")


def best_epoch(curves: Mapping[str, Sequence[float | None]], split: str, first: int = 0) -> int:
    """The epoch with the highest accuracy on a split; of several, that with the lowest loss; of these, the first.

    Args:
        curves: ``<split>/accuracy`` and ``<split>/loss``, one entry per epoch.
        split: ``val`` or ``test``.
        first: The first epoch that may be chosen.
    """
    found = zip(curves[f"{split}/accuracy"][first:], curves[f"{split}/loss"][first:], strict=True)
    ranked = [(-accuracy, loss, e) for e, (accuracy, loss) in enumerate(found, first)]  # type: ignore[operator]
    return min(ranked)[2]


def read_whole(path: Path) -> RunRecord | None:
    """A record to go on with: None where there is none, or only a piece of one.

    A piece is renamed, so that nothing is lost, and a line says that its run is made again.
    """
    try:
        return RunRecord.load(path) if path.exists() else None
    except Truncated as error:
        kept = path.with_name(f"{path.name}.truncated")
        path.replace(kept)
        what = str(error).rpartition(":")[0]
        print(f"warning: {what}; it is now {kept.name}, and its run is made again", file=sys.stderr, flush=True)
        return None


def record_path(folder: Path, config: Mapping[str, Any], key: str) -> Path:
    """Where the record of a run is, in a file of its own, below a results folder."""
    names = (config[part] for part in PLACE)
    return folder.joinpath("records", *names, f"{config['seed']}-{key}.json")


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
    """A file that is either there completely or not at all; its folder is made. Raises Unwritable."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
