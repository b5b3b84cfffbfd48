"""Somebody's own data split again and again by the column group: whole groups, one decoding, mistakes in one line."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks.config.run_config import configure
from benchmarks.runner.build import build
from benchmarks.runner.experiment import resolve
from datasets.core.base import DataModule
from datasets.core.errors import DataError, LabelError, ManifestError
from datasets.manifest import Manifest

HEADER = "id,group,label,a:npy,b:npy\n"
ROWS = [f"{i},speaker {i % 6},{'xyx'[i // 6 % 3]},{i}.npy,{i}.npy\n" for i in range(36)]  # 6 speakers with 6 samples


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CSV with a group in each row and no column split, beside its arrays."""
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    for i in range(36):
        np.save(tmp_path / f"{i}.npy", np.full(3, i, np.float32))
    return written(tmp_path / "own.csv", HEADER, ROWS)


def written(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text(header + "".join(rows))
    return path


def module(path: Path, **args: int) -> DataModule:
    Manifest.prepare(progress=False, path=str(path), **args)
    return Manifest.module(path=str(path), **args)


def ids(found: DataModule) -> dict[str, set[str]]:
    return {name: set(part.ids) for name, part in found.splits().items()}


def test_each_fold_tests_other_speakers(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module(own, folds=3)
    monkeypatch.setattr("datasets.manifest.decode_cell", lambda *a: pytest.fail("decoded again"))
    folds = [module(own, folds=3, fold=fold, split_seed=1) for fold in range(3)]
    assert sorted(i for found in folds for i in found.test.ids) == sorted(str(i) for i in range(36))
    for found in folds:
        speakers = [{int(i) % 6 for i in part.ids} for part in found.splits().values()]
        assert [len(s) for s in speakers] == [3, 1, 2] and set.union(*speakers) == set(range(6))
        assert found.train.report.notes == {"val_carved": 6} and "groups_also_in_train" not in found.test.report.notes
        assert all(part.report.per_class["x"] == 2 * part.report.per_class["y"] for part in found.splits().values())
    other = module(own, folds=3, fold=0, split_seed=2)
    assert len({found.test.fingerprint for found in [*folds, other]}) == 4


def test_the_order_of_rows_does_not_matter(own: Path) -> None:
    before = ids(module(own, folds=3, fold=1))
    written(own, HEADER, random.Random(0).sample(ROWS, len(ROWS)))
    assert ids(module(own, folds=3, fold=1)) == before


def test_a_column_split_is_left_alone_and_said_not_to_be_read(own: Path) -> None:
    before = ids(module(own, folds=3))
    parts = [f"{('train', 'val', 'test')[i % 3]},{row}" for i, row in enumerate(ROWS)]
    written(own, f"split,{HEADER}", parts)
    found = module(own, folds=3)
    assert ids(found) == before and found.train.report.notes["list_extra_columns"] == 1
    theirs = module(own)
    assert set(theirs.val.ids) == {str(i) for i in range(1, 36, 3)}
    assert not {"folds", "fold", "split_seed"} & set(theirs.train.recipe)


def test_it_trains(own: Path) -> None:
    args = {"path": str(own), "folds": 3, "fold": 2}
    Manifest.prepare(progress=False, **args)
    config = configure({"dataset": "manifest", "dataset_args": args, "batch_size": 6})
    engine = build(resolve(config), device="cpu")
    engine.train_epoch()
    assert all(p.isfinite().all() for p in engine.parameters)


WRONG = [
    (HEADER.replace("group", "speaker"), ROWS, {}, ManifestError, "line 1: no column group; begin like id,group,label"),
    (HEADER, [row.replace("speaker 3", "") for row in ROWS], {}, ManifestError, "line 5, column group: empty; fill it"),
    (
        HEADER,
        [ROWS[i] for i in (0, 1, 6, 7)],
        {},
        DataError,
        "column group: 2 groups, but folds=3 takes at least 3; make folds smaller",
    ),
    (HEADER, [*ROWS[:6], ROWS[6].replace(",x,", ",z,").replace(",y,", ",z,")], {}, LabelError, "no sample of z left"),
    (HEADER, ROWS, {"fold": 3}, DataError, "manifest: fold=3: with folds=3 there are 0 to 2"),
    (HEADER, ROWS, {"fold": 1, "folds": None}, DataError, "manifest: fold and split_seed belong to folds=NUMBER"),
]


@pytest.mark.parametrize(("header", "rows", "args", "kind", "says"), WRONG, ids=lambda value: str(value)[:20])
def test_mistakes_are_one_line(
    header: str, rows: list[str], args: dict[str, int], kind: type[DataError], says: str, own: Path
) -> None:
    written(own, header, rows)
    with pytest.raises(kind) as error:
        for fold in range(3):
            module(own, **{"folds": 3, "fold": fold, **args})
    assert says in str(error.value) and "\n" not in str(error.value)
