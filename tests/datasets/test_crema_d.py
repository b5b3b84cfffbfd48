"""CREMA-D: split lists in every spelling, clips in the true layout, and samples that depend on their seed alone."""

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets import crema_d
from datasets.core.errors import (
    AudioDecodeError,
    CacheError,
    DataError,
    EmptyMediaError,
    LabelError,
    ManifestError,
    MissingMediaError,
    PinMismatchError,
    SplitLeakError,
    VideoDecodeError,
)
from datasets.core.loader import Loader
from datasets.core.split_lists import Pin, parse, read_pinned
from datasets.crema_d import CLASSES, DAMAGED, UNCLEAN, CremaD, actors, all_clips, carve, split_actors
from datasets.decode import audio, image_transforms
from datasets.decode.video import read_frames
from tests.helpers import clips
from tests.helpers.media import tone, wav_from_flv, write_flv, write_lists, write_wav
from tests.helpers.shared_media import shared

ROOT = Path(__file__).parents[2]
TRAIN = [
    f"{actor}_{sentence}_{emotion}_XX" for actor in (1001, 1002) for sentence in ("TAI", "IOM") for emotion in CLASSES
]
TEST = [f"1003_TAI_{emotion}_XX" for emotion in CLASSES]
OGM = {"allow_unpinned": True, "image_size": 64}
GENUINE = ("1001_DFA_ANG_XX", "1001_DFA_HAP_XX")


# ---- a small folder in the true layout


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """24 clips to train on, 6 to test, in a folder whose name is as awkward as names get."""
    raw = tmp_path_factory.mktemp("raw") / "-a & ü b" / "crema_d"
    for number, clip in enumerate(TRAIN + TEST):
        write_wav(raw / "AudioWAV" / f"{clip}.wav", tone(1.3 + number / 40, 16_000, 200 + 30 * number))
        write_flv(raw / "VideoFlash" / f"{clip}.flv", 32 + number)
    write_lists(raw / "splits", {"train.csv": TRAIN, "test.csv": TEST})
    return raw


@pytest.fixture(scope="module")
def prepared(written, tmp_path_factory):
    """The small folder, prepared; its raw files are not needed any more."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OGM_DATA", str(written.parent))
        patch.setenv("OGM_CACHE", str(cache))
        CremaD.prepare(progress=False, **OGM)
        patch.setenv("OGM_DATA", str(cache / "nothing"))
        yield CremaD.module(**OGM)


@pytest.fixture
def raw(written, tmp_path, monkeypatch):
    """A copy to damage."""
    folder = tmp_path / "raw" / "crema_d"
    shutil.copytree(written, folder)
    monkeypatch.setenv("OGM_DATA", str(tmp_path / "raw"))
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    return folder


def test_splits_are_those_of_the_lists(prepared):
    splits = prepared.splits()
    assert [len(s) for s in splits.values()] == [18, 6, 6]
    assert list(splits["test"].ids) == TEST and splits["test"].labels == list(range(6))
    for name in ("train", "val"):
        assert [clip for clip in TRAIN if clip in splits[name].ids] == list(splits[name].ids)  # in the list's order
        assert set(splits[name].report.per_class) == set(CLASSES)
    for emotion in CLASSES:  # validation: the clip with the smallest digest of each class
        clips = sorted((c for c in TRAIN if emotion in c), key=lambda c: hashlib.sha256(c.encode()).hexdigest())
        assert clips[0] in splits["val"].ids and not set(clips[1:]) & set(splits["val"].ids)
    for name, s in splits.items():
        assert s.report.listed == s.report.found == len(s)
        assert s.report.notes == ({} if name != "val" else {"actors_also_in_train": len(actors_of(s.ids))})


def actors_of(ids) -> set[str]:
    return {name[:4] for name in ids}


def test_evaluation_sees_the_middle_frame_and_the_whole_spectrogram(prepared, written):
    test = prepared.test
    for i, clip in enumerate(TEST):
        item = test[i]
        assert item["id"] == clip and item["label"] == i and item["visual"].shape == (3, 1, 64, 64)
        frames = read_frames(written / "VideoFlash" / f"{clip}.flv", 1, 360, 480)
        middle = torch.from_numpy(frames.pixels[len(frames.numbers) // 2])[None, None]
        assert torch.equal(item["visual"], image_transforms.plain_resize(middle, 64)[0])
        recording = audio.read_audio(written / "AudioWAV" / f"{clip}.wav")
        x = audio.tile(audio.resample(recording.samples[0], 16_000, 22_050), 66_150)
        assert torch.equal(item["audio"][0], audio.stft_log(x, 512, 353)) and item["audio"].shape == (1, 257, 188)
        assert torch.equal(test[i]["visual"], item["visual"])


def test_the_released_pick_is_the_first_frame_in_training_and_evaluation(prepared, written):
    released = CremaD.module(**OGM, pick="first")
    first = [released.train.inputs(torch.tensor([i]), torch.tensor([[0]]), [], None)["visual"][0] for i in range(6)]
    for seed in range(8):
        batch = released.train.batch([(i, seed) for i in range(6)])
        frames = [released.train.cache.rows("frames", clip).start for clip in released.train.ids[:6]]
        assert torch.equal(batch.inputs["visual"][:, 0], torch.from_numpy(released.train.cache["frames"][frames]))
    assert all(torch.equal(released.train[i]["visual"], first[i]) for i in range(6))
    assert not torch.equal(prepared.train[0]["visual"], first[0])  # the middle one
    assert released.train.fingerprint != prepared.train.fingerprint


def test_a_training_sample_depends_on_its_seed_alone(prepared):
    train = prepared.train
    alone = train[3, 42]
    assert alone["visual"].shape == (3, 1, 64, 64) and alone["visual"].dtype == torch.float32
    assert not torch.equal(alone["visual"], train[3, 43]["visual"])
    assert torch.equal(alone["audio"], train[3]["audio"])
    batch = train.augment(train.batch([(5, 7), (3, 42), (3, 43)]), [7, 42, 43])
    torch.testing.assert_close(batch.inputs["visual"][1], alone["visual"])


def test_workers_and_batch_sizes_change_nothing(prepared):
    def epoch(workers: int, batch_size: int) -> dict[int, torch.Tensor]:
        loader = Loader(prepared.train, batch_size=batch_size, seed=1, workers=workers, drop_last=False)
        return {int(i): x for b in loader.epoch(2) for i, x in zip(b.index, b.inputs["visual"], strict=True)}

    one, two, three = epoch(0, 6), epoch(2, 6), epoch(0, 5)
    assert sorted(one) == list(range(18))
    for i, x in one.items():
        assert torch.equal(x, two[i]), i
        torch.testing.assert_close(x, three[i])
    values = [b.inputs["visual"] for b in Loader(prepared.val, batch_size=4).all()]
    assert torch.equal(torch.cat(values)[5], prepared.val[5]["visual"])


def test_frames_are_drawn_from_all_of_the_clip(prepared):
    i = max(range(18), key=lambda i: int(prepared.train.count[i]))
    assert int(prepared.train.count[i]) == 2
    seen = Counter(prepared.train.batch([(i, seed)]).inputs["visual"].float().mean().item() for seed in range(40))
    assert len(seen) == 2 and min(seen.values()) > 8


def test_a_pickled_dataset_holds_no_frames(prepared):
    prepared.train.batch([0])
    data = pickle.dumps(prepared.train)
    assert len(data) < 100_000
    assert torch.equal(pickle.loads(data)[1]["visual"], prepared.train[1]["visual"])  # noqa: S301 (our own bytes)


@pytest.mark.parametrize(("preset", "sound", "frames"), [("paper299", (1, 257, 299), 1), ("bb", (1, 1024, 128), 2)])
def test_other_presets(raw, preset, sound, frames):
    args = OGM | {"preset": preset}
    CremaD.prepare(progress=False, **args)
    train = CremaD.module(**args).train
    for item in (train[0], train[0, 5]):
        assert item["audio"].shape == sound and item["visual"].shape == (3, frames, 64, 64)
        assert item["audio"].isfinite().all()
    assert train.fingerprint != CremaD.module(**args | {"image_size": 32}).train.fingerprint


def test_from_lists_to_an_epoch(raw, capsys):
    args = ["allow_unpinned=true", "image_size=64"]
    out = clips.command(capsys, "info", "crema_d", *args)
    assert "train.csv: 24 rows, CRLF, no byte order mark" in out
    assert "test: 6 samples of 6 classes (1 to 1 each); 0 clips and 0 sources are in train too" in out
    assert "train: 18 of 18" in clips.command(capsys, "prepare", "crema_d", *args)
    out = clips.command(capsys, "verify", "crema_d", *args)
    assert "published: OGM-GE: train 6698, test 744" in out and "ours: val 6 of 6" in out
    assert "val: actors_also_in_train " in out and "flv 480x360 at 29.97" in out
    clips.trains("crema_d", OGM, 6)


def test_B18_equal_sounds_are_found(raw, capsys):
    shutil.copy(raw / "AudioWAV" / f"{TRAIN[0]}.wav", raw / "AudioWAV" / f"{TEST[2]}.wav")
    CremaD.prepare(progress=False, **OGM)
    splits = CremaD.module(**OGM).splits()
    assert splits["test"].report.notes.get("media_also_in_train", 0) == (TRAIN[0] in splits["train"].ids)
    out = clips.command(capsys, "verify", "crema_d", "allow_unpinned=true", "image_size=64")
    assert "1 groups of clips with the same audio file, byte for byte" in out
    assert f"{TRAIN[0]} (NEU) = {TEST[2]} (SAD)" in out and "0 groups of clips with the same visual file" in out


@pytest.mark.long  # the shorter test below kills it too
def test_killed_and_damaged(raw, capsys, monkeypatch, tmp_path):
    clips.survives_kills(CremaD, OGM, capsys, monkeypatch, tmp_path, column="frames", kills=10)


def test_clean_leaves_out_ten_clips():
    full = CremaD.read_splits(CremaD.options({"split": "speaker_independent", "clean": False}), Path())[0]
    clean = CremaD.read_splits(CremaD.options({"split": "speaker_independent"}), Path())[0]
    gone = {name for rows in full.values() for name, _ in rows} - {name for rows in clean.values() for name, _ in rows}
    assert gone == set(UNCLEAN) and len(gone) == 10 and sum(map(len, clean.values())) == 7432
    assert not CremaD.options({}).is_clean and CremaD.options({"clean": True}).is_clean
    assert set(DAMAGED) <= {name for name, _ in full["train"] + full["val"] + full["test"]}


def test_genuine_recordings_in_mp3_are_read():
    recording = audio.read_track(shared("data", "media", "crema_d", "AudioMP3", "1002_DFA_ANG_XX.mp3"))
    assert recording.rate == 44_100 and not recording.notes and 1.5 < recording.samples.shape[1] / 44_100 < 4
    track = audio.read_track(shared("data", "media", "crema_d", "VideoFlash", f"{GENUINE[0]}.flv"))
    assert track.samples.shape[0] == 1 and track.rate == 44_100 and float(track.samples.abs().max()) > 0.02


def test_genuine_clips_go_all_the_way(raw):
    for clip in GENUINE:
        source = shared("data", "media", "crema_d", "VideoFlash", f"{clip}.flv")
        shutil.copy(source, raw / "VideoFlash")
        wav_from_flv(source, raw / "AudioWAV" / f"{clip}.wav")
    args = {"split": "speaker_independent", "max_missing": 7432 - 30 - 2, "image_size": 64}
    CremaD.prepare(progress=False, **args)
    splits = CremaD.module(**args).splits()
    assert {name: actors_of(s.ids) for name, s in splits.items()} == {
        "train": {"1003"},
        "val": {"1002"},
        "test": {"1001"},
    }
    assert {name: (s.report.listed, s.report.found, s.report.notes["missing"]) for name, s in splits.items()} == {
        "train": (4406, 6, 4400), "val": (1473, 12, 1461), "test": (1553, 14, 1539)}  # fmt: skip
    assert splits["test"].recipe["missing"] == 1539
    i = list(splits["test"].ids).index("1001_DFA_ANG_XX")
    item = splits["test"][i]
    assert item["label"] == CLASSES.index("ANG") and splits["test"].count[i] == 3
    assert item["visual"].std() > 0.4 and item["audio"].std() > 1
    with pytest.raises(MissingMediaError, match="7400 of 7432 are missing"):
        CremaD.module(**args | {"max_missing": 7399})


# ---- preparing


def test_the_commands_that_help_are_named(raw):
    with pytest.raises(DataError, match=r"run `python -m datasets prepare crema_d image_size=64 allow_unpinned=True`$"):
        CremaD.module(**OGM)
    shutil.rmtree(raw / "VideoFlash")
    with pytest.raises(DataError, match=r"run `python -m datasets download crema_d`$"):
        CremaD.module(**OGM)
    assert not CremaD.ready(**OGM) and "python -m datasets download crema_d" in CremaD.card.how_to_get


def test_B20_missing_clips_are_counted_and_named(raw):
    (raw / "AudioWAV" / f"{TRAIN[3]}.wav").unlink()
    (raw / "VideoFlash" / f"{TEST[2]}.flv").unlink()
    with pytest.raises(
        MissingMediaError, match=rf"2 of 30 are missing: \S.*{TRAIN[3]}\.wav, .*{TEST[2]}\.flv; .*max_missing=2"
    ):
        CremaD.prepare(progress=False, **OGM)
    CremaD.prepare(progress=False, max_missing=2, **OGM)
    with pytest.raises(MissingMediaError, match="2 of 30 are missing"):
        CremaD.module(**OGM)
    module = CremaD.module(max_missing=2, **OGM)
    assert module.test.report.notes["missing"] == 1 and module.test.recipe["missing"] == 1
    assert module.test.report.notes["classes_absent"] == 1
    assert sum(s.report.found for s in module.splits().values()) == 28


def test_a_clip_that_arrives_later_is_prepared_too(raw):
    clip = raw / "AudioWAV" / f"{TRAIN[3]}.wav"
    clip.rename(raw / "later")
    CremaD.prepare(progress=False, max_missing=1, **OGM)
    (raw / "later").rename(clip)
    CremaD.prepare(progress=False, **OGM)
    assert len(CremaD.module(**OGM).train) + len(CremaD.module(**OGM).val) == 24


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 81000\n"


@pytest.mark.parametrize(("folder", "damage", "error", "says"), [
    ("AudioWAV", lambda p: p.write_bytes(POINTER), AudioDecodeError, "git lfs pull"),
    ("AudioWAV", lambda p: p.write_bytes(b""), AudioDecodeError, "0 bytes"),
    ("AudioWAV", lambda p: p.write_bytes(b"x" * 900), AudioDecodeError, "not a recording"),
    ("AudioWAV", lambda p: write_wav(p, np.zeros(0)), EmptyMediaError, "without samples"),
    ("AudioWAV", lambda p: p.write_bytes(p.read_bytes()[:2000]), EmptyMediaError, "cut off"),
    ("VideoFlash", lambda p: p.write_bytes(POINTER), VideoDecodeError, "git lfs pull"),
    ("VideoFlash", lambda p: p.write_bytes(p.read_bytes()[:10]), VideoDecodeError, "not a readable video"),
    ("VideoFlash", lambda p: write_flv(p, video=False), VideoDecodeError, "no video stream"),
])  # fmt: skip
def test_bad_media_are_named_and_nothing_is_left_half_written(raw, folder, damage, error, says):
    path = next((raw / folder).glob(f"{TRAIN[5]}.*"))
    damage(path)
    with pytest.raises(error, match=says) as raised:
        CremaD.prepare(progress=False, **OGM)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value) and not CremaD.ready(**OGM)


def test_B1_B4_B8_what_can_be_used_is_counted(raw):
    def path(clip: str) -> Path:
        return raw / "AudioWAV" / f"{clip}.wav"

    path(TEST[0]).write_bytes(path(TEST[0]).read_bytes()[:20_000])
    write_wav(path(TEST[1]), np.zeros(20_000))
    write_wav(path(TEST[2]), np.stack([tone(1, 44_100)] * 2, 1), 44_100, "PCM_24")
    video = raw / "VideoFlash" / f"{TEST[3]}.flv"
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    write_flv(raw / "VideoFlash" / f"{TEST[4]}.flv", 30, size=(320, 240), sound=False)
    CremaD.prepare(progress=False, **OGM)
    test = CremaD.module(**OGM).test
    assert test.report.notes == {"audio_truncated": 1, "silent": 1, "video_partial": 1, "video_resized": 1}
    assert all(x.isfinite().all() for i in range(6) for x in test.load(i, None).values())
    torch.testing.assert_close(test[1]["audio"], torch.full((1, 257, 188), -16.118096), atol=1e-3, rtol=0)


def test_B14_a_file_whose_name_does_not_parse(raw):
    shutil.copy(raw / "AudioWAV" / f"{TRAIN[0]}.wav", raw / "AudioWAV" / "1001_TAI_NEU_X.wav")
    with pytest.raises(ManifestError, match="'1001_TAI_NEU_X' is not called ACTOR_SENTENCE_EMOTION_LEVEL"):
        CremaD.prepare(progress=False, **OGM)


def test_other_lists_are_noticed(raw):
    CremaD.prepare(progress=False, **OGM)
    before = CremaD.module(**OGM)
    assert CremaD.module(**OGM) is before
    write_lists(raw / "splits", {"test.csv": TEST[::-1]})
    CremaD.prepare(progress=False, **OGM)
    after = CremaD.module(**OGM)
    assert list(after.test.ids) == TEST[::-1] and after.test.fingerprint != before.test.fingerprint


def test_actor5_needs_no_list_and_ogm_says_which(raw):
    shutil.rmtree(raw / "splits")
    args = {"split": "speaker_independent", "max_missing": 7412, "image_size": 64}
    CremaD.prepare(progress=False, **args)
    assert CremaD.ready(**args) and not CremaD.ready(**OGM)
    for call in (CremaD.prepare, CremaD.module):
        with pytest.raises(
            MissingMediaError, match=r"train\.csv is missing: run `python -m datasets download crema_d`"
        ):
            call(**OGM)
    with pytest.raises(MissingMediaError, match="not one of the 1476 clips of test"):
        CremaD.module(**args | {"fold": 4})


KILLED = """
import os, signal
from datasets import crema_d
from datasets.storage import build
build.CHUNK, build.BRIEF = 8, 0
calls = []
real = crema_d.read_frames
def counted(*args):
    calls.append(1)
    if len(calls) == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)
crema_d.read_frames = counted
crema_d.CremaD.prepare(progress=False, allow_unpinned=True)
"""


@pytest.mark.long
def test_a_killed_preparation_keeps_what_it_had(raw, monkeypatch):
    done = subprocess.run(
        [sys.executable, "-c", KILLED], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=False
    )
    part = next((raw.parents[1] / "cache" / "crema_d").glob("*.part"))
    assert done.returncode == -9 and (part / "journal.jsonl").read_text().count('"key"') == 16
    decoded: list[Path] = []
    real = crema_d.read_frames
    monkeypatch.setattr(crema_d, "read_frames", lambda path, *args: decoded.append(path) or real(path, *args))
    CremaD.prepare(progress=False, **OGM)
    assert len(decoded) == len(TRAIN + TEST) - 16
    assert len(CremaD.module(**OGM).train) == 18


# ---- split lists


def read(folder: Path, **lists: bytes) -> dict:
    for name, text in {"train": rows(TRAIN), "test": rows(TEST), **lists}.items():
        (folder / f"{name}.csv").write_bytes(text)
    return listed("ogm", folder, allow_unpinned=True)


def listed(split: str, folder: Path, **args: bool) -> tuple[dict, Counter[str]]:
    return CremaD.listed_splits(CremaD.options({"split": split, **args}), folder)


def rows(clips: list[str], end: str = "\n") -> bytes:
    return "".join(f"{clip},{clip.split('_')[2]}{end}" for clip in clips).encode()


@pytest.mark.parametrize(("text", "notes"), [
    (rows(TRAIN, "\r\n"), {}),
    (rows(TRAIN, "\r"), {}),
    (b"\xef\xbb\xbf" + rows(TRAIN), {}),
    (rows(TRAIN, "  \n\n \n"), {}),
    (b"name,label\r\n" + rows(TRAIN, "\r\n"), {}),
    (b"FileName,Emotion\n" + rows(TRAIN), {}),
    (rows(TRAIN).replace(b",", b' , "').replace(b"\n", b'"\n'), {}),
    (rows(TRAIN, ',"a, b",7\n'), {"list_extra_columns": 24}),
    (rows(TRAIN + TRAIN[:3]), {"list_repeated_rows": 3}),
    (rows(TRAIN).rstrip(), {}),
])  # fmt: skip
def test_B12_B15_lists_in_every_spelling(tmp_path, text, notes):
    parts, found = read(tmp_path, train=text)
    assert sorted(name for name, _ in parts["train"] + parts["val"]) == sorted(TRAIN) and found == notes
    assert [len(parts[p]) for p in ("train", "val", "test")] == [18, 6, 6]


@pytest.mark.parametrize(("name", "text", "error", "says"), [
    ("train", rows(TRAIN) + b"1001_TAI_ANG_XX\n", ManifestError, "csv, line 25: '1001_TAI_ANG_XX' is not `id,label`"),
    ("train", rows(TRAIN) + b",ANG\n", ManifestError, "line 25"),
    ("train", b"\xff\xfe" + rows(TRAIN), ManifestError, "cannot be read as text"),
    ("train", rows(TRAIN).replace(b",SAD", b",sad"), LabelError, r"4 labels .*line 3: 'sad' \(nearest class: SAD\)"),
    ("train", rows(TRAIN).replace(b",SAD", b","), LabelError, "4 labels .*line 3: ''"),
    ("train", rows(TRAIN).replace(b",", b",X"), LabelError, "24 labels are none of .*line 10"),
    ("train", rows([*TRAIN, "1001_TAI_ANG"]), ManifestError, "'1001_TAI_ANG' is not called"),
    ("train", rows([*TRAIN, "../../1001_TAI_ANG_XX"]), ManifestError, "is not called"),
    ("train", rows(TRAIN) + b"1001_DFA_ANG_XX,SAD\n", LabelError, "listed as SAD, but its name says ANG"),
    ("train", rows(TRAIN) + TRAIN[0].encode() + b",SAD\n", LabelError, f"{TRAIN[0]} has two labels, NEU and SAD"),
    ("test", rows([*TEST, TRAIN[4]]), SplitLeakError, rf"1 samples .* {TRAIN[4]} \(train and test\)"),
    ("train", rows([c for c in TRAIN if "SAD" not in c]), LabelError, "no clip of SAD is left to train on"),
    ("train", b"", LabelError, "no clip of NEU, HAP, SAD, FEA, DIS, ANG"),
])  # fmt: skip
def test_B13_to_B16_B21_bad_lists_are_one_line(tmp_path, name, text, error, says):
    with pytest.raises(error, match=says) as raised:
        read(tmp_path, **{name: text})
    assert "\n" not in str(raised.value)


def test_B13_no_more_than_ten_examples():
    text = "".join(f"{c},X\n" for c in TRAIN)
    with pytest.raises(LabelError) as error:
        parse(text, Path("a.csv"), CLASSES)
    assert str(error.value).count("line ") == 10


def test_B19_lists_are_pinned_and_their_LF_twins_accepted(tmp_path):
    data = rows(TEST, "\r\n")
    pin = Pin(len(data), 6, hashlib.sha256(data).hexdigest(), hashlib.sha256(rows(TEST)).hexdigest())
    path = tmp_path / "a.csv"
    for content, notes in ((data, {}), (rows(TEST), {"list_lf_twin": 1})):
        path.write_bytes(content)
        assert read_pinned(path, pin)[1] == notes
    path.write_bytes(data + b"x")
    with pytest.raises(
        PinMismatchError, match=f"{len(data) + 1} bytes, 7 rows, sha256 .*expected {len(data)} bytes, 6 rows"
    ):
        read_pinned(path, pin)
    assert read_pinned(path, None)[1] == {}


def test_the_names_are_the_official_ones():
    names = all_clips()
    assert len(names) == len(set(names)) == 7442 and names == sorted(names)
    listed = (shared("data", "splits", "ogm", "crema_d_data.csv")).read_text().split()
    assert {row.split(",")[0] for row in listed} == set(names)


def test_the_published_lists(tmp_path):
    for name in ("train", "test"):
        shutil.copy(shared("data", "splits", "ogm", f"crema_d_{name}.csv"), tmp_path / f"{name}.csv")
    parts, notes = listed("ogm", tmp_path)
    counts = {name: [sum(c == i for _, c in part) for i in range(6)] for name, part in parts.items()}
    assert counts["test"] == counts["val"] == [114, 123, 140, 133, 129, 105] and not notes
    assert counts["train"] == [973 - 114, 1148 - 123, 1131 - 140, 1138 - 133, 1142 - 129, 1166 - 105]
    assert sorted(name for part in parts.values() for name, _ in part) == all_clips()
    assert len(actors(parts["train"]) & actors(parts["test"])) == 91
    with pytest.raises(MissingMediaError, match=r"my_train\.csv is missing: run `python -m datasets download crema_d`"):
        listed("ogm_val", tmp_path)


def test_ogm_val_takes_the_lists_it_is_given(tmp_path):
    write_lists(tmp_path, {"my_train.csv": TRAIN[:18], "val.csv": TRAIN[18:], "test.csv": TEST}, "\n")
    parts, _ = listed("ogm_val", tmp_path, allow_unpinned=True)
    assert [[name for name, _ in parts[p]] for p in ("train", "val", "test")] == [TRAIN[:18], TRAIN[18:], TEST]
    with pytest.raises(PinMismatchError):
        listed("ogm_val", tmp_path)


def test_actor5_keeps_actors_apart():
    folds = [split_actors(fold) for fold in range(5)]
    assert [len(parts["test"]) for parts in folds] == [1557, 1475, 1470, 1464, 1476]
    for fold, parts in enumerate(folds):
        assert parts["val"] == folds[(fold + 1) % 5]["test"]
        assert sum(map(len, parts.values())) == 7442
        assert not actors(parts["train"]) & (actors(parts["val"]) | actors(parts["test"]))
        assert not actors(parts["val"]) & actors(parts["test"])


def test_carving_does_not_depend_on_the_order():
    train, test = ([(c, CLASSES.index(c.split("_")[2])) for c in clips] for clips in (TRAIN, TEST))
    assert set(carve(train, test)[1]) == set(carve(train[::-1], test)[1])


@pytest.mark.parametrize(("args", "says"), [
    ({"splt": "ogm"}, "no argument is called 'splt'; did you mean 'split'"),
    ({"split": "ogm", "fold": 1}, "fold belongs to split=speaker_independent"),
    ({"max_missing": -1}, "max_missing=-1: input should be greater than or equal to 0"),
    ({"preset": 3}, "preset=3: input should be 'paper', 'paper299' or 'bb'"),
])  # fmt: skip
def test_arguments_are_checked(args, says):
    with pytest.raises(DataError, match=says):
        CremaD.prepare(**args)


def test_another_file_of_the_same_size_is_noticed(raw):
    clips.notices_changed_files(CremaD, OGM, raw / "AudioWAV" / f"{TRAIN[3]}.wav")


def test_another_list_is_noticed(raw):
    CremaD.prepare(progress=False, **OGM)
    write_lists(raw / "splits", {"test.csv": TEST[::-1]})
    with pytest.raises(
        CacheError, match=r"test\.csv has changed since it was prepared: run `python -m datasets prepare"
    ):
        CremaD.module(**OGM)
    (raw / "splits" / "test.csv").unlink()
    assert CremaD.module(**OGM).test.ids == TEST


def test_a_comparison_takes_the_folds_one_after_the_other() -> None:
    chosen = [CremaD.resplit({"split": "speaker_independent"}, number) for number in range(6)]
    assert chosen == [{"fold": fold} for fold in (0, 1, 2, 3, 4, 0)]
    assert CremaD.resplit({}, 1) == CremaD.resplit({"split": "speaker_independent", "fold": 2}, 1) == {}
