"""What runs leave for others: made once, by the result and with the data it is taken for, however many share it."""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.config.run_config import RunConfig, configure, parse
from benchmarks.records.record import RunRecord, write_whole
from benchmarks.runner.checkpoint import CorruptFileError, load_checked, save_checked
from benchmarks.runner.environment import OtherDataError, RunEnvironment
from benchmarks.runner.events import EpochEnded, Event
from benchmarks.runner.experiment import resolve
from benchmarks.runner.run import run
from tests.helpers.commands import FORKSERVER, SMALL, command, records
from tests.helpers.own_data import manifest

ON_TEACHERS = ("umt", "ume", "g2d", "kd_strong_to_weak")


def config(*settings: str) -> RunConfig:
    return configure(parse([*SMALL, "epochs=5", *settings]))


def audio() -> RunConfig:
    """A teacher of those methods."""
    return config("method=unimodal", "method_args.modality=audio")


def place(folder: Path, **more: Any) -> RunEnvironment:
    return RunEnvironment(folder / "results", folder / "work", **more)


def make_all(folder: Path, trained: Any = None) -> None:
    """Every method with teachers, in one process; ``trained`` gets the key and the number of each epoch trained."""
    torch.set_num_threads(1)

    def note_epoch(event: Event) -> None:
        if isinstance(event, EpochEnded) and trained is not None:
            trained.put((event.key, event.epoch))

    for method in ON_TEACHERS:
        run(config(f"method={method}"), place(folder), on_event=note_epoch)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("alone")
    make_all(folder)
    return records(folder)


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.long)])
def test_processes_that_share_folders_make_each_run_once(
    processes: int, tmp_path: Path, alone: list[dict[str, Any]]
) -> None:
    trained = FORKSERVER.Queue()
    team = [FORKSERVER.Process(target=make_all, args=(tmp_path, trained)) for _ in range(processes)]
    for process in team:
        process.start()
    seen: Counter[tuple[str, int]] = Counter(
        trained.get(timeout=200) for _ in range(2 * 5 + 3 * 5)
    )  # ume has no epochs
    for process in team:
        process.join(200)
        assert process.exitcode == 0
    assert trained.empty() and set(seen.values()) == {1}
    assert records(tmp_path) == alone
    assert not list(tmp_path.rglob("*.part")) and not list(tmp_path.rglob("checkpoint.pt"))


# ---- exports
def test_an_ordinary_run_leaves_what_others_build_on(tmp_path: Path) -> None:
    made = run(audio(), place(tmp_path), export=True)
    path = place(tmp_path).export_path(resolve(audio()), made)
    before = path.stat().st_mtime_ns
    made.path(tmp_path / "results").unlink()
    again = run(audio(), place(tmp_path))
    assert again.result_digest == made.result_digest and path.stat().st_mtime_ns == before


def test_weights_asked_for_later_leave_the_record_as_it_is(tmp_path: Path) -> None:
    first = run(audio(), place(tmp_path))
    path = first.path(tmp_path / "results")
    before = path.read_bytes()
    assert not list(tmp_path.rglob("*.pt"))
    assert run(audio(), place(tmp_path), export=True).result_digest == first.result_digest
    assert path.read_bytes() == before and place(tmp_path).export_path(resolve(audio()), first).exists()


def test_weights_of_another_result_are_not_used(tmp_path: Path) -> None:
    """A second results folder whose record says another result, as one from another machine would."""
    made = run(audio(), place(tmp_path), export=True)
    foreign = RunEnvironment(tmp_path / "foreign", tmp_path / "work")
    probe = {"audio": (made.probe["audio"] + 0.5) % 1}
    other = replace(made, probe=probe, provenance={**made.provenance, "device": "another machine"})
    path = other.save(foreign.results)
    assert foreign.finished(resolve(audio())) and not foreign.finished(resolve(audio()), export=True)
    before = path.read_bytes()
    with pytest.raises(CorruptFileError, match=r"came out differently .*another machine.*--overwrite"):
        run(config("method=umt"), foreign)
    assert path.read_bytes() == before
    save_checked(
        load_checked(place(tmp_path).export_path(resolve(audio()), made), torch.device("cpu")),
        foreign.export_path(resolve(audio()), other),
    )
    with pytest.raises(CorruptFileError, match="was not made by the run"):
        run(config("method=umt"), foreign)
    foreign.export_path(resolve(audio()), other).unlink()
    student = run(config("method=umt"), RunEnvironment(tmp_path / "foreign", tmp_path / "work", overwrite=True))
    assert student.status == "done" and RunRecord.load(path).result_digest == made.result_digest
    assert student.result_digest == run(config("method=umt"), place(tmp_path)).result_digest


def test_a_digest_is_that_of_the_file(tmp_path: Path) -> None:
    made = run(audio(), place(tmp_path))
    read = RunRecord.load(made.path(tmp_path / "results"))
    assert read.result_digest == made.result_digest
    elsewhere = RunRecord(**{**vars(read), "cost": {}, "provenance": {}})
    assert elsewhere.result_digest == read.result_digest
    for part in ("config", "selected", "test", "probe", "curves", "data", "status"):
        assert RunRecord(**{**vars(read), part: {}}).result_digest != read.result_digest


# ---- data
@pytest.mark.parametrize("verb", ["run", pytest.param("grid", marks=pytest.mark.long)])
def test_a_record_made_with_other_data_is_refused(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = command(verb, "epochs=1", folder=tmp_path)[3:]
    assert main(argv) == 0
    (path,) = (tmp_path / "results").rglob("*.json")
    made = RunRecord.load(path)
    today = made.data["fingerprint"]
    other = {**made.data, "fingerprint": {**today, "val": "0123456789ab"}}
    replace(made, data=other).save(tmp_path / "results")
    before = path.read_bytes()
    capsys.readouterr()
    assert main(argv) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert str(path) in line and "0123456789ab" in line and today["val"] in line
    assert "--results" in line and "--overwrite" in line and path.read_bytes() == before
    assert main([*argv, "--overwrite"]) == 0 and main(argv) == 0
    assert RunRecord.load(path).data["fingerprint"] == today


def test_other_labels_are_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the record nor the checkpoint of a run that was stopped is used after the labels have changed."""
    from datasets.registry import prepare

    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    runs = {}
    for name, labels in {"before": "aabbb", "after": "abbab"}.items():
        (tmp_path / name).mkdir()
        one = manifest(tmp_path, labels)
        prepare(one.dataset, one.dataset_args)
        runs[name] = run(one, place(tmp_path / name))
    assert runs["before"].result_digest != runs["after"].result_digest

    def stop(event: Event) -> None:
        if isinstance(event, EpochEnded) and event.epoch == 2:
            raise KeyboardInterrupt

    for labels in ("aabbb", "abbab"):
        one = manifest(tmp_path, labels)
        prepare(one.dataset, one.dataset_args)
        with pytest.raises(KeyboardInterrupt):
            run(one, place(tmp_path), on_event=stop)
    assert len(list((tmp_path / "work").rglob("checkpoint.pt"))) == 2
    assert run(one, place(tmp_path)).result_digest == runs["after"].result_digest
    one = manifest(tmp_path, "aabbb")
    prepare(one.dataset, one.dataset_args)
    with pytest.raises(OtherDataError, match="was made with other data"):
        run(one, place(tmp_path))
    again = run(one, place(tmp_path, overwrite=True))
    assert again.result_digest == runs["before"].result_digest


def test_what_a_killed_writer_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    being_written = tmp_path / "a.json.0.part"
    left, other = tmp_path / "a.json.1.part", tmp_path / "b.json.0.part"
    for part in (left, other, being_written):
        part.write_text("half")
    with being_written.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_whole(tmp_path / "a.json", "whole")
        assert sorted(tmp_path.glob("*.part")) == [being_written, other]
    write_whole(tmp_path / "a.json", "whole")
    assert list(tmp_path.glob("*.part")) == [other] and (tmp_path / "a.json").read_text() == "whole"


def write_often(path: Path, letter: str, count: int) -> None:
    for _ in range(count):
        write_whole(path, letter * 1000)


def test_writers_of_one_file_do_not_take_each_others_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    writers = [FORKSERVER.Process(target=write_often, args=(path, letter, 300)) for letter in "abcd"]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            seen.add(path.read_text())
    assert [writer.exitcode for writer in writers] == [0] * len(writers)
    assert seen <= {letter * 1000 for letter in "abcd"} and list(tmp_path.iterdir()) == [path]


def test_a_file_is_written_without_a_look_at_the_others_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grid of 100,000 runs leaves as many files in a few folders."""
    for name in ("listdir", "scandir"):
        monkeypatch.delattr(os, name)
    write_whole(tmp_path / "a.json", "whole")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
