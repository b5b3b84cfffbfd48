"""Somebody's own data that change: other data never pass for those before, in any split, in one process or in two."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from datasets.__main__ import main
from datasets.core.errors import CacheError, LabelError, ManifestError, MissingMediaError
from datasets.core.manifest_file import MODALITY, outline
from datasets.manifest import RESERVED_NAMES, Manifest
from datasets.registry import fingerprints
from datasets.storage.cache import Cache
from tests.helpers.commands import run_here

SPLITS = ["train"] * 8 + ["val"] * 4 + ["test"] * 4


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("OGM_DATA", str(tmp_path / "raw"))
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))


def write_arrays(folder: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(len(SPLITS)):
        for m in "ab":
            np.save(folder / f"{m}{i}.npy", rng.normal(size=(3, 4)).astype(np.float32))


def write_csv(folder: Path, **columns: list[object]) -> Path:
    """One row per sample; ``columns`` replaces or adds some."""
    rows = {
        "id": [f"s{i}" for i in range(len(SPLITS))],
        "split": SPLITS,
        "label": ["xy"[i % 2] for i in range(len(SPLITS))],
        **{f"{m}:npy": [f"{m}{i}.npy" for i in range(len(SPLITS))] for m in "ab"},
    } | columns
    folder.mkdir(parents=True, exist_ok=True)
    lines = [",".join(rows), *(",".join(map(str, row)) for row in zip(*rows.values(), strict=True))]
    (folder / "own.csv").write_text("\n".join(lines) + "\n")
    return folder / "own.csv"


def own(folder: Path, seed: int = 0, **columns: list[object]) -> dict[str, str]:
    """A prepared set in ``folder``, and the arguments that ask for it."""
    write_arrays(folder, seed)
    args = {"path": str(write_csv(folder, **columns))}
    Manifest.prepare(progress=False, **args)
    return args


def right(args: dict[str, str], root: Path) -> bool:
    """Does every sample hold what lies in its files?"""
    return all(
        np.array_equal(split[i][m], np.load(root / f"{m}{name[1:]}.npy"))
        for split in Manifest.module(**args).splits().values()
        for i, name in enumerate(split.ids)
        for m in "ab"
    )


def words(args: dict[str, str]) -> set[str]:
    return set(fingerprints("manifest", args).values())


# ---- other content under the same names


def test_files_made_again_are_noticed_and_other_data(tmp_path):
    args = own(tmp_path / "a")
    before, module = words(args), Manifest.module(**args)
    assert right(args, tmp_path / "a")
    write_arrays(tmp_path / "a", 1)
    with pytest.raises(
        CacheError, match=r"manifest: the raw files of 16 of 16 \(s0, s1, s2, \.\.\.\) have changed"
    ) as e:
        Manifest.module(**args)
    assert f"`python -m datasets prepare manifest path={args['path']}`" in str(e.value) and "\n" not in str(e.value)
    Manifest.prepare(progress=False, **args)
    assert right(args, tmp_path / "a") and not before & words(args) and Manifest.module(**args) is not module
    write_arrays(tmp_path / "a", 0)
    Manifest.prepare(progress=False, **args)
    assert words(args) == before


def test_one_changed_file_is_named(tmp_path):
    args = own(tmp_path / "a")
    np.save(tmp_path / "a" / "b13.npy", np.zeros((3, 4), np.float32))
    with pytest.raises(CacheError, match=r"the raw files of 1 of 16 \(s13\) have changed"):
        Manifest.module(**args)


def test_two_folders_with_the_same_names_keep_apart(tmp_path):
    one, two, like_one = own(tmp_path / "a", 1), own(tmp_path / "b", 2), own(tmp_path / "c", 1)
    for _ in range(2):
        assert right(one, tmp_path / "a") and right(two, tmp_path / "b")
    assert len(words(one) | words(two)) == 6 and words(like_one) == words(one)


def test_two_roots_of_one_csv_keep_apart(tmp_path):
    path = own(tmp_path / "a", 1)["path"]
    write_arrays(tmp_path / "b", 2)
    one, two = {"path": path}, {"path": path, "root": str(tmp_path / "b")}
    Manifest.prepare(progress=False, **two)
    assert right(one, tmp_path / "a") and right(two, tmp_path / "b") and len(words(one) | words(two)) == 6


def test_what_is_gone_is_not_missed(tmp_path):
    args = own(tmp_path / "a")
    before = words(args)
    for path in (tmp_path / "a").glob("*.npy"):
        path.unlink()
    assert words(args) == before
    Manifest.prepare(progress=False, **args)  # there is nothing to prepare, and nothing wrong
    assert words(args) == before


@pytest.mark.parametrize(
    "columns",
    [
        {"label": ["xy"[i // 2 % 2] for i in range(16)]},
        {"split": [SPLITS[(i + 1) % 16] for i in range(16)]},
        {"id": [f"s{15 - i}" for i in range(16)]},
        {"group": [f"g{i}" for i in range(16)]},
        {"weight": [1 + i for i in range(16)]},
        {"start": [i / 10 for i in range(16)]},
        {"a:npy": [f"a{15 - i}.npy" for i in range(16)]},
    ],
    ids=lambda columns: next(iter(columns)),
)
def test_an_edited_csv_is_other_data_in_every_split_it_concerns(tmp_path, columns):
    args = own(tmp_path / "a")
    before = fingerprints("manifest", args)
    write_csv(tmp_path / "a", **columns)
    Manifest.prepare(progress=False, **args)
    after = fingerprints("manifest", args)
    assert all(before[part] != after[part] for part in before)


def test_another_order_of_classes_is_other_data(tmp_path):
    args = own(tmp_path / "a")
    before = words(args)
    (tmp_path / "a" / "classes.txt").write_text("y\nx\n")  # nothing is decoded for that
    assert not before & words(args)


def test_a_set_that_is_prepared_again_is_not_read_by_who_began_before(tmp_path):
    """A worker that is started anew opens the files by their names."""
    args = own(tmp_path / "a")
    sent = pickle.dumps(Manifest.module(**args).train)
    assert torch.equal(pickle.loads(sent)[0]["a"], Manifest.module(**args).train[0]["a"])  # noqa: S301 (our own bytes)
    write_arrays(tmp_path / "a", 1)
    Manifest.prepare(progress=False, **args)
    with pytest.raises(CacheError, match="was prepared again while it was in use; start this again"):
        pickle.loads(sent)  # noqa: S301


def test_a_set_of_an_older_format_is_made_again(tmp_path):
    args = own(tmp_path / "a")
    path = Manifest.folder(Manifest.options(args)) / "manifest.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(CacheError, match=r"prepared by another version of this project .* prepare manifest` again"):
        Manifest.module(**args)
    Manifest.prepare(progress=False, **args)
    assert right(args, tmp_path / "a")


def test_a_folder_under_another_name_is_refused(tmp_path):
    one, two = own(tmp_path / "a"), own(tmp_path / "b", id=[f"t{i}" for i in range(16)])
    source, target = (Manifest.folder(Manifest.options(args)) for args in (one, two))
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    assert Cache(target).keys[0] == "s0"
    with pytest.raises(CacheError, match="holds another preparation than its name says"):
        Manifest.module(**two)


# ---- through the command line


def test_a_run_refuses_data_that_changed_in_a_line(tmp_path):
    args = own(tmp_path / "a")
    write_arrays(tmp_path / "a", 1)
    words = [sys.executable, "-m", "benchmarks", "run", "dataset=manifest", f"dataset_args.path={args['path']}"]
    made = run_here([*words, "--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")])
    (line,) = made.stderr.strip().splitlines()
    assert made.returncode == 2 and "have changed since they were prepared: run `python -m datasets prepare" in line


def test_info_shows_the_card_where_there_is_no_csv(tmp_path, capsys):
    assert main(["info", "manifest"]) == 0
    out, err = capsys.readouterr()
    assert "Write a CSV that begins id,split,label" in out and "not prepared this way" in out and not err
    assert main(["info", "manifest", f"path={tmp_path / 'none.csv'}"]) == 2
    assert "none.csv: cannot be read" in capsys.readouterr().err
    args = own(tmp_path / "a")
    assert main(["info", "manifest", f"path={args['path']}"]) == 0
    assert "train: 8 of 8 (x 4, y 4)" in capsys.readouterr().out


# ---- refused before anything is decoded


def refused(name: str) -> bool:
    """By torch itself."""
    try:
        nn.ModuleDict({name: nn.Identity()})
        nn.ParameterDict({name: torch.zeros(1)})
    except KeyError:
        return True
    return False


def test_names_that_torch_refuses_are_refused_with_their_column(tmp_path):
    names = {"train", "keys", "type", "items", "a.b", "", "training", "forward", "T_destination", "copy"}
    assert all(map(refused, names))
    names |= set(filter(refused, {*dir(nn.ModuleDict()), *dir(nn.ParameterDict()), *vars(nn.ModuleDict())}))
    assert len(names) > 100
    for name in sorted(names | RESERVED_NAMES):
        path = write_csv(tmp_path / "a", **{f"{name}:npy": [f"a{i}.npy" for i in range(16)]})
        with pytest.raises(ManifestError, match=f"column {name}:npy: ") as error:
            Manifest.prepare(progress=False, path=str(path))
        assert "\n" not in str(error.value) and str(path) in str(error.value)
    for name in ("audio", "words", "trains", "Train", "x1", "key"):
        assert MODALITY.fullmatch(name) and not refused(name)
        write_arrays(tmp_path / "a", 0)
        path = write_csv(tmp_path / "a", **{f"{name}:npy": [f"a{i}.npy" for i in range(16)]})
        assert name in Manifest.module(**own_path(path)).train.modalities


def own_path(path: Path) -> dict[str, str]:
    Manifest.prepare(progress=False, path=str(path))
    return {"path": str(path)}


def test_a_folder_without_pictures_is_named_with_its_line(tmp_path):
    write_arrays(tmp_path / "a", 0)
    path = write_csv(tmp_path / "a", **{"c:frames": [f"c{i}" for i in range(16)]})
    for i in range(16):
        (tmp_path / "a" / f"c{i}").mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / "a" / f"c{i}" / ("notes.txt.png" if i != 5 else "x.gif"))
    with pytest.raises(MissingMediaError, match=r"1 files are not there: line 7, column c:frames: .*c5;"):
        Manifest.prepare(progress=False, path=str(path))


@pytest.mark.parametrize(
    ("columns", "kind", "says"),
    [
        ({"label": ["x"] * 16}, LabelError, "column label: every row of train has the label 'x'; at least two classes"),
        ({"weight": [0] * 8 + [1] * 8}, ManifestError, "column weight: 0 in every row of train"),
        ({"split": ["test"] * 16}, ManifestError, "no row of train; add some"),
        ({"split": ["train"] * 16}, ManifestError, "no row of test; add some"),
        ({"split": ["train", "train", *["test"] * 14]}, ManifestError, "two rows of train, so none can be val"),
        ({"label": ["x"] * 8 + ["y"] * 8}, LabelError, "'y' is no class of train"),
    ],
)  # fmt: skip
def test_data_that_nothing_can_be_learned_from_are_refused_at_prepare(tmp_path, columns, kind, says):
    write_arrays(tmp_path / "a", 0)
    path = write_csv(tmp_path / "a", **columns)
    with pytest.raises(kind, match=says) as error:
        Manifest.prepare(progress=False, path=str(path))
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    assert not list((tmp_path / "cache").glob("manifest/*"))


def test_a_csv_without_an_end_is_not_read() -> None:
    with pytest.raises(ManifestError, match="/dev/zero: no file; say path="):
        outline(Path("/dev/zero"))
