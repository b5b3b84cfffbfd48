"""AV-MNIST: the pinned pairs of the real files, exact tensors, and small sets written by the tests."""

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from datasets.avmnist import AVMNIST, pair, spectrogram, split_takes
from datasets.core.errors import (
    CacheError,
    DataError,
    EmptyMediaError,
    ManifestError,
    MissingMediaError,
    PinMismatchError,
)
from datasets.core.loader import Loader
from datasets.decode.idx import read_idx
from datasets.registry import fingerprints
from datasets.storage.digit_files import SPEAKERS, Clip, folder_digest, scan_images, scan_recordings
from tests.helpers.media import tone, write_idx, write_wav
from tests.helpers.records import committed
from tests.helpers.shared_media import shared

ROOT = Path(__file__).parents[2]
DIGESTS = {  # of the pairs by the published rule: seed 0, k 10 and k 1
    "train": ("5231e06ee1b29c6b23103f5e49298000aa2f16da247bc063d631ffd113fd9959",
              "8ebc507daa5ecadd1a7a642328db2a96c8235ffda89d382c6122bfba06b11d56"),
    "val": ("76ead354fad99f3bd8150f5573242d57333ef90cbdc5d5ed723a9f10c14b2b9b",
            "386cf968f9f0ab0066eb90cf7d05580c7df0d988d41182fa5ba59482bf9cba22"),
    "test": ("90bff3066553bc1c6dfc26db4d628a53486105a5e2c5a0cf2d9fa2b96143f7b1",
             "2c4d8f7caa8289254c453105cfb432bb13c82f282ce1fe5a8271de1f57c7ec6f"),
    "all but test": ("8bfc42bb58725192af13ee8d28a8a142f0ddd0821e7487fb235433c41396b6d4",
                     "bf6c949dcb75b141a6aae0e51de2e1e33f432949895e46780b3f7de3042b8081"),
}  # fmt: skip


def digest(ids: list[str]) -> str:
    parts = [i.replace("+train", "+").replace("+t10k", "+").split("+") for i in ids]
    return hashlib.sha256("".join(f"{stem}.wav,{image},{stem[0]}\n" for stem, image in parts).encode()).hexdigest()


# ---- the real files


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The published files, prepared both ways."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OGM_DATA", str(shared("data", "avmnist").parent))
        patch.setenv("OGM_CACHE", str(tmp_path_factory.mktemp("cache")))
        for preset in ("avmnist", "mel32"):
            AVMNIST.prepare(progress=False, preset=preset)
        yield


@pytest.mark.parametrize("k", [10, 1])
def test_the_pairs_have_the_pinned_digests(real, k):
    splits = AVMNIST.module(k=k).splits()
    assert {name: digest(s.ids) for name, s in splits.items()} == {n: DIGESTS[n][k == 1] for n in splits}
    assert [len(s) for s in splits.values()] == [2400 * k, 300 * k, 300 * k]
    for s in splits.values():
        assert s.report.found == s.report.listed == len(s) and not s.report.notes
        assert set(s.report.per_class.values()) == {len(s) // 10}
        assert s.labels == [int(i[0]) for i in s.ids] == sorted(s.labels)
    images = [i.split("+")[1] for s in splits.values() for i in s.ids]
    assert len(set(images)) == len(images)  # an image is used once


def test_the_first_pairs_are_the_pinned_ones(real):
    module = AVMNIST.module()
    assert list(module.train.ids[:3]) == ["0_george_10+train28456", "0_george_10+train30438", "0_george_10+train5541"]
    assert list(module.val.ids[:3]) == ["0_george_5+train25137", "0_george_5+train41606", "0_george_5+train14491"]
    assert list(module.test.ids[:3]) == ["0_george_0+t10k9158", "0_george_0+t10k5827", "0_george_0+t10k9585"]


@pytest.mark.parametrize("k", [10, 1])
def test_training_without_validation_has_the_pinned_digest(real, k):
    cache = AVMNIST.open(AVMNIST.options({}))
    rows = cache.rows("digit", "train")
    digits = {"train": cache["digit"][rows.start : rows.stop]}
    clips = [c for c in map(Clip.parse, cache.keys[2:]) if c.take >= 5]
    assert (
        digest([p.id for p in pair({"train": clips}, digits, {"train": k}, 0)["train"]])
        == DIGESTS["all but test"][k == 1]
    )


def test_tensors_are_exactly_what_the_files_say(real):
    module = AVMNIST.module()
    folder = shared("data", "avmnist")
    for dataset, i in ((module.train, 0), (module.train, 23_999), (module.val, 1234), (module.test, 2999)):
        item = dataset[i]
        stem, image = item["id"].split("+")
        x, rate = soundfile.read(folder / "fsdd" / "recordings" / f"{stem}.wav", dtype="int16")
        assert rate == 8000
        x = torch.from_numpy(np.concatenate([x / 32768, np.zeros(8000)])[:8000])
        window = torch.hann_window(256, dtype=torch.float64)
        padded = torch.nn.functional.pad(x, (128, 128)).unfold(0, 256, 64) * window
        log = (torch.fft.rfft(padded).abs() + 1e-7).log().T
        assert item["audio"].shape == (1, 129, 126) and item["audio"].dtype == torch.float32
        quiet = log < -12  # near silence float32 hears its own rounding
        torch.testing.assert_close(
            item["audio"][0][~quiet].double(), (log[~quiet] + 10.6212) / 6.2179, atol=1e-3, rtol=0
        )
        source = "t10k" if image.startswith("t10k") else "train"
        pixels, labels = scan_images(folder / "mnist", pinned=True)[source]
        row = int(image.removeprefix(source))
        assert item["visual"].shape == (1, 28, 28)
        np.testing.assert_allclose(item["visual"][0], (pixels[row] / 255 - 0.1307) / 0.3081, atol=1e-6)
        assert labels[row] == item["label"] == int(stem[0]) and item["index"] == i


@pytest.mark.parametrize(("preset", "shape", "constants"), [
    ("avmnist", (1, 129, 126), (-10.6212, 6.2179)), ("mel32", (1, 32, 32), None),
])  # fmt: skip
def test_sound_is_standardised_by_the_training_clips(real, preset, shape, constants):
    train = AVMNIST.module(preset=preset, k=1).train
    assert constants is None or (train.mean, train.std) == constants
    x = train.batch(range(len(train))).inputs["audio"]
    assert x.shape[1:] == shape and abs(float(x.double().mean())) < 1e-3 and abs(float(x.double().std()) - 1) < 1e-3


def test_mel32_averages_frames_in_pairs():
    x = torch.from_numpy(tone(1, 8000)).float()
    from datasets.decode.audio import log_mel

    frames, pooled = log_mel(x, 8000), spectrogram(x, "mel32")
    assert frames.shape == (32, 63) and pooled.shape == (32, 32)
    torch.testing.assert_close(pooled[:, 7], frames[:, 14:16].mean(1))
    torch.testing.assert_close(pooled[:, 31], frames[:, 62])


def test_batches_are_the_items_and_do_not_depend_on_workers(real):
    val = AVMNIST.module(preset="mel32").val
    keys = [5, 2999, 0, 5]
    batch = val.batch(keys)
    for row, key in enumerate(keys):
        item = val[key]
        assert all(torch.equal(batch.inputs[m][row], item[m]) for m in val.modalities)
        assert (batch.label[row], batch.index[row]) == (item["label"], item["index"])
    one, two = (list(Loader(val, batch_size=512, seed=3, workers=w).epoch(1)) for w in (0, 2))
    assert len(one) == 5
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a.index, b.index) and all(torch.equal(a.inputs[m], b.inputs[m]) for m in val.modalities)


def test_a_pickled_dataset_holds_no_tensors(real):
    val = AVMNIST.module().val
    val.batch([0])
    data = pickle.dumps(val)
    assert len(data) < 1_000_000
    again = pickle.loads(data)  # noqa: S301 (our own bytes)
    assert torch.equal(again[7]["audio"], val[7]["audio"])


def test_a_module_is_made_once_and_again_for_another_preparation(real):
    assert AVMNIST.module(k=1) is AVMNIST.module(k=1, pair_seed=0)
    assert AVMNIST.module(k=1) is not AVMNIST.module(k=2)
    fingerprints = {
        AVMNIST.module(**a).train.fingerprint for a in ({}, {"k": 1}, {"pair_seed": 1}, {"preset": "mel32"})
    }
    assert len(fingerprints) == 4


@pytest.mark.parametrize(
    ("args", "sizes"),
    [
        ({"split": "speaker6"}, [20_000, 5000, 5000]),
        ({"split": "speaker_folds", "k": 1}, [2000, 5000, 5000]),
        ({"split": "speaker_folds", "k": 1, "eval_k": 1}, [2000, 500, 500]),
    ],
)
def test_speakers_are_left_out(real, args, sizes):
    for fold, (test, val) in {0: ("george", "jackson"), 5: ("yweweler", "george")}.items():
        splits = AVMNIST.module(preset="mel32", fold=fold, **args).splits()
        speakers = {name: {i.split("_")[1] for i in s.ids} for name, s in splits.items()}
        assert speakers == {"train": set(SPEAKERS) - {test, val}, "val": {val}, "test": {test}}
        assert [len(s) for s in splits.values()] == sizes
        clips = [s.report.as_dict().get("independent", len(s)) for s in splits.values()]
        assert clips == [2000, 500, 500]  # recordings
        images = [i.split("+")[1] for s in splits.values() for i in s.ids]
        assert len(set(images)) == len(images)


def test_each_speaker_is_the_test_once_and_the_pairing_is_drawn_again(real):
    args = {"preset": "mel32", "k": 1}
    chosen = [AVMNIST.resplit({}, number) for number in range(8)]
    modules = [AVMNIST.module(**args, **options) for options in chosen]
    assert [m.test.ids[0].split("_")[1] for m in modules] == [*SPEAKERS, *SPEAKERS[:2]]
    assert len({m.test.fingerprint for m in modules}) == len({m.train.fingerprint for m in modules}) == 8
    first, again = ([i.split("+") for i in modules[n].test.ids] for n in (0, 6))
    assert [clip for clip, _ in first] == [clip for clip, _ in again]
    assert sum(a == b for (_, a), (_, b) in zip(first, again, strict=True)) < 50  # of 5,000 images by chance


def test_ten_images_for_a_test_clip_of_the_old_split(real):
    old, new = (AVMNIST.module(preset="mel32", k=1, **args) for args in ({}, {"eval_k": 10}))
    assert [len(s) for s in new.splits().values()] == [2400, 3000, 3000]
    assert new.train.ids == old.train.ids and set(old.test.report.as_dict()) == {
        "listed",
        "found",
        "per_class",
        "notes",
    }
    assert AVMNIST.module(preset="mel32", k=1, eval_k=1).test.fingerprint == old.test.fingerprint
    assert AVMNIST.module(preset="mel32", k=10).test.ids == new.test.ids


def test_a_comparison_takes_one_fold_after_the_other_unless_a_split_is_chosen():
    assert AVMNIST.resplit({"preset": "mel32"}, 7) == {"split": "speaker_folds", "fold": 1, "pair_seed": 1}
    assert AVMNIST.resplit({"split": "speaker6", "pair_seed": 4}, 2) == {"fold": 2}
    assert AVMNIST.resplit({"split": "takes"}, 2) == AVMNIST.resplit({"fold": 0}, 2) == {}


def test_preparing_again_is_quick_and_changes_nothing(real):
    folder = AVMNIST.folder(AVMNIST.options({"preset": "mel32"}))
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert AVMNIST.prepare(progress=False, preset="mel32") == folder
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before


def test_k_is_limited_by_the_images(real):
    with pytest.raises(DataError, match=r"k=21 needs \d+ images of digit \d from train, there are \d+; make k smaller"):
        AVMNIST.module(k=21)
    assert len(AVMNIST.module(k=20).train) == 48_000
    with pytest.raises(DataError, match=r"k=1 with eval_k=18 needs \d+ images of digit \d from t10k"):
        AVMNIST.module(split="speaker_folds", k=1, eval_k=18)


def test_the_published_folder_has_the_pinned_digest(real):
    recordings = shared("data", "avmnist", "fsdd", "recordings")
    digests = scan_recordings(recordings, pinned=True)
    assert len(digests) == 3000
    digests["0_george_0"] = "0" * 64
    assert folder_digest(digests) != folder_digest(scan_recordings(recordings, pinned=False))


def test_the_data_are_those_of_the_committed_results(real):
    told = committed("avmnist")
    assert told
    for args, words in told:
        assert fingerprints("avmnist", args) == words, args


# ---- small sets


def write_set(folder) -> None:
    """Two speakers, eight takes, 24 images of each digit in each MNIST file."""
    rng = np.random.default_rng(0)
    for digit in range(10):
        for speaker in ("george", "theo"):
            for take in (0, 1, 5, 6, 10, 11, 12, 13):
                x = tone(0.2 + take / 50, 8000, 200 + 50 * digit) + rng.normal(0, 0.01, round((0.2 + take / 50) * 8000))
                write_wav(folder / "fsdd" / "recordings" / f"{digit}_{speaker}_{take}.wav", x, 8000)
    for source, end in (("train", ".gz"), ("t10k", "")):  # gzipped and plain
        labels = np.arange(240) % 10
        write_idx(folder / "mnist" / f"{source}-labels-idx1-ubyte{end}", labels)
        write_idx(folder / "mnist" / f"{source}-images-idx3-ubyte{end}", rng.integers(0, 256, (len(labels), 28, 28)))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw") / "avmnist"
    write_set(folder)
    return folder


@pytest.fixture
def small(tmp_path, monkeypatch, written):
    monkeypatch.setenv("OGM_DATA", str(tmp_path / "raw"))
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    shutil.copytree(written, tmp_path / "raw" / "avmnist")
    return tmp_path / "raw" / "avmnist"


SMALL = {"allow_unpinned": True, "preset": "mel32", "k": 1}


def test_a_small_set_works(small):
    assert AVMNIST.raw_available() and not AVMNIST.ready(**SMALL)
    with pytest.raises(DataError, match=r"`python -m datasets prepare avmnist preset=mel32 k=1 allow_unpinned=True`$"):
        AVMNIST.module(**SMALL)
    AVMNIST.prepare(progress=False, **SMALL)
    assert AVMNIST.ready(**SMALL) and not AVMNIST.ready(**{**SMALL, "preset": "avmnist"})
    assert [len(s) for s in AVMNIST.module(**SMALL).splits().values()] == [80, 40, 40]
    small.rename(small.with_name("away"))
    assert len(AVMNIST.module(**SMALL).train) == 80  # the prepared set is enough
    assert AVMNIST.prepare(progress=False, **SMALL).is_dir()
    with pytest.raises(DataError, match=r"python -m datasets download avmnist`$"):
        AVMNIST.module()


def test_other_raw_files_are_prepared_again(small):
    AVMNIST.prepare(progress=False, **SMALL)
    before = AVMNIST.module(**SMALL).train
    old = before[0]["audio"].clone()
    first = small / "fsdd" / "recordings" / f"{before.ids[0].split('+')[0]}.wav"
    write_wav(first, tone(0.3, 8000, 999), 8000)
    with pytest.raises(CacheError, match=rf"raw files of 1 of \d+ \({first.stem}\) have changed .*prepare avmnist "):
        AVMNIST.module(**SMALL)
    AVMNIST.prepare(progress=False, **SMALL)
    after = AVMNIST.module(**SMALL).train
    assert after is not before and not torch.equal(after[0]["audio"], old)
    assert after.fingerprint != before.fingerprint


def test_a_damaged_preparation_is_made_again(small):
    folder = AVMNIST.prepare(progress=False, **SMALL)
    (folder / "audio.npy").unlink()
    AVMNIST.prepare(progress=False, **SMALL)
    assert AVMNIST.module(**SMALL).train[0]["audio"].isfinite().all()


def test_noise_is_fixed_belongs_to_the_file_and_has_the_stated_power(small):
    loud = {**SMALL, "preset": "avmnist", "k": 2}
    clean_args, noisy_args = dict(loud), {**loud, "image_noise": 0.2, "audio_snr_db": 0}
    for args in (clean_args, noisy_args):
        AVMNIST.prepare(progress=False, **args)
    clean, noisy = AVMNIST.module(**clean_args), AVMNIST.module(**noisy_args)
    assert clean.train.ids == noisy.train.ids and clean.train.fingerprint != noisy.train.fingerprint
    a, b = (m.train.batch(range(len(m.train))).inputs for m in (clean, noisy))
    added = (b["visual"] - a["visual"]) * 0.3081
    assert abs(float(added.std()) - 0.2) < 0.005 and abs(float(added.mean())) < 0.005
    assert torch.equal(b["audio"][0], b["audio"][1])  # one recording, two images
    assert (added[0] - added[1]).abs().max() > 0.1
    assert (a["audio"] - b["audio"]).abs().mean() > 0.1
    assert b["audio"][0, 0, :, -1].std() < 1.0 and a["audio"][0, 0, :, -1].std() < 1e-3  # noise fills the padding
    again = AVMNIST.module(**{**noisy_args, "audio_snr_db": 0.0})
    assert again is noisy  # 0 and 0.0 are one setting


def test_B1_and_B4_are_counted_in_the_report(small):
    recordings = small / "fsdd" / "recordings"
    cut = recordings / "3_theo_12.wav"
    cut.write_bytes(cut.read_bytes()[: 44 + 2 * 1000])
    write_wav(recordings / "4_theo_0.wav", np.zeros(3000), 8000)
    AVMNIST.prepare(progress=False, **SMALL)
    notes = {name: s.report.notes for name, s in AVMNIST.module(**SMALL).splits().items()}
    assert notes == {"train": {"audio_truncated": 1}, "val": {}, "test": {"silent": 1}}


@pytest.mark.parametrize(("damage", "error", "says"), [
    (lambda f: write_wav(f / "5_theo_1.wav", np.zeros(0), 8000), EmptyMediaError, r"5_theo_1\.wav"),
    (lambda f: (f / "5_theo_1.wav").write_bytes(b""), DataError, r"5_theo_1\.wav: the file has 0 bytes"),
    (lambda f: write_wav(f / "5_theo_99.wav", tone(1, 8000), 8000), ManifestError, r"5_theo_99\.wav is not called"),
    (lambda f: write_wav(f / "five_theo_9.wav", tone(1, 8000), 8000), ManifestError, "five_theo_9"),
])  # fmt: skip
def test_bad_recordings_are_named_and_leave_nothing_prepared(small, damage, error, says):
    damage(small / "fsdd" / "recordings")
    with pytest.raises(error, match=says) as raised:
        AVMNIST.prepare(progress=False, **SMALL)
    assert "\n" not in str(raised.value) and not AVMNIST.ready(**SMALL)


def test_B6_other_rates_and_channels_are_converted(small):
    path = small / "fsdd" / "recordings" / "5_theo_11.wav"
    plain = SMALL | {"preset": "avmnist"}
    write_wav(path, tone(0.5, 8000, 300), 8000)
    AVMNIST.prepare(progress=False, **plain)
    i = next(i for i, name in enumerate(AVMNIST.module(**plain).train.ids) if name.startswith("5_theo_11"))
    before = AVMNIST.module(**plain).train[i]["audio"].clone()
    write_wav(path, np.stack([tone(0.5, 44_100, 300)] * 2, 1), 44_100, "PCM_24")
    AVMNIST.prepare(progress=False, **plain)
    after = AVMNIST.module(**plain).train[i]["audio"]
    loud = before > before.max() - 1
    torch.testing.assert_close(after[loud], before[loud], atol=0.1, rtol=0)


def test_B19_other_files_than_published_are_refused(small):
    with pytest.raises(MissingMediaError, match=r"2840 of 3000 are missing: \S+0_george_2\.wav, .*, \.\.\.; get"):
        AVMNIST.prepare(progress=False)
    for digit in range(10):
        for speaker in SPEAKERS:
            for take in range(50):
                path = small / "fsdd" / "recordings" / f"{digit}_{speaker}_{take}.wav"
                if not path.exists():
                    path.write_bytes(b"x")
    with pytest.raises(PinMismatchError, match="expected 04e1baae"):
        AVMNIST.prepare(progress=False)


def test_B19_other_images_than_published_are_refused(small):
    with pytest.raises(
        PinMismatchError, match=r"train-images-idx3-ubyte\.gz: not the published file.*expected ba891046"
    ):
        scan_images(small / "mnist", pinned=True)


def test_B20_missing_images_are_listed(small):
    (small / "mnist" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(MissingMediaError, match=r"1 of 4 are missing: \S+t10k-labels-idx1-ubyte\.gz; run"):
        AVMNIST.prepare(progress=False, **SMALL)


def idx(magic: int, shape: list[int], body: bytes) -> bytes:
    return np.array([magic, *shape], ">i4").tobytes() + body


@pytest.mark.parametrize(("name", "content", "says"), [
    ("a-ubyte", idx(2049, [2, 28, 28], bytes(2 * 784)), "magic number 2049, expected 2051"),
    ("a-ubyte", idx(2051, [2, 28, 28], bytes(2 * 784 - 1)), "1583 bytes, but the header promises 2 x 28 x 28"),
    ("a-ubyte", idx(2051, [2, 28, 28], bytes(2 * 784 + 1)), "1585 bytes"),
    ("a-ubyte", idx(2051, [0, 28, 28], b""), "promises 0 x 28 x 28"),
    ("a-ubyte", idx(2051, [-1, -28, 28], bytes(784)), "promises -1"),
    ("a-ubyte", idx(2051, [2**31 - 1] * 3, bytes(784)), "promises 2147483647"),
    ("a-ubyte", b"\0\0", "magic number 0"),
    ("a-ubyte.gz", b"\0\0\x08\x03", "cannot be read"),
    ("a-ubyte.gz", None, "cannot be read"),
])  # fmt: skip
def test_B23_damaged_idx_files_are_named(tmp_path, name, content, says):
    path = tmp_path / name
    if content is None:  # a gzip file that was cut off
        write_idx(path, np.random.default_rng(0).integers(0, 256, (9, 28, 28)))
        content = path.read_bytes()[:-500]
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=says) as error:
        read_idx(path, 2051, None)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_B23_images_and_labels_must_agree(small):
    write_idx(small / "mnist" / "t10k-labels-idx1-ubyte", np.arange(239) % 10)
    with pytest.raises(ManifestError, match=r"t10k has images \(240, 28, 28\) and 239 labels"):
        AVMNIST.prepare(progress=False, **SMALL)
    write_idx(small / "mnist" / "t10k-labels-idx1-ubyte", np.arange(240) % 11)
    with pytest.raises(ManifestError, match="labels from 0 to 10"):
        AVMNIST.prepare(progress=False, **SMALL)


def test_a_split_without_recordings_is_refused(small):
    for path in (small / "fsdd" / "recordings").glob("*_[5-9].wav"):
        path.unlink()
    AVMNIST.prepare(progress=False, **SMALL)
    with pytest.raises(DataError, match="no recording belongs to val"):
        AVMNIST.module(**SMALL)


@pytest.mark.parametrize(("args", "says"), [
    ({"presett": "mel32"}, "no argument is called 'presett'; did you mean 'preset'?"),
    ({"preset": "mel64"}, "preset='mel64': input should be 'avmnist' or 'mel32'"),
    ({"k": 0}, "k=0: input should be greater than or equal to 1"),
    ({"k": "ten"}, "k='ten': input should be a valid integer"),
    ({"fold": 2}, "fold belongs to split=speaker_folds"),
    ({"split": "speaker_folds", "fold": 6}, "fold=6: input should be less than 6"),
    ({"eval_k": 0}, "eval_k=0: input should be greater than or equal to 1"),
    ({"image_noise": float("nan")}, "image_noise=nan"),
])  # fmt: skip
def test_arguments_are_checked(args, says):
    with pytest.raises(DataError, match=says.replace("?", r"\?")) as error:
        AVMNIST.module(**args)
    assert str(error.value).startswith("avmnist: ") and "\n" not in str(error.value)


KILLED = """
import os, signal, threading, sys
from datasets.avmnist import AVMNIST
from datasets import avmnist
from datasets.storage import build
build.CHUNK, build.BRIEF = 32, 0
calls = []
real = avmnist.noisy_second
def counted(*args):
    calls.append(1)
    if len(calls) == 100:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)
avmnist.noisy_second = counted
AVMNIST.prepare(progress=False, allow_unpinned=True, preset="mel32")
"""


@pytest.mark.long  # what is common to all datasets is killed in storage/test_cache.py
def test_a_killed_preparation_is_finished_later(small, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=False
    )
    assert done.returncode == -9 and not AVMNIST.ready(**SMALL)
    folder = AVMNIST.prepare(progress=False, **SMALL)
    killed = {p.name: p.read_bytes() for p in folder.iterdir()}
    folder.rename(tmp_path / "killed")
    assert {p.name: p.read_bytes() for p in AVMNIST.prepare(progress=False, **SMALL).iterdir()} == killed


def test_takes_divide_the_clips():
    clips = [Clip(0, "theo", take) for take in range(50)]
    assert {n: [c.take for c in cs] for n, cs in split_takes(clips).items()} == {
        "train": list(range(10, 50)), "val": list(range(5, 10)), "test": list(range(5))}  # fmt: skip
