"""CG-MNIST: what colour tells, and where; the same draws everywhere; an epoch."""

import numpy as np
import pytest
import torch

from benchmarks.config.run_config import configure
from benchmarks.runner.build import build
from benchmarks.runner.experiment import resolve
from datasets.cg_mnist import CGMNIST, COLORS, tints
from datasets.core.errors import DataError
from tests.helpers import clips
from tests.helpers.media import write_idx
from tests.helpers.shared_media import shared


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Squares whose grey tells the digit, in MNIST's format."""
    monkeypatch.setenv("OGM_DATA", str(tmp_path))
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for source, n in (("train", 240), ("t10k", 60)):
        labels = rng.permutation(n) % 10
        pixels = np.zeros((n, 28, 28))
        pixels[:, 8:20, 8:20] = (25 * labels + 20)[:, None, None]
        write_idx(tmp_path / f"cg_mnist/mnist/{source}-images-idx3-ubyte.gz", pixels)
        write_idx(tmp_path / f"cg_mnist/mnist/{source}-labels-idx1-ubyte", labels)
    CGMNIST.prepare(progress=False, allow_unpinned=True)
    return tmp_path


def module(**args):
    return CGMNIST.module(allow_unpinned=True, **args).splits()


def seen_color(dataset) -> torch.Tensor:
    """(N,) the class whose colour is nearest to a picture's."""
    std = torch.tensor((0.2023, 0.1994, 0.2010))
    gray = (dataset.batch(range(len(dataset))).inputs["gray"] * 0.3081 + 0.1307)[:, 0, 14, 14, None]
    color = dataset.batch(range(len(dataset))).inputs["color"][:, :, 14, 14] * std
    color = (color + torch.tensor((0.4914, 0.4822, 0.4465))) / gray
    return torch.cdist(color, torch.from_numpy(COLORS)).argmin(1)


def test_color_tells_the_class_in_training_alone(small):
    splits = module(color_variance=0.005)
    assert [len(s) for s in splits.values()] == [220, 20, 60]
    right = {name: float((seen_color(s) == torch.tensor(s.labels)).float().mean()) for name, s in splits.items()}
    assert right["train"] > 0.95 and right["val"] < 0.4 and right["test"] < 0.3
    jitter = module(color_variance=0)["train"]
    assert torch.equal(jitter.tints, torch.from_numpy(COLORS)[torch.tensor(jitter.labels)])


def test_samples_are_what_the_module_says(small):
    splits = module()
    train, val = splits["train"], splits["val"]
    item = train[5]
    assert item["gray"].shape == (1, 28, 28) and item["color"].shape == (3, 28, 28)
    assert not set(train.ids) & set(val.ids) and len({*train.ids, *val.ids}) == 240
    gray = item["gray"] * 0.3081 + 0.1307
    expected = (
        gray * train.tints[5][:, None, None] - torch.tensor((0.4914, 0.4822, 0.4465)).view(3, 1, 1)
    ) / torch.tensor((0.2023, 0.1994, 0.2010)).view(3, 1, 1)
    torch.testing.assert_close(item["color"], expected)
    batch = train.batch([9, 5])
    assert torch.equal(batch.inputs["color"][1], item["color"]) and batch.label.tolist() == [
        train.labels[9],
        item["label"],
    ]
    assert splits["test"].ids[:2] == ["t10k0", "t10k1"]


def test_draws_are_a_function_of_the_seed(small):
    one, two = module()["train"], module(data_seed=1)["train"]
    assert not torch.equal(one.tints, two.tints) and one.fingerprint != two.fingerprint
    digits = torch.arange(10).repeat(3)
    assert torch.equal(tints(digits, 0.03, 7, True), tints(digits, 0.03, 7, True))
    assert torch.equal(tints(digits, 0.03, 7, True)[:5].clamp(0, 1), tints(digits, 0.03, 7, True)[:5])


def test_it_trains_and_damage_is_named(small):
    config = configure({"dataset": "cg_mnist", "method": "ogm", "dataset_args.allow_unpinned": True, "batch_size": 32})
    engine = build(resolve(config), device="cpu")
    engine.train_epoch()
    assert all(p.isfinite().all() for p in engine.parameters)
    with pytest.raises(DataError, match=r"(?s)not the published file|missing"):
        CGMNIST.prepare(progress=False)
    (small / "cg_mnist/mnist/t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="python -m datasets download"):
        CGMNIST.prepare(progress=False, allow_unpinned=True)


def test_the_real_files(tmp_path, monkeypatch):
    (tmp_path / "cg_mnist").mkdir()
    (tmp_path / "cg_mnist" / "mnist").symlink_to(shared("data", "avmnist", "mnist"))
    monkeypatch.setenv("OGM_DATA", str(tmp_path))
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    CGMNIST.prepare(progress=False)
    splits = CGMNIST.module().splits()
    assert [len(s) for s in splits.values()] == [55_000, 5000, 10_000]
    assert splits["test"].report.per_class["1"] == 1135
    gray = splits["train"].batch(range(0, 55_000, 11)).inputs["gray"]
    assert abs(float(gray.mean())) < 0.02 and abs(float(gray.std()) - 1) < 0.02


def test_another_file_of_the_same_size_is_noticed(small):
    clips.notices_changed_files(
        CGMNIST, {"allow_unpinned": True}, small / "cg_mnist" / "mnist" / "t10k-labels-idx1-ubyte"
    )
