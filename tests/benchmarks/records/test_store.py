"""Single files and the packed file: the same records in both, one line for whatever is wrong in either."""

from __future__ import annotations

import dataclasses
import gzip
import os
from pathlib import Path

import pytest

from benchmarks.config.run_config import RunConfig, configure
from benchmarks.records import store
from benchmarks.records.record import RunRecord
from benchmarks.records.store import find_record, pack, read_records, results_folders
from tests.helpers.records import record, stopped

CONFIGS = [configure({"method": m, "seed": s, "epochs": 4}) for m in ("vanilla", "ogm_ge") for s in (0, 1, 10)]


def made() -> list[RunRecord]:
    return [record(c, 0.7 + i / 50) for i, c in enumerate(CONFIGS)]


def found(folder: Path, config: RunConfig) -> RunRecord | None:
    return find_record(folder, record(config).path(folder))


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    for one in made():
        one.save(tmp_path)
    pack(tmp_path)
    return tmp_path


def test_both_forms_hold_the_same(tmp_path: Path) -> None:
    for one in reversed(made()):
        one.save(tmp_path)
    before = list(read_records(tmp_path))
    texts = {path.name: path.read_text() for path in tmp_path.rglob("*.json")}
    assert pack(tmp_path) == tmp_path / "records.jsonl.gz" and not (tmp_path / "records").exists()
    assert list(read_records(tmp_path)) == before == sorted(before, key=lambda r: r.path(tmp_path).parts)
    assert all(found(tmp_path, CONFIGS[i]) == one for i, one in enumerate(made()))
    assert found(tmp_path, configure({"seed": 99, "epochs": 4})) is None
    for one in before:
        assert one.save(tmp_path).read_text() == texts[one.path(tmp_path).name], "a record is the same text again"
    index = (tmp_path / "records.csv").read_text().splitlines()
    assert index[0] == "key,dataset,fusion,method,seed,status,line"
    assert index[1:] == [
        ",".join([r.key, "synthav", "concat", r.config["method"], str(r.config["seed"]), "done", str(line)])
        for line, r in enumerate(before, 1)
    ]


def test_the_same_records_give_the_same_bytes(packed: Path) -> None:
    before = {path.name: path.read_bytes() for path in packed.iterdir()}
    os.utime(packed / "records.csv", (0, 0))
    for one in made()[:2]:
        one.save(packed)
    pack(packed)
    assert {path.name: path.read_bytes() for path in packed.iterdir()} == before


def test_a_single_file_joins_the_packed_ones(packed: Path) -> None:
    more = record(configure({"seed": 2, "epochs": 4}))
    more.save(packed)
    assert len(list(read_records(packed))) == 7 and found(packed, configure({"seed": 2, "epochs": 4})) == more
    again = dataclasses.replace(made()[0], cost={"seconds": 99.0})
    again.save(packed)
    assert found(packed, CONFIGS[0]) == again, "an equal result on another machine"
    pack(packed)
    assert len(list(read_records(packed))) == 7 and found(packed, CONFIGS[0]) == again


def test_two_results_of_one_run_are_refused(packed: Path) -> None:
    other = record(CONFIGS[0], 0.4)
    other.save(packed)
    for read in (lambda: found(packed, CONFIGS[0]), lambda: list(read_records(packed)), lambda: pack(packed)):
        with pytest.raises(ValueError, match=r"has another result than the same run in records.jsonl.gz"):
            read()
    pack(packed, overwrite=True)
    assert found(packed, CONFIGS[0]) == other and len(list(read_records(packed))) == 6


def test_a_run_that_failed_is_replaced(tmp_path: Path) -> None:
    stopped(CONFIGS[0], "failed", "the disk was full").save(tmp_path)
    pack(tmp_path)
    record(CONFIGS[0]).save(tmp_path)
    assert [r.status for r in read_records(tmp_path)] == ["done"]


def change_line(folder: Path, number: int, old: str, new: str) -> None:
    lines = gzip.decompress((folder / "records.jsonl.gz").read_bytes()).decode().splitlines(keepends=True)
    assert old in lines[number]
    lines[number] = lines[number].replace(old, new, 1)
    (folder / "records.jsonl.gz").write_bytes(gzip.compress("".join(lines).encode()))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"seconds":10.0', '"seconds":11.0', "its digest does not match"),
        ('"digest"', '"digset"', "it has no digest"),
        ("{", "", "line 2, cannot be used"),
        ("\n", "", "a line is cut off|is not the index|trailing characters"),
    ],
)
def test_a_damaged_line_is_refused(old: str, new: str, said: str, packed: Path) -> None:
    change_line(packed, 1, old, new)
    for read in (lambda: list(read_records(packed)), lambda: pack(packed)):
        with pytest.raises(ValueError, match=said) as error:
            read()
        assert "\n" not in str(error.value) and str(packed) in str(error.value)


def test_a_damaged_file_is_refused(packed: Path) -> None:
    content = (packed / "records.jsonl.gz").read_bytes()
    for damaged in (b"", b"nothing", content[:100], content[:200] + b"xx" + content[202:], content + b"more"):
        (packed / "records.jsonl.gz").write_bytes(damaged)
        with pytest.raises(ValueError) as error:
            list(read_records(packed))
        assert "\n" not in str(error.value) and str(packed) in str(error.value)


def test_an_index_that_does_not_fit_is_refused_and_written_anew(packed: Path) -> None:
    index = packed / "records.csv"
    good = index.read_text()
    lines = good.splitlines(keepends=True)
    swapped = [*lines[:1], *[x.replace("vanilla", "ogm") for x in lines[1:]]]
    for wrong in ("", "".join(lines[:-1]), "".join([*lines, lines[-1]]), "".join(swapped)):
        index.write_text(wrong)
        with pytest.raises(ValueError, match="python -m benchmarks pack"):
            list(read_records(packed))
        pack(packed)
        assert index.read_text() == good
    index.unlink()
    assert len(list(read_records(packed))) == 6 and found(packed, CONFIGS[3]) == made()[3], "it can be left out"


def test_a_file_of_endless_lines_is_refused(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST", 5000)
    with pytest.raises(ValueError, match="more than any records need"):
        list(read_records(packed))


def test_folders_are_found(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("results")
    made()[0].save(root / "runs")
    packed.rename(root / "kept")
    assert results_folders(root) == [root / "kept", root / "runs"]
    assert results_folders(root / "kept") == [root / "kept"]
