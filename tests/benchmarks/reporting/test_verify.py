"""``check`` finds whatever is edited in a results folder, also where somebody has made the digests fit."""

from __future__ import annotations

import dataclasses
import gzip
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.config.run_config import key_of
from benchmarks.records import logits, store
from benchmarks.records.logits import Logits
from benchmarks.records.predictions import Predictions
from benchmarks.reporting.verify import verify
from tests.benchmarks.records.test_record import signed
from tests.helpers.commands import command, run_here

Edit = Callable[[Path, random.Random], str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of three methods on two draws of the data; one of them builds on other runs."""
    folder = tmp_path_factory.mktemp("made")
    words = command("compare", "methods=vanilla,ogm_ge,ume", "seeds=2", "epochs=3", folder=folder)
    done = run_here([*words, "--jobs", "1"])
    assert done.returncode == 0, done.stderr
    return folder / "results"


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "results", ignore=shutil.ignore_patterns("figures")))


def test_an_honest_folder_passes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(folder)]) == 0
    said = capsys.readouterr().out
    assert said == (
        "10 records, 10 computed again from their logits; 2 draws of data, 2 compared with the data here; "
        "3 files of numbers made again: all of it holds\n"
    )
    store.pack(folder)
    assert main(["check", str(folder)]) == 0 and capsys.readouterr().out == said


def test_no_results_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path)]) == 2
    assert "there is no record in this folder" in capsys.readouterr().err


# ---- edits
def pick(folder: Path, moves: random.Random) -> tuple[Path, dict[str, Any]]:
    path = moves.choice(sorted((folder / "records").rglob("*.json")))
    return path, json.loads(path.read_text())


def nudged(value: Any, moves: random.Random) -> Any:
    """Another value of the same kind, slightly different if it is a number."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return value + moves.choice([-1, 1])
    if isinstance(value, float):
        return value + moves.choice([-1, 1]) * moves.choice([1e-6, 1e-3, 0.01])
    if isinstance(value, str):
        return value[:-1] + chr(ord(value[-1]) + 1) if value else "x"
    return [*value, 1] if isinstance(value, list) else {**value, "more": 1}


def leaves(content: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else None
    return [where] if inside is None else [leaf for name, part in inside for leaf in leaves(part, (*where, name))]


def change(content: Any, where: tuple[Any, ...], moves: random.Random) -> None:
    *before, last = where
    for name in before:
        content = content[name]
    content[last] = nudged(content[last], moves)


def one_logit(folder: Path, moves: random.Random) -> str:
    """The file is whole afterwards, with its checksums."""
    with Logits(folder) as kept:
        record = moves.choice([r for r in store.read_records(folder) if r.logits])
        found = dict(kept.of(record) or {})
    split = moves.choice(["val", "test"])
    values = found[split].logits.copy()
    place = tuple(moves.randrange(n) for n in values.shape)
    values[place] = np.nextafter(values[place], np.float16(-1))
    if values[place] == found[split].logits[place]:  # it was -1
        values[place] = -2
    found[split] = Predictions(values, found[split].label, found[split].modalities)
    logits.save(folder, record, found)
    return f"logit {split}{place} of {record.key}"


def one_label(folder: Path, moves: random.Random) -> str:
    with Logits(folder) as kept:
        record = moves.choice([r for r in store.read_records(folder) if r.logits])
        found = dict(kept.of(record) or {})
    labels = found["test"].label.copy()
    place = moves.randrange(len(labels))
    labels[place] = (labels[place] + 1) % 8
    found["test"] = Predictions(found["test"].logits, labels, found["test"].modalities)
    logits.save(folder, record, found)
    return f"label {place} of {record.key}"


def one_value(folder: Path, moves: random.Random) -> str:
    """Any number or word of a record, whose digest then does not fit."""
    path, content = pick(folder, moves)
    where = moves.choice(leaves(content))
    change(content, where, moves)
    path.write_text(json.dumps(content))
    return f"{where} of {path.name}"


def one_metric(folder: Path, moves: random.Random) -> str:
    """With a digest that fits, and the same number wherever the record has it."""
    path, content = pick(folder, moves)
    where = moves.choice(leaves(content["scores"], ("scores",)))
    change(content, where, moves)
    _, split, head, *measure = where
    suffix = head.removeprefix("own").removeprefix("branch")
    name = f"{measure[0]}{suffix}"
    if f"{split}/{name}" in content["curves"] and len(measure) == 1 and moves.random() < 0.7:
        value, epoch = content["scores"][split][head][measure[0]], content["selected"]["val_best"]
        content["curves"][f"{split}/{name}"][epoch] = value
        if split == "test":
            for selection, e in content["selected"].items():
                content["test"][selection][name] = content["curves"][f"test/{name}"][e]
    signed(path, content)
    return f"{where} of {path.name}, signed"


def one_setting(folder: Path, moves: random.Random) -> str:
    """A field of the configuration, with a digest that fits."""
    path, content = pick(folder, moves)
    where = moves.choice(leaves(content["config"], ("config",)))
    change(content, where, moves)
    signed(path, content)
    return f"{where} of {path.name}, signed"


def one_key(folder: Path, moves: random.Random) -> str:
    """With a digest and a file name that fit."""
    path, content = pick(folder, moves)
    old, place = content["key"], moves.randrange(12)
    new = old[:place] + moves.choice([c for c in "0123456789abcdef" if c != old[place]]) + old[place + 1 :]
    content["key"] = new
    signed(path.rename(path.with_name(path.name.replace(old, new))), content)
    return f"key of {path.name}, signed"


def one_setting_of_the_suite(folder: Path, moves: random.Random) -> str:
    path = folder / "suite.json"
    content = json.loads(path.read_text())
    key = moves.choice(sorted(content["runs"]))
    where = moves.choice(leaves(content["runs"][key], ("runs", key)))
    change(content, where, moves)
    path.write_text(json.dumps(content))
    return f"{where} of suite.json"


def one_epoch(folder: Path, moves: random.Random) -> str:
    """Another selected epoch, or first final epoch, with a digest that fits."""
    path, content = pick(folder, moves)
    where = moves.choice([("selected", "val_best"), ("first_final_epoch",), ("prediction",)])
    change(content, where, moves)
    signed(path, content)
    return f"{where} of {path.name}, signed"


def one_file(folder: Path, moves: random.Random) -> str:
    """A record, its logits or a table is gone; what builds on nothing else needs its record."""
    files = [p for name in ("records", "logits", "tables") for p in sorted((folder / name).rglob("*")) if p.is_file()]
    path = moves.choice([p for p in files if p.suffix in (".json", ".npz", ".csv", ".md")])
    path.unlink()
    return f"{path.name} is gone"


def one_number_of_a_table(folder: Path, moves: random.Random) -> str:
    path = moves.choice([folder / "runs.csv", *sorted((folder / "tables").glob("*.csv"))])
    text = path.read_text()
    place = moves.choice([i for i, c in enumerate(text) if c.isdigit()])
    path.write_text(f"{text[:place]}{(int(text[place]) + 1) % 10}{text[place + 1 :]}")
    return f"digit {place} of {path.name}"


EDITS: list[Edit] = [
    one_logit,
    one_label,
    one_value,
    one_metric,
    one_setting,
    one_key,
    one_setting_of_the_suite,
    one_epoch,
    one_file,
    one_number_of_a_table,
]


@pytest.mark.parametrize("rounds", [1, pytest.param(25, marks=pytest.mark.long)])
@pytest.mark.parametrize("edit", EDITS)
def test_every_edit_is_found(edit: Edit, rounds: int, made: Path, tmp_path: Path) -> None:
    """250 edits in make test-all."""
    for number in range(rounds):
        folder = tmp_path / str(number)
        shutil.copytree(made, folder, ignore=shutil.ignore_patterns("figures"))
        what = edit(folder, random.Random(f"{edit.__name__} {number}"))
        problems = verify(folder).problems
        assert problems, what
        assert not [line for line in problems if "\n" in line or "Traceback" in line]
        shutil.rmtree(folder)


def test_edits_in_packed_records_are_found(folder: Path) -> None:
    store.pack(folder)
    whole = (folder / store.PACK).read_bytes()
    lines = gzip.decompress(whole).decode().splitlines()
    for number in range(len(lines)):
        content = json.loads(lines[number])
        content["cost"]["seconds"] += 1.0
        edited = [*lines[:number], json.dumps(content), *lines[number + 1 :]]
        (folder / store.PACK).write_bytes(gzip.compress("".join(f"{line}\n" for line in edited).encode()))
        problems = verify(folder).problems
        assert any(f"{store.PACK}, line {number + 1}" in line and "digest" in line for line in problems)


@pytest.mark.parametrize("args", [{"path": "/dev/zero"}, {"num_train": 1_000_000}])
def test_data_that_would_not_end_are_not_loaded(args: dict[str, Any], folder: Path) -> None:
    """Somebody's configuration may name any file, and any number of samples."""
    made = next(r for r in store.read_records(folder) if r.config["method"] == "vanilla")
    dataset = "manifest" if "path" in args else "synthav"
    config: Any = {**made.config, "dataset": dataset, "dataset_args": args}
    with Logits(folder) as kept:
        predicted = kept.of(made) or {}
    other = dataclasses.replace(made, config=config, key=key_of(config))
    other.save(folder)
    logits.save(folder, other, predicted)
    found = verify(folder)
    assert found.data == {True: 2, False: 1} and found.recomputed == found.runs == 11


def test_runs_of_an_earlier_protocol_are_named_once(folder: Path) -> None:
    reference = Path(__file__).resolve().parents[3] / "results" / "reference" / "avmnist"
    (line,) = [x for x in verify(reference).problems if "protocol" in x]
    assert line == "57 runs are of an earlier protocol, which kept no logits: they are not verified"
