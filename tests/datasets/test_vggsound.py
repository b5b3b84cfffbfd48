"""VGGSound: the published counts, every spelling of names and folders, and clips from download to an epoch."""

import hashlib
import shutil
from dataclasses import replace

import pytest
import torch

from datasets.core.errors import LabelError, ManifestError, MissingMediaError, PinMismatchError, SplitLeakError
from datasets.core.split_lists import GitBlob
from datasets.core.split_lists import parse as parse_simple
from datasets.decode import audio
from datasets.decode.video import read_jpegs
from datasets.vggsound import CLASSES, LATEST, VGGSound, parse, plain_name, spectrogram, window_start
from tests.helpers import clips
from tests.helpers.media import tone, write_clip, write_wav
from tests.helpers.shared_media import shared

OWN = {"allow_unpinned": True, "image_size": 32}
FEW = (16, 63, 308)  # one of the names with commas among them


def row(video: str, start: int, label: str, split: str) -> str:
    return f"{video},{start},{label if ',' not in label else chr(34) + label + chr(34)},{split}\r\n"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Three classes: 11 clips to train on each (10 go to validation), 2 to test; two clips of one video."""
    raw = tmp_path_factory.mktemp("raw") / "vggsound"
    rows, number = [], 0
    for label in (CLASSES[i] for i in FEW):
        for split, count in (("train", 12), ("test", 2)):
            for k in range(count):
                number += 1
                number_in_class = k // 2 if split == "test" else k
                video = f"-{split[:2]}_{FEW.index(CLASSES.index(label))}_{number_in_class:05d}"
                start = 30 + k
                rows.append(row(video, start, label, split))
                stem = f"{video}_{start:06d}" if number % 2 else f"{video}_{start}"  # both spellings
                suffix = ".webm" if number % 9 == 0 else ".mp4"
                write_clip(raw / ("train" if number % 3 else "test") / f"{stem}{suffix}", 4.0, rate=4, size=(48, 40),
                           hertz=150 + 20 * number)  # fmt: skip
    (raw / "splits").mkdir()
    (raw / "splits" / "vggsound.csv").write_text("".join(rows), newline="")
    return raw


@pytest.fixture
def raw(small, tmp_path, monkeypatch):
    folder = tmp_path / "raw" / "vggsound"
    shutil.copytree(small, folder)
    monkeypatch.setenv("OGM_DATA", str(tmp_path / "raw"))
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(VGGSound, "classes", tuple(CLASSES[i] for i in FEW))
    monkeypatch.setattr("datasets.vggsound.CLASSES", tuple(CLASSES[i] for i in FEW))
    return folder


def blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def test_from_download_to_an_epoch(raw, capsys, monkeypatch):
    content = (raw / "splits" / "vggsound.csv").read_bytes()
    shutil.rmtree(raw / "splits")
    (file,) = VGGSound.list_files
    monkeypatch.setattr(VGGSound, "list_files", (replace(file, pin=GitBlob((blob(content),), 10_000)),))
    clips.downloads(VGGSound, {"vggsound.csv": content}, capsys, monkeypatch)
    (raw / "splits" / "vggsound.csv").write_bytes(content.replace(b"\r\n", b"\n"))
    out = clips.refusal(capsys, "prepare", "vggsound")
    assert "not the published list" in out and "git blob" in out
    (raw / "splits" / "vggsound.csv").write_bytes(content)
    out = clips.command(capsys, "info", "vggsound")
    assert "vggsound.csv: 42 rows, CRLF" in out and "test: 6 samples of 3 classes (2 to 2 each)" in out
    out = clips.command(capsys, "prepare", "vggsound")
    assert "train: 6 of 6" in out and "val: 30 of 30" in out and "test: 6 of 6" in out
    out = clips.command(capsys, "verify", "vggsound")
    assert "published: the authors: 199176 clips, train 183730, test 15446" in out and "ours: val 30 of 30" in out
    assert "vp9 48x40" in out or "h264 48x40" in out
    clips.trains("vggsound", {"image_size": 32}, 3)


def test_evaluation_hears_the_middle_and_training_any_part(raw):
    VGGSound.prepare(progress=False, **OWN)
    splits = VGGSound.module(**OWN)
    train, test = splits.train, splits.test
    item = test[0]
    path = next(p for p in raw.glob("t*/*") if p.stem in (test.ids[0], plain_name(test.ids[0])))
    recording = audio.read_track(path)
    x = audio.tile(audio.resample(recording.samples.mean(0), recording.rate, 16_000), 160_000)
    assert item["audio"].shape == (1, 129, 626) and item["visual"].shape == (3, 3, 32, 32)
    loud = item["audio"][0] > -2  # where 16 bits are exact enough
    assert (item["audio"][0] - audio.stft_log(x[40_000:120_000], 256, 128))[loud].abs().max() < 1e-3
    assert not torch.equal(train[0, 1]["audio"], train[0, 2]["audio"])
    assert torch.equal(train[0, 1]["audio"], train[0, 1]["audio"])
    batch = train.augment(train.batch([(1, 5), (0, 1)]), [5, 1])
    assert torch.equal(batch.inputs["audio"][1], train[0, 1]["audio"])
    stored = torch.from_numpy(train.cache["audio"][train.audio_rows[0]].copy())
    start = window_start(1)
    assert torch.equal(train[0, 1]["audio"][0], spectrogram(stored[start : start + 80_000]))


def test_windows_reach_from_the_first_sample_to_the_last():
    starts = [window_start(seed) for seed in range(4000)]
    assert min(starts) >= 0 and max(starts) <= LATEST and min(starts) < 200 and max(starts) > LATEST - 200


def test_bb_and_what_somebody_extracted_already(raw):
    """Recordings and folders of frames are preferred, with and without .mp4 in their names."""
    jpegs = read_jpegs(next(raw.glob("t*/*.mp4")), "every", 1)[0]
    for number, path in enumerate(sorted(raw.glob("t*/*"))):
        folder = raw / "frames" / path.parent.name / "Image-01-FPS" / (path.stem + (".mp4" if number % 2 else ""))
        folder.mkdir(parents=True)
        for c, jpeg in enumerate(jpegs[:8]):
            (folder / f"{c:05d}.jpg").write_bytes(jpeg)
        write_wav(raw / "audio" / path.parent.name / f"{path.stem}.wav", tone(2, 16_000, 200 + number))
    for path in raw.glob("t*/*"):
        path.unlink()
    args = {**OWN, "preset": "bb"}
    VGGSound.prepare(progress=False, **args)
    test = VGGSound.module(**args).test
    assert test.report.notes["frames_as_found"] == 6 and test.report.found == 6
    assert test[0]["audio"].shape == (1, 1024, 128) and test[0]["visual"].shape == (3, 3, 32, 32)


def test_clips_of_three_frames_are_not_used(raw):
    path = next(iter(raw.glob("t*/*_000030.mp4")))
    write_clip(path, 2.4, rate=4, size=(48, 40))
    VGGSound.prepare(progress=False, **OWN)
    with pytest.raises(MissingMediaError, match=r"1 of 42 are missing: .*\(too_few_frames\); .*max_missing=1"):
        VGGSound.module(**OWN)
    splits = VGGSound.module(max_missing=1, **OWN).splits()
    assert sum(s.report.notes.get("too_few_frames", 0) for s in splits.values()) == 1


def test_equal_videos_and_shared_sources_are_counted(raw, capsys):
    text = (raw / "splits" / "vggsound.csv").read_text()
    (raw / "splits" / "vggsound.csv").write_text(text + row("-tr_1_00003", 500, CLASSES[63], "test"))
    options = VGGSound.options(OWN)
    splits, _ = VGGSound.read_splits(options, raw / "splits")
    name = splits["train"][0][0]
    shutil.copy(next(p for p in raw.glob("t*/*") if p.stem in (name, plain_name(name))), raw / "train" / "twin.mp4")
    extra = f"{name[:11]}_000999"
    (raw / "train" / "twin.mp4").rename(raw / "train" / f"{extra}.mp4")
    label = VGGSound.classes[splits["train"][0][1]]
    (raw / "splits" / "vggsound.csv").write_text(text + row(name[:11], 999, label, "test"))
    VGGSound.prepare(progress=False, **OWN)
    test = VGGSound.module(**OWN).test
    assert test.report.notes["groups_also_in_train"] == test.report.notes["media_also_in_train"] == 1
    out = clips.command(capsys, "verify", "vggsound", "allow_unpinned=true", "image_size=32")
    assert "1 groups of clips with the same audio and visual file" in out and f"{name} ({label}) = " in out
    assert "1 sources are in train too" in clips.command(capsys, "info", "vggsound", "allow_unpinned=true")


@pytest.mark.long  # what is common to all sets of clips runs with AVE and CREMA-D
def test_killed_and_damaged(raw, capsys, monkeypatch, tmp_path):
    clips.survives_kills(VGGSound, OWN, capsys, monkeypatch, tmp_path)


def test_the_class_list_and_the_published_files(tmp_path):
    digest = hashlib.sha256("".join(f"{name}\n" for name in CLASSES).encode()).hexdigest()
    assert digest == "45c537f971c8ea8e175c8cebd4bdd2b4c4f579dd4e3c4309e4be6e482168b871" and len(CLASSES) == 309
    assert sum("," in name for name in CLASSES) == 23
    rows, notes = parse_simple(shared("data", "splits", "hche11", "test.csv").read_text(), tmp_path, CLASSES)
    assert len(rows) == 15_446 and not notes and len({name[:11] for name, _ in rows}) == 14_851
    counts = [sum(c == i for _, c in rows) for i in range(309)]
    assert set(counts) == {49, 50}
    stat = shared("data", "splits", "hche11", "stat.csv").read_text()
    sizes = {name: int(size) for name, size in _pairs(stat)}
    assert set(sizes) == set(CLASSES) and sum(sizes.values()) == 199_176
    assert (min(sizes.values()), max(sizes.values())) == (197, 1050)


def _pairs(text: str):
    import csv

    return [(fields[0], fields[1]) for fields in csv.reader(text.splitlines())]


def test_rows_as_the_authors_write_them(tmp_path):
    text = '---g-f_I2yQ,1,people marching,test\r\n---g-f_I2yQ,31,"female speech, woman speaking",train\r\n'
    parts, notes = parse(text, tmp_path)
    assert parts["test"] == [("---g-f_I2yQ_000001", CLASSES.index("people marching"))] and not notes
    assert parts["train"] == [("---g-f_I2yQ_000031", CLASSES.index("female speech, woman speaking"))]
    assert plain_name("---g-f_I2yQ_000031") == "---g-f_I2yQ_31"
    headed, _ = parse("# YouTube ID,start seconds,label,train/test split\n" + text, tmp_path)
    assert headed == parts


@pytest.mark.parametrize(("text", "error", "says"), [
    ("---g-f_I2yQ,1,people marching\n", ManifestError, "line 1"),
    ("---g-f_I2yQ,1,people marching,val\n", ManifestError, "'val' is neither train nor test"),
    ("../../etc/p,1,people marching,test\n", ManifestError, "is no YouTube id"),
    ("---g-f_I2yQ,1.5,people marching,test\n", ManifestError, "'1.5'"),
    ("---g-f_I2yQ,1,people marchin,test\n", LabelError, "nearest class: people marching"),
    ("---g-f_I2yQ,1,hail,test\n---g-f_I2yQ,1,goose honking,test\n", LabelError, "has two labels, hail and goose"),
])  # fmt: skip
def test_bad_rows_are_one_line(tmp_path, text, error, says):
    with pytest.raises(error, match=says) as raised:
        parse(text, tmp_path / "a.csv")
    assert "\n" not in str(raised.value)


def test_a_clip_in_train_and_test_is_a_leak(raw):
    path = raw / "splits" / "vggsound.csv"
    rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join(rows) + rows[0].replace("train", "test"))
    with pytest.raises(SplitLeakError, match="1 samples stand in two splits"):
        VGGSound.prepare(progress=False, **OWN)


def test_another_list_is_refused(raw):
    with pytest.raises(PinMismatchError, match=r"expected git blob 53da0dc4.* or dbcbf5b7"):
        VGGSound.prepare(progress=False)


@pytest.mark.long  # what is common to all sets of clips runs with CREMA-D
def test_another_file_of_the_same_size_is_noticed(raw):
    clips.notices_changed_files(VGGSound, OWN, sorted((raw / "train").glob("*.mp4"))[0])
