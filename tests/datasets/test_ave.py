"""AVE: its lists with all their contradictions, its videos, from download to an epoch of training."""

import hashlib
import shutil
from collections import Counter

import pytest
import torch

from benchmarks.callbacks.progress import summary
from benchmarks.runner.environment import RunEnvironment
from benchmarks.runner.run import run
from datasets.ave import AVE, CLASSES, parse
from datasets.core.errors import LabelError, ManifestError, MissingMediaError, NoAudioTrackError, PinMismatchError
from datasets.decode import audio, image_files, image_transforms
from datasets.decode.video import read_jpegs
from tests.helpers import clips
from tests.helpers.media import write_clip

A, B = "Accordion", "Church bell"
# every class once in train; one video with two labels, one in train and test, one row that lasts no time
TRAIN = [f"{name}&-tr_{i:08d}&good&0&10" for i, name in enumerate(CLASSES)]
TRAIN += [f"{A}&two_labels-1&good&2&5", f"{B}&two_labels-1&good&2&5"]
TRAIN += [f"{B}&shared_00000&good&0&10", f"{B}&zero_length0&good&0&0"]
VAL = [f"{A}&-val_0000000&good&0&10", f"{B}&-val_0000001&good&0&10"]
TEST = [f"{A}&_te-0000000&good&0&10", f"{A}&shared_00000&good&0&10"]
OWN = {"allow_unpinned": True, "image_size": 32}


def text(rows: list[str], end: str = "\n") -> bytes:
    return "".join(row + end for row in rows).encode()


LISTS = {
    "trainSet.txt": text(TRAIN, "\r\n"),
    "valSet.txt": text(VAL),
    "testSet.txt": text(TEST),
    "Annotations.txt": text(["Category&VideoID&Quality&StartTime&EndTime", *TEST, *TRAIN[::-1], *VAL]),
}


def write_lists(folder, **changed: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {**LISTS, **{f"{k}.txt": v for k, v in changed.items()}}.items():
        (folder / name).write_bytes(content)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    raw = tmp_path_factory.mktemp("raw") / "ave"
    videos = sorted({row.split("&")[1] for row in TRAIN + VAL + TEST})
    for number, video in enumerate(videos):
        suffix = (".mp4", ".webm")[number % 8 == 0]
        write_clip(raw / "AVE" / f"{video}{suffix}", 1.0, hertz=200 + 20 * number)
    write_lists(raw / "splits")
    return raw


@pytest.fixture
def raw(written, tmp_path, monkeypatch):
    folder = tmp_path / "raw" / "ave"
    shutil.copytree(written, folder)
    monkeypatch.setenv("OGM_DATA", str(tmp_path / "raw"))
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture(scope="module")
def prepared(written, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OGM_DATA", str(written.parent))
        patch.setenv("OGM_CACHE", str(tmp_path_factory.mktemp("cache")))
        AVE.prepare(progress=False, **OWN)
        AVE.prepare(progress=False, split="clean", **OWN)
        patch.setenv("OGM_DATA", "nothing")  # the prepared set is enough by itself
        yield {split: AVE.module(split=split, **OWN) for split in ("paper", "clean")}


def test_the_class_list_is_the_canonical_one():
    digest = hashlib.sha256("".join(f"{name}\n" for name in CLASSES).encode()).hexdigest()
    assert digest == "3fa75a9c079bd9da5c1a4cf422376db525b52882a31674c3d530dc7fed21af46"


def test_from_download_to_an_epoch(raw, capsys, monkeypatch):
    shutil.rmtree(raw / "splits")
    for name, content in LISTS.items():  # the published lists are not ours to copy: pin our own
        file = next(f for f in AVE.list_files if f.name == name)
        own = type(file.pin)(len(content), 0, hashlib.sha256(content).hexdigest(), "")
        monkeypatch.setattr(AVE, "list_files", tuple(type(f)(f.name, f.url, own) if f == file else f
                                                     for f in AVE.list_files))  # fmt: skip
    clips.downloads(AVE, LISTS, capsys, monkeypatch)
    out = clips.command(capsys, "info", "ave")
    assert "trainSet.txt: 32 rows, CRLF, no byte order mark" in out
    assert "test: 2 samples of 1 classes (2 to 2 each); 1 clips and 1 sources are in train too" in out
    assert "list_zero_length 1: " in out and "videos_with_more_labels 1: " in out
    out = clips.command(capsys, "prepare", "ave")
    assert "train: 32 of 32" in out and "test: 2 of 2" in out
    out = clips.command(capsys, "verify", "ave")
    assert "testSet.txt: 2 rows, LF, no byte order mark, sha256 " in out
    assert "published: the authors: train 3339, val 402, test 402" in out and "ours: test 2 of 2" in out
    assert "test: groups_also_in_train 1: " in out and "0 groups of clips with the same" in out
    clips.trains("ave", {"image_size": 32}, 28)


def test_paper_keeps_every_row_and_clean_one_per_video(prepared):
    paper, clean = prepared["paper"].splits(), prepared["clean"].splits()
    assert {name: len(s) for name, s in paper.items()} == {"train": 32, "val": 2, "test": 2}
    assert paper["test"].ids == [f"{A}&_te-0000000", f"{A}&shared_00000"] and paper["test"].labels == [0, 0]
    assert paper["test"].report.notes["groups_also_in_train"] == paper["test"].report.notes["media_also_in_train"] == 1
    assert {name: len(s) for name, s in clean.items()} == {"train": 30, "val": 2, "test": 2}
    assert f"{B}&shared_00000" not in clean["train"].ids and f"{A}&shared_00000" in clean["test"].ids
    assert f"{B}&two_labels-1" in clean["train"].ids  # Annotations.txt names it first
    assert "groups_also_in_train" not in clean["test"].report.notes
    assert paper["train"].fingerprint != clean["train"].fingerprint
    assert paper["train"].cache.folder == clean["train"].cache.folder


def test_samples_are_what_the_paper_sees(prepared, written):
    test = prepared["paper"].test
    path = next((written / "AVE").glob("_te-0000000.*"))
    item = test[0]
    x = audio.tile(audio.resample(audio.mono(audio.read_track(path).samples), 44_100, 16_000), 160_000)
    assert item["audio"].shape == (1, 257, 1004)
    assert torch.equal(item["audio"][0], audio.psd_log(x.clamp(-1, 1), 16_000))
    jpegs = read_jpegs(path, "time_centres", 10)[0]
    want = torch.stack([torch.from_numpy(image_files.scaled(jpegs[i], 32).copy()) for i in (0, 3, 6)])
    assert torch.equal(item["visual"], image_transforms.normalise(want[None])[0]) and item["visual"].shape == (
        3,
        3,
        32,
        32,
    )


def test_a_training_sample_depends_on_its_seed_alone(prepared):
    train = prepared["paper"].train
    alone = train[3, 42]
    assert not torch.equal(alone["visual"], train[3, 43]["visual"])
    batch = train.augment(train.batch([(5, 7), (3, 42)]), [7, 42])
    assert torch.equal(batch.inputs["visual"][1], alone["visual"])
    assert torch.equal(alone["audio"], train[3]["audio"])


@pytest.mark.long
def test_killed_and_damaged(raw, capsys, monkeypatch, tmp_path):
    clips.survives_kills(AVE, OWN, capsys, monkeypatch, tmp_path, kills=2)


def test_missing_silent_and_broken_videos_are_counted(raw, capsys):
    def video(name: str):
        return next((raw / "AVE").glob(f"{name}.*"))

    write_clip(video("-val_0000000"), 1.0, sound=False)
    with pytest.raises(NoAudioTrackError, match=r"-val_0000000\.\w+: there is no sound in it"):
        AVE.prepare(progress=False, **OWN)
    video("-tr_00000003").unlink()
    with pytest.raises(MissingMediaError, match=r"1 of 34 are missing: .*-tr_00000003\.mp4.*max_missing=1"):
        AVE.prepare(progress=False, **OWN)
    with pytest.raises(NoAudioTrackError):
        AVE.prepare(progress=False, max_missing=1, **OWN)
    (raw / "splits" / "trainSet.txt").write_bytes(text([*TRAIN, f"{CLASSES[3]}&-val_0000000&good&0&10"]))
    AVE.prepare(progress=False, max_missing=2, **OWN)
    with pytest.raises(MissingMediaError, match=r"2 of 34 are missing: .*-val_0000000 \(.*there is no sound in it"):
        AVE.module(**OWN)
    with pytest.raises(LabelError, match=f"no clip of {CLASSES[3]} is left to train on"):
        AVE.module(max_missing=2, **OWN)
    (raw / "splits" / "trainSet.txt").write_bytes(text([*TRAIN, f"{CLASSES[3]}&-tr_00000004&good&0&10"]))
    AVE.prepare(progress=False, max_missing=2, **OWN)
    val = AVE.module(max_missing=2, **OWN).val
    assert val.report.notes["missing"] == val.report.notes["unreadable"] == 1 and val.report.found == 1
    out = clips.command(capsys, "verify", "ave", "allow_unpinned=true", "image_size=32", "max_missing=2")
    assert "val: unreadable 1: " in out and "there is no sound in it" in out


@pytest.mark.filterwarnings("ignore:The number of unique classes")  # the probe of so few samples
def test_every_number_says_that_it_is_incomplete(raw, tmp_path, monkeypatch):
    next((raw / "AVE").glob("_te-0000000.*")).unlink()
    args = {**OWN, "max_missing": 1}
    AVE.prepare(progress=False, **args)
    record = run(clips.one_epoch("ave", args), RunEnvironment(tmp_path / "results", tmp_path / "work"))
    assert record.data["report"]["test"]["notes"]["missing"] == 1
    assert record.data["recipe"]["missing"] == 0  # of train
    assert "; INCOMPLETE: test 1 of 2" in summary(record)


def test_pins_are_those_of_the_published_lists(raw):
    with pytest.raises(PinMismatchError, match=r"trainSet\.txt: not the published list: .* expected 116313 bytes"):
        AVE.prepare(progress=False)


@pytest.mark.parametrize(("content", "error", "says"), [
    (b"Accordion&x&good&0\n", ManifestError, "line 1: 'Accordion&x&good&0' is not `Category&VideoID"),
    (b"Accordion&x&good&5&2\n", ManifestError, "line 1: 'x' from '5' to '2' s is no part of a video"),
    (b"Accordion&../x&good&0&2\n", ManifestError, "'../x' from '0' to '2'"),
    (b"accordion&x&good&0&10\n", LabelError, r"line 1: 'accordion' \(nearest class: Accordion\)"),
    (b"&x&good&0&10\n", ManifestError, "line 1"),
])  # fmt: skip
def test_bad_rows_are_one_line(tmp_path, content, error, says):
    with pytest.raises(error, match=says) as raised:
        parse(content.decode(), tmp_path / "a.txt")
    assert "\n" not in str(raised.value)


def test_a_header_and_repeated_rows(tmp_path):
    rows, notes = parse("Category&VideoID&Quality&StartTime&EndTime\r\n" + f"{TEST[0]}\r\n" * 3, tmp_path / "a.txt")
    assert rows == [(f"{A}&_te-0000000", 0)] and notes == Counter(list_repeated_rows=2)


@pytest.mark.long  # what is common to all sets of clips runs with CREMA-D
def test_another_file_of_the_same_size_is_noticed(raw):
    clips.notices_changed_files(AVE, OWN, sorted((raw / "AVE").glob("*.mp4"))[0])
