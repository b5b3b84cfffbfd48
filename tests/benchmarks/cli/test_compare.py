"""Results folders: a comparison has one of its own, another one's is not written over, and reuse is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.__main__ import read as read_command
from benchmarks.config.suite import competing, names
from benchmarks.records.record import RunRecord
from benchmarks.records.suite_file import Comparison, Recipe, read
from tests.helpers.commands import SMALL, command, run_here

REFERENCE = Path("results") / "reference"
WORDS = [*SMALL, "epochs=1"]


def compare(folder: Path, *words: str) -> int:
    return main(["compare", *WORDS, *words, "--jobs", "1", "--results", str(folder / "r"), "--work", str(folder / "w")])


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    assert compare(folder, "methods=vanilla,ogm", "seeds=1") == 0
    return folder


def test_no_command_writes_into_the_reference_by_itself() -> None:
    folders = [Recipe(name=n, datasets=[], quick=quick).folder() for n in names() for quick in (False, True)]
    folders += [Comparison(given=g, methods=["vanilla"], seeds=1).folder() for g in ({}, {"dataset": "avmnist"})]
    for words in (["run"], ["grid"], ["compare"], ["reproduce"]):
        given = read_command(words)
        folders += [given.results] if given.results else []
    assert len(folders) == 2 * len(names()) + 4
    assert not [folder for folder in folders if folder == REFERENCE or REFERENCE in folder.parents]


def test_a_comparisons_folder_is_its_own() -> None:
    def folder(given: dict[str, object], methods: list[str], seeds: int = 3) -> Path:
        return Comparison(given=given, methods=methods, seeds=seeds).folder()

    plain = folder({}, ["vanilla", "ogm"])
    assert plain.parent == Path("results/compare") and plain.name.startswith("synthav-concat-")
    assert (
        plain
        == folder({"dataset": "synthav", "fusion": "concat"}, ["vanilla", "ogm"])
        == folder({}, ["vanilla", "ogm"], 9)
    )
    assert folder({"encoder_args.audio.widths": [8]}, ["vanilla"]) == folder(
        {"encoder_args": {"audio": {"widths": [8]}}}, ["vanilla"]
    )
    others = [
        folder({"lr": 0.1}, ["vanilla", "ogm"]),
        folder({}, ["vanilla"]),
        folder({"fusion": "film"}, ["vanilla", "ogm"]),
    ]
    assert len({plain, *others}) == 4


def test_another_comparison_is_refused_and_leaves_everything(
    compared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(compared / "r")
    for words in (["methods=vanilla,ogm_ge"], ["methods=vanilla,ogm", "lr=0.1"]):
        capsys.readouterr()
        assert compare(compared, *words, "seeds=1") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert str(compared / "r") in line and "--overwrite" in line
    assert main(["reproduce", "--datasets", "synthav", "--results", str(compared / "r")]) == 2
    assert files(compared / "r") == before


def test_more_seeds_go_on_and_fewer_lose_nothing(
    compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(compared, tmp_path, dirs_exist_ok=True)
    assert compare(tmp_path, "methods=vanilla,ogm", "seeds=2") == 0
    out = capsys.readouterr().out
    record = RunRecord.load(next((tmp_path / "r" / "records").rglob("*.json")))
    origin = f"({record.provenance['device']}, commit {record.provenance['commit'][:12]})"
    assert f"2 of 4 runs are already recorded {origin}: reused" in out
    tables = files(tmp_path / "r" / "tables")
    assert compare(tmp_path, "methods=vanilla,ogm", "seeds=1") == 0
    assert "2 of 2 runs are already recorded" in capsys.readouterr().out
    assert files(tmp_path / "r" / "tables") == tables and b"2/2" in (tmp_path / "r" / "README.md").read_bytes()


def test_overwrite_replaces_tables_and_keeps_records(compared: Path, tmp_path: Path) -> None:
    shutil.copytree(compared, tmp_path, dirs_exist_ok=True)
    (tmp_path / "r" / "tables" / "of-another-suite.md").write_text("old")
    before = files(tmp_path / "r" / "records")
    assert compare(tmp_path, "methods=vanilla", "seeds=1", "--overwrite") == 0
    assert not (tmp_path / "r" / "tables" / "of-another-suite.md").exists()
    assert files(tmp_path / "r" / "records") == before
    made = read(tmp_path / "r")
    assert made is not None and made.made_from["compare"]["methods"] == ["vanilla"]
    assert [row.label for row in made.suite.tables[0].rows] == ["vanilla"]


def test_a_run_that_is_recorded_says_so(compared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *WORDS, "--results", str(compared / "r"), "--work", str(compared / "w")]) == 0
    assert "1 of 1 runs are already recorded" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["method=ogm", "seed=3"])
def test_settings_that_a_comparison_would_ignore_are_refused(
    word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(tmp_path, "methods=vanilla", word) == 2
    assert f"{word.partition('=')[0]}: a comparison is given" in capsys.readouterr().err


def test_a_dataset_that_a_suite_does_not_have_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--datasets", "synthav,avmnits"]) == 2
    assert "has nothing on avmnits" in capsys.readouterr().err


# ---- one's own data


def own_data(folder: Path) -> Path:
    """Samples of two modalities as arrays, and the list of them."""
    rng = np.random.default_rng(0)
    lines = ["id,split,label,touch:npy,smell:npy"]
    for i in range(36):
        for m in ("touch", "smell"):
            np.save(folder / f"{m}{i}.npy", rng.normal(i % 2, 1, 6).astype(np.float32))
        lines.append(f"{i},{('train', 'train', 'val', 'test')[i // 2 % 4]},{'ab'[i % 2]},touch{i}.npy,smell{i}.npy")
    (folder / "own.csv").write_text("\n".join(lines) + "\n")
    return folder / "own.csv"


METHODS = [["vanilla,unimodal"], pytest.param(["all"], marks=pytest.mark.long)]


@pytest.mark.parametrize("methods", METHODS)
def test_methods_are_compared_on_ones_own_data(
    methods: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    path = own_data(tmp_path)
    words = [
        f"methods={methods[0]}",
        "dataset=manifest",
        f"dataset_args.path={path}",
        "epochs=1",
        "batch_size=4",
        "seeds=1",
    ]
    words = [w for w in command("compare", *words, folder=tmp_path) if w not in SMALL]
    made = run_here([*words, "--jobs", "1"])
    assert made.returncode == 0, made.stderr
    made = read(tmp_path / "results")
    assert made is not None
    labels = [row.label for row in made.suite.tables[0].rows]
    assert {"touch only", "smell only", "vanilla"} <= set(labels)
    if methods == ["all"]:
        assert len(labels) == len(competing(["all"])) + 1
    table = (tmp_path / "results" / "tables" / "compare-manifest.csv").read_text()
    assert all(f"{label}," in table for label in labels)
    assert made.made_from["compare"]["given"]["dataset"] == "manifest"


def test_ones_own_data_are_split_anew_for_each_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    path = own_data(tmp_path)
    rows = [line.split(",") for line in path.read_text().splitlines()]
    groups = ["group", *(f"speaker {i // 4}" for i in range(36))]
    path.write_text(
        "".join(",".join([a, group, *rest]) + "\n" for (a, _, *rest), group in zip(rows, groups, strict=True))
    )
    words = ["methods=vanilla,ogm_ge", "dataset=manifest", f"dataset_args.path={path}", "dataset_args.folds=3"]
    words = command("compare", *words, "epochs=1", "batch_size=4", "seeds=6", folder=tmp_path)
    made = run_here([*(w for w in words if w not in SMALL), "--jobs", "1"])
    assert made.returncode == 0, made.stderr
    (table,) = (tmp_path / "results" / "tables").glob("*.md")
    text = table.read_text()
    assert "a split of one data set (fold, split_seed); there are 6" in text
    assert "Nadeau and Bengio" in text and "6/6" in text
    words[words.index("dataset_args.folds=3")] = "dataset_args.folds=30"
    refused = run_here([*(w for w in words if w not in SMALL), "--jobs", "1"])
    assert refused.returncode == 2 and "9 groups, but folds=30 takes at least 30" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
