"""Logits beside records: kept whole, packed with them, found by key, and refused where anything in them is changed."""

from __future__ import annotations

import shutil
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.config.run_config import configure, parse
from benchmarks.records import logits, store
from benchmarks.records.logits import Logits
from benchmarks.records.record import RunRecord
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.run import run
from tests.helpers.commands import SMALL


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with three runs."""
    folder = tmp_path_factory.mktemp("made")
    for method in ("vanilla", "ume"):
        config = configure(parse([*SMALL, "epochs=2", f"method={method}"]))
        run(config, RunEnvironment(folder / "results", folder / "work"))
    return folder / "results"


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "results"))


def records(folder: Path) -> list[RunRecord]:
    return list(store.read_records(folder))


def test_both_forms_hold_the_same(folder: Path) -> None:
    found = records(folder)
    with Logits(folder) as single:
        before = {r.key: single.of(r) for r in found}
    store.pack(folder)
    assert not (folder / "logits").exists() and not (folder / "records").exists()
    content = (folder / logits.PACK).read_bytes()
    with Logits(folder) as packed:
        assert packed.packed_keys() == set(before)
        for r in found:
            kept = packed.of(r)
            assert kept is not None and {s: p.digest for s, p in kept.items()} == r.logits
            assert {s: p.digest for s, p in (before[r.key] or {}).items()} == r.logits
    assert store.pack(folder) and (folder / logits.PACK).read_bytes() == content
    with np.load(folder / logits.PACK) as arrays:  # as anybody would
        assert arrays[f"{found[0].key}/val"].dtype == np.float16


def test_scores_are_of_the_kept_logits(folder: Path) -> None:
    from benchmarks.records.predictions import scores

    with Logits(folder) as kept:
        for r in records(folder):
            assert scores(kept.of(r) or {}) == r.scores


def test_a_single_file_joins_the_packed_ones(folder: Path) -> None:
    store.pack(folder)
    config = configure(parse([*SMALL, "epochs=2", "seed=5"]))
    run(config, RunEnvironment(folder, folder.parent / "work"))
    with Logits(folder) as kept:
        assert all(kept.of(r) for r in records(folder))
    store.pack(folder)
    with Logits(folder) as kept:
        assert config.key in kept.packed_keys() and all(kept.of(r) for r in records(folder))


@pytest.mark.parametrize("packed", [False, True])
def test_damage_is_one_line(folder: Path, packed: bool, capsys: pytest.CaptureFixture[str]) -> None:
    if packed:
        store.pack(folder)
    first = records(folder)[0]
    path = folder / logits.PACK if packed else logits.logits_path(folder, first)
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:200] + b"\0" * 60 + whole[260:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError) as error, Logits(folder) as kept:
            kept.of(first)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
        assert main(["pack", str(folder)]) == 2  # and nothing is lost
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert str(path) in line and path.read_bytes() == damaged
    assert len(records(folder)) == 4


def test_an_array_that_is_too_large_is_not_unpacked(folder: Path) -> None:
    """A few kilobytes that unpack to a hundred megabytes."""
    first = records(folder)[0]
    path = logits.logits_path(folder, first)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(f"{first.key}/val.npy", "w") as file:
        np.save(file, np.zeros((4, 10_000, 1200), np.float16))
    tracemalloc.start()
    with pytest.raises(ValueError, match="no logits have more"), Logits(folder) as kept:
        kept.of(first)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size < 2**18 and peak < 2**22


def test_those_of_another_run_are_refused(folder: Path) -> None:
    first, second, *_ = [r for r in records(folder) if r.config["method"] == "unimodal"]
    with Logits(folder) as kept:
        other = kept.of(second) or {}
        assert kept.of(replace(first, logits={})) is None
    logits.save(folder, first, other)
    with pytest.raises(ValueError, match=f"the logits of {first.key} are not those"), Logits(folder) as kept:
        kept.of(first)
