"""Batches are functions of (seed, epoch, index): workers, ranks, batch sizes and the device change nothing."""

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.speed import loading
from datasets.core.loader import Loader
from datasets.manifest import Manifest
from ogm.seeds import fold_in
from ogm.types import Batch, EpochSampling
from tests.helpers.media import tone, write_clip, write_wav

ROOT = Path(__file__).parents[3]
SAMPLES = 22  # of train: uneven batches and ranks
LITTLE = {"image_size": 24, "seconds": 0.3}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Films of seven to nine frames with sound and a few numbers, some of them missing; prepared."""
    folder = tmp_path_factory.mktemp("loading")
    rows = ["id,split,label,weight,visual:video,audio:audio,words:npy"]
    for film in range(3):
        write_clip(folder / f"{film}.avi", 7.0 + film, size=(64, 48), rate=4)
        write_wav(folder / f"{film}.wav", tone(0.4, 16_000, 300 + 100 * film))
    for i in range(SAMPLES + 4):
        np.save(folder / f"{i}.npy", np.full((2, 3), i, np.float32))
        part = "train" if i < SAMPLES else "val" if i < SAMPLES + 2 else "test"
        sound = "" if i % 5 == 3 else f"{i % 3}.wav"
        rows.append(f"{i},{part},{'ab'[i % 2]},{1 + i % 3},{i % 3}.avi,{sound},{i}.npy")
    (folder / "own.csv").write_text("\n".join(rows) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OGM_CACHE", str(folder / "cache"))
        Manifest.prepare(progress=False, **args(folder))
        yield folder


def args(folder: Path, **more: object) -> dict[str, object]:
    return {**LITTLE, "path": str(folder / "own.csv"), "allow_missing": True, **more}


def train(folder: Path, **more: object) -> Manifest:
    return Manifest.module(**args(folder, **more)).train


def by_sample(batches: list[Batch]) -> dict[int, dict[str, torch.Tensor]]:
    return {
        int(i): {**{m: x[row] for m, x in b.inputs.items()}, **{f"{m} there": x[row] for m, x in b.present.items()}}
        for b in batches
        for row, i in enumerate(b.index)
    }


def assert_same(a: dict[int, dict[str, torch.Tensor]], b: dict[int, dict[str, torch.Tensor]]) -> None:
    assert a.keys() == b.keys()
    for i in a:
        for name, x in a[i].items():
            assert torch.equal(x, b[i][name]), (i, name)


@pytest.mark.parametrize("augment", ["batched", "parity"])
def test_workers_and_batch_sizes_change_nothing(written, augment):
    data = train(written, picks=2, augment=augment)

    def epoch(**how):
        return list(Loader(data, **{"batch_size": 5, "seed": 4, "drop_last": False, **how}).epoch(3))

    one = epoch()
    assert [len(b) for b in one] == [5, 5, 5, 5, 2] and one[0].global_size == 5
    for other in (epoch(workers=2), epoch()):
        assert [b.index.tolist() for b in other] == [b.index.tolist() for b in one]
        assert all(torch.equal(a.weight, b.weight) for a, b in zip(one, other, strict=True))
        assert_same(by_sample(one), by_sample(other))
    assert_same(by_sample(one), by_sample(epoch(batch_size=22)))


def test_order_augmentation_and_frames_differ_between_seeds_and_epochs(written):
    data = train(written, picks=2)
    epochs = [
        list(Loader(data, batch_size=22, seed=seed).epoch(number)) for seed, number in ((1, 0), (1, 1), (2, 0), (1, 0))
    ]
    order = [b[0].index.tolist() for b in epochs]
    assert order[0] == order[3] and order[0] != order[1] and order[0] != order[2] and order[1] != order[2]
    seen = [by_sample(b) for b in epochs]
    assert_same(seen[0], seen[3])
    for other in seen[1:3]:
        assert all(not torch.equal(seen[0][i]["visual"], other[i]["visual"]) for i in range(SAMPLES))
        assert all(torch.equal(seen[0][i]["words"], other[i]["words"]) for i in range(SAMPLES))
    i = order[0][5]  # the place in the epoch is the sample's number: nothing else is drawn from
    assert torch.equal(seen[0][i]["visual"], data[i, fold_in(1, "augment", 0, i)]["visual"])


def test_frames_are_drawn_from_the_whole_film(written):
    data = train(written, picks=2, augment="none")
    assert not data.static
    seen = {tuple(data[2, seed]["visual"].mean((0, 2, 3)).tolist()) for seed in range(60)}
    assert 10 < len(seen) <= 16  # nine frames: two of four times four


def test_a_batch_is_its_samples_stacked(written):
    for augment in ("batched", "parity", "none"):
        data = train(written, picks=2, augment=augment)
        keys = [(3, 11), (20, 12), (7, 13)]
        batch = data.augment(data.batch(keys), [11, 12, 13])
        plain = data.batch([3, 20, 7])
        for row, (i, seed) in enumerate(keys):
            for m in data.modalities:
                assert torch.equal(batch.inputs[m][row], data[i, seed][m])
                assert torch.equal(plain.inputs[m][row], data[i][m])
        assert plain.label.tolist() == [1, 0, 1] and plain.index.tolist() == [3, 20, 7]


# ---- on the device


def test_a_small_set_lies_on_the_device_and_gives_the_same_bits(written, monkeypatch):
    data = train(written, picks=9)  # as many as the longest film has: there is nothing to choose
    assert data.static
    asked = []
    real = data.batch
    monkeypatch.setattr(data, "batch", lambda keys: asked.append(len(keys)) or real(keys))

    def batches(**how):
        loader = Loader(data, batch_size=5, seed=4, **how)
        return [*loader.epoch(0), *loader.epoch(1), *loader.all()]

    mapped = batches(resident=0)
    asked.clear()
    held = batches()
    assert asked == [1, SAMPLES, 1, SAMPLES]  # one to judge by, then all of them, once for training, once to evaluate
    assert len(held) == len(mapped)
    for a, b in zip(held, mapped, strict=True):
        assert a.index.tolist() == b.index.tolist() and a.global_size == b.global_size
        assert torch.equal(a.label, b.label) and (a.weight is None) == (b.weight is None)
        assert all(torch.equal(a.inputs[m], b.inputs[m]) for m in data.modalities)
        assert all(torch.equal(a.present[m], b.present[m]) for m in data.modalities)
    held[0].inputs["words"].zero_()  # a batch is nobody else's
    assert_same(by_sample(batches()), by_sample(mapped))


def test_what_is_too_large_or_changes_with_the_seed_stays_in_its_maps(written):
    films = Loader(train(written, picks=2), batch_size=5)
    assert not films.dataset.static and films.resident_batch(True) is None
    data = train(written, picks=9)
    assert data.static and Loader(data, batch_size=5, resident=10_000).resident_batch(False) is None


def test_draws_that_repeat_and_hide_reach_the_batches(written):
    data = train(written, picks=9)
    index = torch.tensor([4, 4, 3, 8, 9, 4])
    keep = torch.ones(6, 3, dtype=torch.bool)
    keep[1, 0] = False
    for resident in (0, 1 << 30):
        batches = list(Loader(data, batch_size=3, seed=1, resident=resident).epoch(0, EpochSampling(index, keep)))
        assert sorted(int(i) for b in batches for i in b.index) == sorted(index.tolist())
        there = torch.cat([torch.stack([b.present[m] for m in data.modalities], 1) for b in batches])
        order = torch.cat([b.index for b in batches])
        assert int((~there[:, 0]).sum()) == 1 and not there[order == 3, 1].any()
        visual = torch.cat([b.inputs["visual"] for b in batches])[order == 4]
        assert not torch.equal(visual[0], visual[1])  # a sample that comes twice is augmented twice


@pytest.mark.parametrize("resident", [0, 1 << 30])
def test_samples_of_one_group_are_batched_together(written, resident):
    data = train(written, picks=9)
    group = torch.tensor([7, 2, 2, 7, 2, 2, 7, 2, 2])
    index = torch.arange(9) + 3
    sampling = EpochSampling(index, torch.ones(9, 3, dtype=torch.bool), group)
    loader = Loader(data, batch_size=4, seed=1, resident=resident)  # drop_last: only where there are no groups
    batches = list(loader.epoch(0, sampling))
    assert [(b.group, len(b), b.global_size) for b in batches] == [(2, 4, 4), (2, 2, 2), (7, 3, 3)]
    assert sorted(int(i) for b in batches for i in b.index) == index.tolist()
    assert all(int(group[i - 3]) == b.group for b in batches for i in b.index)
    other, again = (torch.cat([b.index for b in loader.epoch(n, sampling)]) for n in (1, 0))
    assert torch.equal(again, torch.cat([b.index for b in batches])) and not torch.equal(again, other)
    assert all(b.group is None for b in [*loader.epoch(0), *loader.all()])


def test_a_group_is_kept_when_a_batch_is_moved_taken_apart_and_joined():
    label = torch.arange(4)
    whole = Batch({}, label, label, group=3)
    parts = [whole.select(slice(0, 1)), whole.to(torch.device("cpu")).select(slice(1, 4))]
    assert [part.group for part in parts] == [3, 3] and Batch.cat(parts).group == 3


def test_a_last_batch_that_ranks_cannot_share_is_left_out_of_a_group_alone():
    order, keep = torch.arange(9), torch.ones(9, 1, dtype=torch.bool)
    grouped = EpochSampling(order, keep, torch.tensor([0] * 5 + [1] * 4))
    assert [len(rows) for rows in grouped.cut(order, 4)] == [4, 1, 4]
    assert [len(rows) for rows in grouped.cut(order, 4, ranks=2)] == [4, 4]
    plain = EpochSampling(order, keep)
    assert [len(rows) for rows in plain.cut(order, 4, ranks=2)] == [4, 4, 1]
    assert [len(rows) for rows in plain.cut(order, 4, drop_last=True)] == [4, 4]


# ---- ranks


RANK = """
import hashlib, json, sys
import torch.distributed as dist
from datasets.core.loader import Loader
from datasets.manifest import Manifest
rank, ranks, args = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
dist.init_process_group("gloo", init_method=sys.argv[4], rank=rank, world_size=ranks)
batches = list(Loader(Manifest.module(**args).train, batch_size=6, seed=4, drop_last=False).epoch(2))
print(json.dumps([[b.global_size, [[int(i), hashlib.sha256(b.inputs["visual"][r].numpy().tobytes()).hexdigest()]
                                   for r, i in enumerate(b.index)]] for b in batches]))
dist.destroy_process_group()
"""


def test_ranks_share_the_batches_of_one_process(written, tmp_path):
    given = args(written, picks=2)
    command = [sys.executable, "-c", RANK]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    start = [json.dumps(given), f"file://{tmp_path / 'meet'}"]
    two = [
        subprocess.Popen([*command, str(r), "2", *start], env=env, stdout=subprocess.PIPE, text=True) for r in (0, 1)
    ]
    parts = [json.loads(p.communicate(timeout=120)[0]) for p in two]
    batches = list(Loader(train(written, picks=2), batch_size=6, seed=4, drop_last=False).epoch(2))
    alone = [
        [
            b.global_size,
            [[int(i), sha256(b.inputs["visual"][r].numpy().tobytes()).hexdigest()] for r, i in enumerate(b.index)],
        ]
        for b in batches
    ]
    assert [size for size, _ in alone] == [6, 6, 6, 4]
    for (size, whole), (size_a, a), (size_b, b) in zip(alone, *parts, strict=True):
        assert size == size_a == size_b and a == whole[0::2] and b == whole[1::2]


# ---- what the data bench compares


def test_the_data_bench_compares_equal_samples_and_would_notice(tmp_path, monkeypatch):
    loading.write_files(tmp_path, 4)
    cache = loading.prepare(tmp_path, 4)
    for frames in (1, 3):
        exact = loading.dataset(cache, 10, frames, "parity")
        keys = loading.epoch_keys(10, 10)[0]
        files = loading.Files(tmp_path, exact).batch(keys)
        loading.same(files, exact.batch(keys))
        assert files.inputs["visual"].shape == (10, 3, frames, 224, 224)
        with pytest.raises(ValueError, match="different visual"):
            loading.same(files, exact.batch([(i, seed + 1) for i, seed in keys]))
        plain = loading.dataset(cache, 10, frames)
        assert plain.batch(keys).inputs["visual"].shape == (10, frames, 360, 480, 3)  # left to the device
