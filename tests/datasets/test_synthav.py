"""SynthAV keeps its recipe: what is drawn, how often, from which seed; and the cue is where it says, nowhere else."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from datasets.core.base import DataModule
from datasets.core.loader import Loader
from datasets.registry import fingerprints, load
from datasets.synthav import PRESETS, SHAPES, SynthAV
from tests.helpers.records import committed

SMALL = {"num_train": 64, "num_val": 16, "num_test": 24}
MIDDLE = {"num_train": 800, "num_val": 8, "num_test": 800}
CHANCE = 1 / 8


def digest(module: DataModule) -> str:
    data = hashlib.sha256()
    for split in module.splits().values():
        for x in (split.tensors["audio"], split.tensors["visual"], split.label, split.cues):
            data.update(x.numpy().tobytes())
    return data.hexdigest()


def sigmas(count: int, n: int, p: float) -> float:
    """How many standard deviations a count of successes lies from its mean."""
    return abs(count - n * p) / (n * p * (1 - p)) ** 0.5


@pytest.fixture(scope="module")
def default() -> DataModule:
    return load("synthav", {})


@pytest.fixture(scope="module")
def cues(default: DataModule) -> torch.Tensor:
    return torch.cat([split.cues for split in default.splits().values()])


# ---- the contract of a dataset


def test_the_default_has_the_sizes_shapes_and_classes_of_the_recipe(default: DataModule) -> None:
    assert {name: len(split) for name, split in default.splits().items()} == {"train": 1216, "val": 400, "test": 800}
    for name, split in default.splits().items():
        sample = split[3]
        assert sample["audio"].shape == (1, 32, 32) and sample["audio"].dtype == torch.float32
        assert sample["visual"].shape == (3, 2, 24, 24) and sample["visual"].dtype == torch.float32
        assert sample["id"] == f"{name}-3" and sample["label"] == split.labels[3] and sample["index"] == 3
        assert split.cues.shape == (len(split), 2) and split.cues.dtype == torch.bool
        assert split.present is None
        assert split.classes == ("disk", "ring", "square", "diamond", "triangle", "plus", "cross", "bars")
        assert all(x.isfinite().all() for x in split.tensors.values())
        assert set(split.report.per_class.values()) == {len(split) // 8}
        assert split.report.notes == {
            "audio cue absent": int((~split.cues[:, 0]).sum()),
            "visual cue absent": int((~split.cues[:, 1]).sum()),
            "no cue at all": int((~split.cues).all(1).sum()),
        }


def test_a_batch_is_its_samples_stacked_with_or_without_seeds() -> None:
    train = SynthAV.module(**SMALL).train
    ours, plain = train.batch([(5, 123), (0, 7), (5, 9)]), super(SynthAV, train).batch([5, 0, 5])
    assert torch.equal(ours.label, plain.label) and ours.label.dtype == torch.int64
    assert ours.index.tolist() == [5, 0, 5]
    assert all(torch.equal(ours.inputs[m], plain.inputs[m]) for m in train.modalities)
    batches = list(Loader(train, batch_size=16, seed=1).epoch(0))
    assert sorted(torch.cat([b.index for b in batches]).tolist()) == list(range(64))


def test_any_size_will_do_and_classes_stay_as_even_as_they_can() -> None:
    module = SynthAV.module(num_train=1, num_val=3, num_test=131)
    assert [len(split) for split in module.splits().values()] == [1, 3, 131]
    assert sorted(module.val.labels) == [0, 1, 2]
    assert set(module.test.report.per_class.values()) == {16, 17}


# ---- what decides about the tensors


def test_another_process_with_other_threads_makes_the_same_bits() -> None:
    code = ("from tests.datasets.test_synthav import SMALL, SynthAV, digest; m = SynthAV.module(data_seed=3, **SMALL); "
            "print(digest(m), m.train.fingerprint)")  # fmt: skip
    out = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    module = SynthAV.module(data_seed=3, **SMALL)
    assert out.stdout.split() == [digest(module), module.train.fingerprint]


def test_generator_1_means_these_values() -> None:
    """Fails where the draws or the formulas change: then raise GENERATOR, and pin the new values."""
    test = SynthAV.module(**SMALL).test
    assert test.recipe["generator"] == 1
    assert test.labels[:8] == [1, 1, 5, 1, 0, 0, 2, 3]
    assert test.tensors["audio"][:3, 0, 10, 16].tolist() == pytest.approx([0.68824, -0.92760, -0.71228], abs=1e-3)
    assert test.tensors["visual"][:3, 1, 1, 12, 12].tolist() == pytest.approx([-0.25311, -0.32259, -0.24534], abs=1e-3)


def test_another_data_seed_makes_other_data_with_another_fingerprint() -> None:
    first, second = (SynthAV.module(data_seed=seed, **SMALL) for seed in (0, 1))
    assert first.train.labels != second.train.labels
    for one, other in zip(first.splits().values(), second.splits().values(), strict=True):
        assert not any(torch.equal(one.tensors[m], other.tensors[m]) for m in one.modalities)
    words = {split.fingerprint for module in (first, second) for split in module.splits().values()}
    assert len(words) == 6


def test_equal_settings_are_one_object_and_one_fingerprint_however_they_are_said() -> None:
    named = SynthAV.module(preset="textbook", **SMALL)
    assert SynthAV.module(preset="textbook", **SMALL) is named
    assert SynthAV.module(preset="p70_80", **SMALL) is named
    assert SynthAV.module(p_visual=0.8, snr_db=[0, 10], **SMALL) is named
    assert SynthAV.module(p_visual=0.8, pixel_noise=0.04, **SMALL).train.fingerprint != named.train.fingerprint
    assert named.train.recipe["p_visual"] == 0.8 and {"data_seed", "generator"} < set(named.train.recipe)


def test_a_larger_probability_adds_cues_and_leaves_the_rest_as_it_was() -> None:
    few, many = (SynthAV.module(p_audio=p, **SMALL) for p in (0.3, 0.9))
    for one, other in zip(few.splits().values(), many.splits().values(), strict=True):
        assert one.labels == other.labels
        assert torch.equal(one.cues[:, 1], other.cues[:, 1])
        assert torch.equal(one.tensors["visual"], other.tensors["visual"])
        assert not (one.cues[:, 0] & ~other.cues[:, 0]).any()
    assert few.train.cues[:, 0].sum() < many.train.cues[:, 0].sum()


def test_every_split_is_standardised_by_the_training_split(default: DataModule) -> None:
    audio, visual = default.train.tensors["audio"].double(), default.train.tensors["visual"].double()
    assert abs(audio.mean()) < 1e-5 and abs(audio.std(correction=0) - 1) < 1e-5
    assert visual.mean((0, 2, 3, 4)).abs().max() < 1e-5 and abs(visual.std(correction=0) - 1) < 1e-5
    # pixels are cut off at 1, so white must have come out alike in every split
    white = visual.amax((0, 2, 3, 4)).float()
    for split in (default.val, default.test):
        assert torch.equal(split.tensors["visual"].amax((0, 2, 3, 4)), white)
        assert 1e-5 < abs(float(split.tensors["audio"].double().mean())) < 0.1


# ---- how often there is a cue


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_makes_its_probabilities(preset: str) -> None:
    train = SynthAV.module(preset=preset, num_train=640, num_val=1, num_test=1).train
    for k, m in enumerate(train.modalities):
        assert train.recipe[f"p_{m}"] == PRESETS[preset][f"p_{m}"]
        assert sigmas(int(train.cues[:, k].sum()), 640, PRESETS[preset][f"p_{m}"]) < 4
    assert preset[0] != "p" or preset == "p{:.0f}_{:.0f}".format(*(100 * p for p in PRESETS[preset].values()))


def test_cues_come_independently_of_each_other_and_of_the_label(default: DataModule, cues: torch.Tensor) -> None:
    audio, visual = cues.T
    for where, p in (
        (audio & visual, 0.63),
        (audio & ~visual, 0.07),
        (~audio & visual, 0.27),
        (~audio & ~visual, 0.03),
    ):
        assert sigmas(int(where.sum()), len(cues), p) < 4
    labels = torch.cat([split.label for split in default.splits().values()])
    for k in range(8):
        for cue, p in ((audio, 0.7), (visual, 0.9)):
            assert sigmas(int(cue[labels == k].sum()), int((labels == k).sum()), p) < 4


def test_a_perfect_reader_of_cues_meets_the_stated_ceilings(cues: torch.Tensor) -> None:
    for seen, ceiling in ((cues[:, 0], 0.7375), (cues[:, 1], 0.9125), (cues.any(1), 0.97375)):
        p = (ceiling - CHANCE) / (1 - CHANCE)
        reader = float(torch.where(seen, 1.0, CHANCE).mean())
        assert abs(reader - ceiling) < 4 * (1 - CHANCE) * (p * (1 - p) / len(cues)) ** 0.5


# ---- the cue is there, and only there


def linear_reader(x: torch.Tensor, label: torch.Tensor) -> Any:
    from sklearn.linear_model import RidgeClassifier  # here, so that the other process need not wait for it

    return RidgeClassifier(300.0).fit(x.flatten(1).numpy(), label.numpy())


def read_tone(default: DataModule) -> np.ndarray:
    """Which test clips a linear reader of log-mels names correctly. It learned from clips with a tone."""
    train, test, there = default.train, default.test, default.train.cues[:, 0]
    reader = linear_reader(train.tensors["audio"][there], train.label[there])
    return reader.predict(test.tensors["audio"].flatten(1).numpy()) == np.array(test.labels)


def read_shape(default: DataModule) -> np.ndarray:
    """Which test clips a template matcher names correctly. It has learned nothing: it knows the outlines."""
    grid = torch.linspace(-1, 1, 24, dtype=torch.float64)[2:22]
    y, x = (c.numpy() for c in torch.meshgrid(grid, grid, indexing="ij"))
    masks = [torch.from_numpy(1 / (1 + np.exp(2 / 0.12 * sdf(x / size, y / size))))
             for sdf in SHAPES.values() for size in (0.5, 0.55, 0.6, 0.65, 0.7)]  # fmt: skip
    template = torch.stack([(m - m.mean()) / (m - m.mean()).norm() for m in masks])[:, None].float()
    light = default.test.tensors["visual"].sum(1)[:, :1]
    light = light - light.mean((2, 3), keepdim=True)
    score = F.conv2d(F.pad(light, (9, 10, 9, 10)), template).amax((2, 3))
    return (score.unflatten(1, (8, 5)).amax(2).argmax(1) == default.test.label).numpy()


@pytest.mark.parametrize(("k", "read", "enough"), [(0, read_tone, 0.8), (1, read_shape, 0.6)])
def test_a_simple_reader_finds_the_cue_where_it_is_and_guesses_where_it_is_not(
    default: DataModule, k: int, read: Callable[[DataModule], np.ndarray], enough: float
) -> None:
    there, correct = default.test.cues[:, k].numpy(), read(default)
    assert correct[there].mean() > enough
    assert sigmas(int(correct[~there].sum()), int((~there).sum()), CHANCE) < 4


@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_nothing_in_a_modality_without_cue_tells_the_class(modality: str) -> None:
    """A reader trained on backgrounds alone finds nothing; on the same clips with their cues it does (the control)."""
    correct = {}
    for p in (0, 1):
        module = SynthAV.module(**{f"p_{modality}": p}, data_seed=5, **MIDDLE)
        reader = linear_reader(module.train.tensors[modality], module.train.label)
        said = reader.predict(module.test.tensors[modality].flatten(1).numpy())
        correct[p] = int((said == np.array(module.test.labels)).sum())
    assert sigmas(correct[0], MIDDLE["num_test"], CHANCE) < 4
    assert sigmas(correct[1], MIDDLE["num_test"], CHANCE) > 4


@pytest.mark.parametrize("first", [1, pytest.param(100, marks=pytest.mark.long)])
def test_the_data_are_those_of_the_committed_results(first: int) -> None:
    told = [(args, words) for args, words in committed("synthav") if args["preset"] == "default"]
    assert len(told) >= 3
    for args, words in told[:first]:
        assert fingerprints("synthav", args) == words, args


# ---- bad input


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"preset": "textbok"}, "no preset is called 'textbok'; did you mean 'textbook'?"),
        ({"p_audoi": 0.5}, "no knob is called 'p_audoi'; did you mean 'p_audio'?"),
        ({"p_audio": 1.2}, "p_audio is 1.2, but must be a number from 0 to 1"),
        ({"p_visual": float("nan")}, "p_visual is nan, but must be a number from 0 to 1"),
        ({"p_visual": "0.9"}, "p_visual is '0.9', but must be a number"),
        ({"num_train": -8}, "num_train is -8, but must be a whole number from 1 to"),
        ({"num_val": 0}, "num_val is 0, but must be a whole number from 1 to"),
        ({"num_test": 80.0}, "num_test is 80.0, but must be a whole number"),
        ({"snr_db": [10, 0]}, "snr_db is [10, 0], but must be [low, high], two numbers in order from -60 to 60"),
        ({"contrast": 0.5}, "contrast is 0.5, but must be [low, high]"),
        ({"pixel_noise": True}, "pixel_noise is True, but must be a number"),
        ({"data_seed": -1}, "data_seed is -1, but must be a whole number from 0 to"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError) as error:
        SynthAV.module(**settings)
    assert str(error.value).startswith("synthav: ") and says in str(error.value)
    assert "\n" not in str(error.value)
