"""SynthAV's regimes: their bits are pinned, what is drawn is what is shown, and people can ask for them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.config.suite import compare
from datasets.__main__ import main
from datasets.core.base import DataModule
from datasets.core.regimes import REGIMES
from datasets.registry import fingerprints
from datasets.synthav import PRESETS, SynthAV
from tests.datasets.test_synthav import SMALL, digest, linear_reader

TINY = {"num_train": 16, "num_val": 8, "num_test": 8}
PINNED = {  # what was drawn, the fingerprint of the training split, and two values of sounds and of pictures
    "additive": ("add767f054945fb3", "74dc1b1f1190", [-0.28553, 1.06245, -0.52293, 2.66989]),
    "complementary": ("922eec284c1530dc", "9b00c32f21b4", [-0.88038, 1.06718, -0.52114, 2.63622]),
    "synergy": ("299985f7ece01f46", "b1f91c4d6595", [-0.28498, 1.06223, -0.52281, 2.66377]),
    "redundant": ("3e9a08789cf9c693", "324de711deab", [-0.28637, 1.05816, -0.51581, 2.62678]),
}


def drawn(module: DataModule) -> str:
    """A digest of what no rounding touches: labels, cues, and strengths in thousandths."""
    data = hashlib.sha256()
    for split in module.splits().values():
        for x in (split.label, split.shown, (1000 * split.strength).to(torch.int64)):
            data.update(x.numpy().tobytes())
    return data.hexdigest()[:16]


@pytest.mark.parametrize("preset", REGIMES)
def test_generator_1_means_these_values(preset: str) -> None:
    """Fails where draws, tables or formulas change: then raise GENERATOR, and pin the new values."""
    module = SynthAV.module(preset=preset, **SMALL)
    sounds, pictures = (module.test.tensors[m] for m in module.test.modalities)
    values = [*sounds[:2, 0, 10, 16].tolist(), *pictures[:2, 1, 1, 12, 12].tolist()]
    what, word, expected = PINNED[preset]
    assert (drawn(module), module.train.fingerprint) == (what, word)
    assert values == pytest.approx(expected, abs=1e-3)


def test_the_older_presets_have_the_bits_and_fingerprints_they_had() -> None:
    module = SynthAV.module(**SMALL)
    assert module.train.fingerprint == "f649ffb4faec"
    assert not {"regime", "error"} & set(module.train.recipe)
    assert torch.equal(module.train.shown, module.train.label[:, None].expand(-1, 2))
    assert module.train.strength is None


def test_another_process_makes_the_same_bits_in_any_order() -> None:
    """The other process generates the presets in the reverse order."""
    code = f"""
from datasets.core.regimes import REGIMES
from tests.datasets.test_synthav import SynthAV, digest
print(*[digest(SynthAV.module(preset=p, data_seed=3, **{TINY})) for p in reversed(REGIMES)])
"""
    out = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    ours = [digest(SynthAV.module(preset=p, data_seed=3, **TINY)) for p in REGIMES]
    assert out.stdout.split()[::-1] == ours
    assert len(set(ours)) == len(REGIMES)


@pytest.mark.parametrize("preset", REGIMES)
def test_a_batch_is_its_samples_in_whatever_order(preset: str) -> None:
    train = SynthAV.module(preset=preset, **SMALL).train
    order = np.random.default_rng(0).permutation(len(train)).tolist()
    batch = train.batch(order)
    for row, i in enumerate(order):
        sample = train[i]
        assert all(torch.equal(batch.inputs[m][row], sample[m]) for m in train.modalities)
        assert int(batch.label[row]) == sample["label"]


@pytest.mark.parametrize("preset", REGIMES)
def test_both_cues_are_always_there_and_the_report_counts_those_of_other_classes(preset: str) -> None:
    train = SynthAV.module(preset=preset, **SMALL).train
    assert bool(train.cues.all()) and train.recipe["regime"] == preset
    wrong = (train.shown != train.label[:, None]).sum(0).tolist()
    assert train.report.notes == {"audio cue of another class": wrong[0], "visual cue of another class": wrong[1]}


@pytest.fixture(scope="module")
def graded() -> DataModule:
    """Tones and shapes from very weak to very strong."""
    sizes = {"num_train": 640, "num_val": 8, "num_test": 400}
    return SynthAV.module(preset="complementary", snr_db=[-30, 10], contrast=[0, 1], **sizes)


def test_the_sound_has_the_tone_that_is_shown_and_its_strength(graded: DataModule) -> None:
    """A linear reader names the tone that is shown more often than the class, and strong tones more often."""
    reader = linear_reader(graded.train.tensors["audio"], graded.train.shown[:, 0])
    said = torch.from_numpy(reader.predict(graded.test.tensors["audio"].flatten(1).numpy()))
    right, strong = said == graded.test.shown[:, 0], graded.test.strength[:, 0] > 0.5
    assert right.float().mean() > (said == graded.test.label).float().mean() + 0.1
    assert right[strong].float().mean() > right[~strong].float().mean() + 0.2


def test_the_shape_is_painted_as_strong_as_is_said(graded: DataModule) -> None:
    """Pictures of pale shapes vary less from pixel to pixel."""
    spread = graded.test.tensors["visual"].flatten(1).std(1)
    assert np.corrcoef(spread.numpy(), graded.test.strength[:, 1].numpy())[0, 1] > 0.5


def test_data_seeds_are_the_replications_of_a_comparison() -> None:
    shown = compare({"dataset": "synthav", "dataset_args.preset": "additive"}, ["vanilla", "ogm_ge"], 3)
    for row in shown.tables[0].rows:
        assert [c.dataset_args for c in row.configs] == [{"data_seed": k, "preset": "additive"} for k in range(3)]
    words = [fingerprints("synthav", {"preset": "additive", "data_seed": k, **SMALL})["test"] for k in range(2)]
    assert words[0] != words[1]


@pytest.mark.parametrize("preset", [*REGIMES, "default"])
def test_info_prints_the_information(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "synthav", f"preset={preset}", "num_train=8", "num_val=8", "num_test=8"]) == 0
    out = capsys.readouterr().out
    for fact in ("audio alone", "redundant", "only visual", "synergy", "BROJA", "best accuracy from the cues"):
        assert fact in out
    assert ("both 2.697 bits, of 3" in out) == (preset == "additive")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"preset": "aditive"}, "no preset is called 'aditive'; did you mean 'additive'?"),
        ({"preset": "synergy", "p_audio": 0.5}, "preset synergy always shows both cues, so p_audio cannot be chosen"),
        ({"preset": "synergy", "error": 0.5}, "no knob is called 'error'"),
        ({"preset": "redundant", "snr_db": [5, -5]}, "snr_db is [5, -5], but must be [low, high]"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError) as error:
        SynthAV.module(**settings)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_no_two_presets_share_a_name() -> None:
    assert not set(PRESETS) & set(REGIMES)
