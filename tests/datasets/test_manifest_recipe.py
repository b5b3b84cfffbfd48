"""How long somebody's own data is trained: by the number of rows, known from the CSV alone."""

import numpy as np
import pytest

from benchmarks.config.run_config import ConfigError, configure
from datasets.core.errors import DataError, ManifestError
from datasets.core.manifest_file import LARGEST
from datasets.core.recipes import SMALL, small_for
from datasets.manifest import Manifest


def write_csv(folder, train: int, val: int = 0, test: int = 10, header: str = "id,split,label,group,x:npy,y:npy"):
    parts = ["train"] * train + ["val"] * val + ["test"] * test
    rows = [f"{i},{part},{'ab'[i % 2]},g{i},{i}.npy,{i}.npy" for i, part in enumerate(parts)]
    (folder / "own.csv").write_text("\n".join([header, *rows]) + "\n")
    return str(folder / "own.csv")


@pytest.mark.parametrize(
    ("samples", "batch", "epochs"),
    [(576, 64, 60), (639, 64, 60), (640, 64, 54), (1727, 64, 21), (1728, 64, 20), (100_000, 64, 20), (256, 64, 135),
     (255, 32, 78), (128, 32, 135), (100, 16, 90), (40, 8, 108), (20, 8, 200), (3, 8, 200), (0, 8, 200)],
)  # fmt: skip
def test_steps_decide_and_large_sets_keep_what_they_had(samples, batch, epochs):
    assert small_for(samples) == {**SMALL, "batch_size": batch, "epochs": epochs}


@pytest.mark.parametrize(
    ("rows", "args", "samples"),
    [
        ({"train": 640}, {}, 576),
        ({"train": 576, "val": 64}, {}, 576),
        ({"train": 790}, {"folds": 5}, 576),  # of 800 rows
        ({"train": 790}, {"folds": 5, "fold": 4, "split_seed": 3}, 576),
    ],
)
def test_the_number_of_samples_is_the_csv_s(tmp_path, rows, args, samples):
    args = {"path": write_csv(tmp_path, **rows), **args}
    config = configure({"dataset": "manifest", "dataset_args": args})
    assert (
        (config.epochs, config.batch_size) == (60, 64) == tuple(small_for(samples)[k] for k in ("epochs", "batch_size"))
    )
    assert config.encoders == {"x": "mlp", "y": "mlp"}


def test_what_is_given_wins_and_what_changes_is_another_run(tmp_path):
    given = {"dataset": "manifest", "dataset_args.path": write_csv(tmp_path, 64)}
    found = configure(given)
    assert (found.epochs, found.batch_size) == (78, 8)
    chosen = configure({**given, "epochs": 7, "batch_size": 4})
    assert (chosen.epochs, chosen.batch_size) == (7, 4) and chosen.key != found.key
    write_csv(tmp_path, 640)
    assert configure(given).epochs == 60 and configure(given).key != found.key


def test_it_agrees_with_the_samples_that_train(tmp_path, monkeypatch):
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    path = write_csv(tmp_path, 60)
    for i in range(70):
        np.save(tmp_path / f"{i}.npy", np.full(2, i))
    for args, samples in (({}, 54), ({"folds": 7}, 54)):
        Manifest.prepare(progress=False, path=path, **args)
        assert len(Manifest.module(path=path, **args).train) == samples
        assert Manifest.recipe_for({"path": path, **args})["epochs"] == small_for(samples)["epochs"]


def test_rows_that_are_wrong_are_left_to_whoever_reads_them(tmp_path):
    path = write_csv(tmp_path, 64)
    with (tmp_path / "own.csv").open("a") as file:
        file.write("70,tset,a,g,1.npy,1.npy\n71\n,,,,,\n")
    assert configure({"dataset": "manifest", "dataset_args.path": path}).epochs == 78
    for folds in (0, 1, "x", [5]):  # refused with the other options of the dataset
        configure({"dataset": "manifest", "dataset_args": {"path": path, "folds": folds}})
        with pytest.raises(DataError, match="folds="):
            Manifest.options({"path": path, "folds": folds})


def test_no_list_and_no_mapping_are_one_line(tmp_path):
    with pytest.raises(ManifestError, match="cannot be read"):
        configure({"dataset": "manifest", "dataset_args.path": str(tmp_path / "no.csv")})
    with pytest.raises(ManifestError, match="no file; say path="):
        configure({"dataset": "manifest", "dataset_args.path": "/dev/zero"})
    with pytest.raises(ConfigError, match="dataset_args=3"):
        configure({"dataset": "manifest", "dataset_args": 3})
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(LARGEST + 1)  # takes no room on the disk
    with pytest.raises(ManifestError, match="more than 512 MB"):
        configure({"dataset": "manifest", "dataset_args.path": str(tmp_path / "large.csv")})
