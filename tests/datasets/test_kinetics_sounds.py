"""Kinetics-Sounds: the published lists, both styles of names, and clips from download to an epoch of training."""

import hashlib
import json
import shutil
from dataclasses import replace

import pytest
import torch

from datasets.core.errors import LabelError, ManifestError, MissingMediaError, SplitLeakError
from datasets.core.split_lists import Pin
from datasets.decode import audio
from datasets.decode.video import read_jpegs
from datasets.kinetics_sounds import BML, CLASSES, TEST, TRAIN, KineticsSounds, clip_name, parse, parse_json
from tests.helpers import clips
from tests.helpers.media import write_clip
from tests.helpers.shared_media import shared

OWN = {"allow_unpinned": True, "image_size": 32}
LABELS = list(range(31))
TRAIN_ROWS = [
    f"{'-_'[i % 2]}_tr{i:07d}x_{3 * i:06d}_{3 * i + 10:06d}"[:11] + f"_{3 * i:06d}_{3 * i + 10:06d}" for i in LABELS
]
TEST_ROWS = ["-_test-0001_7", "__test-0002_34", "_-test-0003_0"]
VAL_ROWS = ["--val-00001_5", "_test-val02_60"]
LISTS = {
    TRAIN: "".join(f"{name},10,{i}\r\n" for i, name in enumerate(TRAIN_ROWS)).encode(),
    TEST: "".join(f"{name},10,{i}\r\n" for i, name in enumerate(TEST_ROWS)).encode(),
    BML: json.dumps({"labels": [], "database": {
        **{name: {"subset": "training", "label": CLASSES[i].replace(" ", "_")} for i, name in enumerate(TRAIN_ROWS)},
        **{name: {"subset": "testing", "label": CLASSES[i].replace(" ", "_")} for i, name in enumerate(TEST_ROWS)},
        **{name: {"subset": "validation", "label": "bowling"} for name in VAL_ROWS}}}).encode(),
}  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    raw = tmp_path_factory.mktemp("raw") / "kinetics_sounds"
    number = 0
    for folder, rows in (("train", TRAIN_ROWS), ("test", TEST_ROWS), ("val", VAL_ROWS)):
        for name in rows:
            number += 1
            size = [(80, 60), (64, 48), (40, 70)][number % 3]  # Kinetics has any size and rate
            write_clip(raw / folder / f"{clip_name(name)}.mp4", 1.5 + number % 2, size=size, rate=5 + number % 3,
                       hertz=200 + 20 * number)  # fmt: skip
    (raw / "splits").mkdir()
    for name, content in LISTS.items():
        (raw / "splits" / name).write_bytes(content)
    return raw


@pytest.fixture
def raw(written, tmp_path, monkeypatch):
    folder = tmp_path / "raw" / "kinetics_sounds"
    shutil.copytree(written, folder)
    monkeypatch.setenv("OGM_DATA", str(tmp_path / "raw"))
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    return folder


def own_pins(kind, lists, monkeypatch) -> None:
    """The published lists are not ours to copy: the server has the test's own, pinned alike."""
    pins = {n: Pin(len(c), 0, hashlib.sha256(c).hexdigest(), "") for n, c in lists.items()}
    monkeypatch.setattr(kind, "list_files", tuple(replace(file, pin=pins[file.name]) for file in kind.list_files))


def test_from_download_to_an_epoch(raw, capsys, monkeypatch):
    shutil.rmtree(raw / "splits")
    own_pins(KineticsSounds, LISTS, monkeypatch)
    clips.downloads(KineticsSounds, LISTS, capsys, monkeypatch)
    out = clips.command(capsys, "info", "kinetics_sounds")
    assert "my_train.txt: 31 rows, CRLF, no byte order mark" in out
    assert "val: 2 samples of 1 classes (2 to 2 each); 0 clips and 0 sources are in train too" in out
    assert "Three of the 2,597 test clips" in out
    out = clips.command(capsys, "prepare", "kinetics_sounds")
    assert "train: 31 of 31" in out and "val: 2 of 2; classes_absent 30" in out and "test: 3 of 3" in out
    out = clips.command(capsys, "verify", "kinetics_sounds")
    assert "published: OGM-GE's lists: train 14799, test 2597" in out and "ours: train 31 of 31" in out
    assert "0 groups of clips with the same audio and visual file" in out and "h264 80x60 at" in out
    clips.trains("kinetics_sounds", {"image_size": 32}, 31)


def test_samples_and_presets(raw):
    KineticsSounds.prepare(progress=False, **OWN)
    test = KineticsSounds.module(**OWN).test
    assert test.ids == ["-_test-0001_000007_000017", "__test-0002_000034_000044", "_-test-0003_000000_000010"]
    item = test[1]
    assert item["audio"].shape == (1, 257, 1004) and item["visual"].shape == (3, 3, 32, 32) and item["label"] == 1
    recording = audio.read_track(raw / "test" / "__test-0002_000034_000044.mp4")
    x = audio.tile(audio.resample(recording.samples.mean(0), 44_100, 16_000), 160_000).clamp(-1, 1)
    assert torch.equal(item["audio"][0], audio.psd_log(x, 16_000))
    bb = {**OWN, "preset": "bb", "max_missing": 36}
    KineticsSounds.prepare(progress=False, **bb)
    with pytest.raises(MissingMediaError, match=r"36 of 36 are missing: .*\(too_few_frames\)"):
        KineticsSounds.module(**{**bb, "max_missing": 0})


def test_bb_does_not_use_clips_of_three_frames(raw):
    clip = write_clip(raw / "one.mp4", 1.0, rate=6)
    jpegs = read_jpegs(clip, "every", 1)[0]
    for path in [*raw.glob("t*/*.mp4"), *raw.glob("val/*.mp4")]:
        (raw / "frames" / path.stem).mkdir(parents=True)
        shutil.copy(clip, path)
        few = path.stem.startswith("--val")
        for number, jpeg in enumerate(jpegs[: 3 if few else 6]):
            (raw / "frames" / path.stem / f"frame_{number + 1:05d}.jpg").write_bytes(jpeg)
        (raw / "frames" / path.stem / "notes.txt").write_text("not a picture")
    args = {**OWN, "preset": "bb", "max_missing": 1}
    KineticsSounds.prepare(progress=False, **args)
    splits = KineticsSounds.module(**args)
    assert splits.val.report.notes["too_few_frames"] == splits.val.report.notes["missing"] == 1
    assert splits.val.recipe["missing"] == 1 and splits.test.report.notes["frames_as_found"] == 3
    item = splits.train[0, 5]
    assert item["audio"].shape == (1, 1024, 128) and item["visual"].shape == (3, 3, 32, 32)
    assert torch.equal(splits.test[0]["visual"][:, 0], splits.test[0]["visual"][:, 2])  # six frames: the first, thrice


@pytest.mark.long  # what is common to all sets of clips runs with AVE and CREMA-D
def test_killed_and_damaged(raw, capsys, monkeypatch, tmp_path):
    clips.survives_kills(KineticsSounds, OWN, capsys, monkeypatch, tmp_path)


def test_missing_clips_are_counted_and_named(raw):
    (raw / "test" / "__test-0002_000034_000044.mp4").unlink()
    with pytest.raises(MissingMediaError, match=r"1 of 36 are missing: .*__test-0002_000034_000044\.mp4"):
        KineticsSounds.prepare(progress=False, **OWN)
    KineticsSounds.prepare(progress=False, max_missing=1, **OWN)
    report = KineticsSounds.module(max_missing=1, **OWN).test.report
    assert (report.listed, report.found, report.notes["missing"]) == (3, 2, 1)


def test_carved_needs_no_videos_of_the_validation_set(raw):
    rows = "".join(f"{name[:2]}{k:02d}{name[4:]},10,{i}\n" for i, name in enumerate(TRAIN_ROWS) for k in range(11))
    path = raw / "splits" / TRAIN
    path.write_text(rows)
    (raw / "splits" / BML).unlink()
    splits, _ = KineticsSounds.read_splits(KineticsSounds.options({**OWN, "split": "carved"}), path.parent)
    assert [len(splits[p]) for p in ("train", "val", "test")] == [31, 310, 3]
    assert {label for _, label in splits["train"]} == set(LABELS)


def test_the_published_lists(tmp_path):
    rows, notes = parse(shared("data", "splits", "ogm", "kinetics_sounds_my_train.txt").read_text(), tmp_path)
    test, odd = parse(shared("data", "splits", "ogm", "kinetics_sounds_my_test.txt").read_text(), tmp_path)
    assert len(rows) == 14_799 and len(test) == 2597 and not notes and not odd
    counts = [sum(c == i for _, c in rows) for i in range(31)], [sum(c == i for _, c in test) for i in range(31)]
    assert counts[0][:5] == [268, 690, 607, 512, 497] and counts[0][25:] == [672, 197, 523, 433, 354, 254]
    assert counts[1][:5] == [81, 92, 87, 87, 87] and counts[1][25:] == [66, 85, 84, 91, 76, 63]
    assert max(name for name, _ in rows).startswith("hLaWh4pHGp8") and rows[0] == ("--4-0ihtnBU_000058_000068", 4)
    assert test[0] == ("-3Mwkq-7TV4_000002_000012", 23) and not {n for n, _ in rows} & {n for n, _ in test}
    for name, other in ((TRAIN, "train"), (TEST, "test")):
        shutil.copy(shared("data", "splits", "ogm", f"kinetics_sounds_my_{other}.txt"), tmp_path / name)
    options = KineticsSounds.options({"split": "carved"})  # with the published pins
    splits, notes = KineticsSounds.read_splits(options, tmp_path)
    assert len(splits["train"]) + len(splits["val"]) == 14_799 and not notes
    groups = {part: {name[:11] for name, _ in part_rows} for part, part_rows in splits.items()}
    assert not groups["train"] & groups["val"] and min(map(len, groups.values())) > 700
    assert len(splits["val"]) == len(groups["val"]) == sum(max(n * 5 // 100, 10) for n in counts[0])


def test_the_class_list_is_the_canonical_one():
    digest = hashlib.sha256("".join(f"{name}\n" for name in CLASSES).encode()).hexdigest()
    assert digest == "845b4a5a69c28950c0b3d05bdc3163eb88266780aae4a86c80ec7f77994e3dc4"


def test_the_list_that_trains_on_test_is_refused(raw):
    leaky = json.loads(LISTS[BML])
    for about in leaky["database"].values():
        about["subset"] = about["subset"].replace("testing", "training")
    (raw / "splits" / BML).write_text(json.dumps(leaky))
    with pytest.raises(SplitLeakError, match=r"3 samples .*\(training of KS_train_val\.json and test\)"):
        KineticsSounds.prepare(progress=False, **OWN)


@pytest.mark.parametrize(("text", "error", "says"), [
    ("abc_1,10,3\n", ManifestError, "line 1: 'abc_1' is not called ID_START"),
    ("../../../e_1,10,3\n", ManifestError, "line 1"),
    ("-3Mwkq-7TV4_2,10,31\n", LabelError, "line 1: '31'"),
    ("-3Mwkq-7TV4_2,10\n", ManifestError, "is not `name,seconds,class number`"),
    ("-3Mwkq-7TV4_2,10,1\n-3Mwkq-7TV4_000002_000012,10,2\n", LabelError, "has two labels, 1 and 2"),
])  # fmt: skip
def test_bad_rows_are_one_line(tmp_path, text, error, says):
    with pytest.raises(error, match=says) as raised:
        parse(text, tmp_path / "a.txt")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("text", "error"), [
    ("[1]", ManifestError), ("{", ManifestError), ('{"database": {"x": {}}}', ManifestError),
    ('{"database": {"abc": {"subset": "training", "label": "bowling"}}}', ManifestError),
    ('{"database": {"-3Mwkq-7TV4_2": {"subset": "training", "label": "bowlin"}}}', LabelError),
])  # fmt: skip
def test_bad_json_is_one_line(tmp_path, text, error):
    with pytest.raises(error) as raised:
        parse_json(text, tmp_path / "a.json")
    assert "\n" not in str(raised.value)


@pytest.mark.long  # what is common to all sets of clips runs with CREMA-D
def test_another_file_of_the_same_size_is_noticed(raw):
    clips.notices_changed_files(KineticsSounds, OWN, sorted((raw / "train").glob("*.mp4"))[0])
