"""RAVDESS: archives in the true layout, names, splits that keep actors apart; from download to an epoch of training."""

import hashlib
import io
import json
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import torch

from benchmarks.config.run_config import configure
from benchmarks.config.suite import replicate
from benchmarks.config.units import overlapping, unit_of
from datasets import ravdess
from datasets.core.errors import DataError, ManifestError, MissingMediaError, NoAudioTrackError
from datasets.crema_d import CremaD
from datasets.decode import audio, image_files, image_transforms
from datasets.decode.video import read_jpegs
from datasets.ravdess import CLASSES, FIELDS, FOLDS, RAVDESS, actor_of, all_clips, videos
from datasets.storage import download
from tests.helpers import clips
from tests.helpers.media import write_clip

OWN = {"image_size": 32}
ACTORS = range(1, 7)  # of the small set below
LONG = "01-01-06-01-01-01-05"  # a clip of more than three seconds, in test


SMALL = {
    "FIELDS": FIELDS | {"intensity": 1, "statement": 1, "repetition": 1},
    "ACTORS": ACTORS,
    "OWN_SPLIT": {"train": range(1, 3), "val": range(3, 5), "test": range(5, 7)},
}


def make_small(patch: pytest.MonkeyPatch) -> None:
    """Six actors, who say one sentence once with each emotion: 8 clips of each instead of 60."""
    for name, value in SMALL.items():
        patch.setattr(ravdess, name, value)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The small set as the archives unpack: clips of h264 and aac, and one of each actor again without sound."""
    raw = tmp_path_factory.mktemp("raw") / "ravdess"
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        names = all_clips(ACTORS)
    for number, clip in enumerate(names):
        folder = raw / f"Actor_{actor_of(clip):02d}"
        write_clip(folder / f"{clip}.mp4", 3.7 if clip == LONG else 0.4, size=(64, 36), hertz=200 + 10 * number)
        if clip[6:8] == "01":
            write_clip(folder / f"02{clip[2:]}.mp4", 0.2, size=(64, 36), sound=False)
    return raw


@pytest.fixture
def raw(written, tmp_path, monkeypatch):
    """A copy to damage."""
    make_small(monkeypatch)
    folder = tmp_path / "raw" / "ravdess"
    shutil.copytree(written, folder)
    monkeypatch.setenv("OGM_DATA", str(tmp_path / "raw"))
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture(scope="module")
def prepared(written, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        patch.setenv("OGM_DATA", str(written.parent))
        patch.setenv("OGM_CACHE", str(tmp_path_factory.mktemp("cache")))
        RAVDESS.prepare(progress=False, **OWN)
        patch.setenv("OGM_DATA", "nothing")  # the prepared set is enough by itself
        return RAVDESS.module(**OWN)


# ---- download


class Served(dict[str, bytes]):
    """What a server has, and what it was asked for."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.asked: list[str] = []

    def __getitem__(self, name: str) -> bytes:
        self.asked.append(name)
        return super().__getitem__(name)


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in members.items():
            out.writestr(name, content)
    return file.getvalue()


def published(archives: dict[str, bytes]) -> Served:
    """Archives, and Zenodo's description of them."""
    files = [
        {"key": name, "size": len(content), "checksum": f"md5:{hashlib.md5(content).hexdigest()}",
         "links": {"self": f"https://zenodo.org/api/records/1188976/files/{name}/content"}}
        for name, content in archives.items()
    ]  # fmt: skip
    return Served({**archives, "zenodo-1188976.json": json.dumps({"id": 1188976, "files": files}).encode()})


def archive_of(raw: Path, actor: int) -> bytes:
    """An actor's archive: folder, clips, the same again without sound."""
    folder = f"Actor_{actor:02d}"
    return zipped(
        {f"{folder}/": b"", **{f"{folder}/{p.name}": p.read_bytes() for p in sorted((raw / folder).iterdir())}}
    )


@pytest.fixture
def archives(raw, monkeypatch):
    """The archives of the small set, whose folders are gone."""
    monkeypatch.setattr(download, "PAUSE", 0.001)
    packed = {f"Video_Speech_Actor_{actor:02d}.zip": archive_of(raw, actor) for actor in ACTORS}
    for actor in ACTORS:
        shutil.rmtree(raw / f"Actor_{actor:02d}")
    return packed


def clips_in(raw: Path) -> list[str]:
    return sorted(path.stem for path in raw.glob("Actor_*/*"))


def test_from_download_to_an_epoch(archives, raw, capsys):
    files = published({**archives, "Video_Song_Actor_01.zip": b"", "Audio_Speech_Actors_01-24.zip": b"x"})
    with clips.server(files) as base:
        out = clips.command(capsys, "download", "ravdess", "--base", f"{base}/good")
        assert "now run `python -m datasets prepare ravdess`" in out
        assert files.asked == ["zenodo-1188976.json", *archives] and clips_in(raw) == all_clips(ACTORS)
        assert sorted(p.name for p in raw.iterdir() if p.is_file()) == ["archives.lock.json", "zenodo-1188976.json"]
        clips.command(capsys, "download", "ravdess", "--base", f"{base}/good")
    assert len(files.asked) == 1 + len(ACTORS)  # nothing is fetched twice
    out = clips.command(capsys, "info", "ravdess")
    assert "test: 16 samples of 8 classes (2 to 2 each); 0 clips and 0 sources are in train too" in out
    assert "no samples" not in out and "CC BY-NC-SA 4.0" in out
    out = clips.command(capsys, "prepare", "ravdess")
    assert "train: 16 of 16" in out and "val: 16 of 16" in out and "test: 16 of 16" in out
    out = clips.command(capsys, "verify", "ravdess")
    assert "published: the authors: 1440 clips" in out and "ours: test 16 of 16" in out
    assert "0 groups of clips with the same" in out and "h264 64x36 at 10.00; aac 44100 Hz, 2 channels" in out
    clips.trains("ravdess", {"image_size": 32}, 8)


def test_a_download_that_was_stopped_goes_on_with_the_next_archive(archives, raw, capsys):
    files = published(archives)
    name = "Video_Speech_Actor_03.zip"
    content = files.pop(name)
    files[name] = content[:-1] + b"?"
    with clips.server(files) as base:
        line = clips.refusal(capsys, "download", "ravdess", "--base", f"{base}/good")
        assert f"{name}: got " in line and "md5" in line
        assert clips_in(raw) == all_clips([1, 2]) and not list(raw.glob("*.zip"))
        files[name], files.asked = content, []
        clips.command(capsys, "download", "ravdess", "--base", f"{base}/good")
    assert files.asked == [f"Video_Speech_Actor_{actor:02d}.zip" for actor in (3, 4, 5, 6)]
    assert clips_in(raw) == all_clips(ACTORS)


@pytest.mark.parametrize(("bad", "says"), [("cut", "body ended after"), ("500", "HTTP 500"), ("404", "HTTP 404")])
def test_a_bad_server_is_one_line(archives, raw, capsys, bad, says):
    with clips.server(published(archives)) as base:
        assert says in clips.refusal(capsys, "download", "ravdess", "--base", f"{base}/{bad}")
    assert clips_in(raw) == [] and not list(raw.glob("*.zip"))


def test_a_clip_that_is_gone_is_fetched_again(archives, raw, capsys):
    files = published(archives)
    with clips.server(files) as base:
        clips.command(capsys, "download", "ravdess", "--base", f"{base}/good")
        path = raw / "Actor_04" / f"{all_clips([4])[0]}.mp4"
        content = path.read_bytes()
        path.write_bytes(b"")
        files.asked = []
        clips.command(capsys, "download", "ravdess", "--base", f"{base}/good")
    assert files.asked == ["Video_Speech_Actor_04.zip"] and path.read_bytes() == content


def test_an_archive_that_lacks_clips_is_named_and_kept(archives, raw, capsys):
    first, *others = all_clips([1])
    archives["Video_Speech_Actor_01.zip"] = zipped({f"Actor_01/{clip}.mp4": b"x" for clip in others})
    with clips.server(published(archives)) as base:
        line = clips.refusal(capsys, "download", "ravdess", "--base", f"{base}/good")
    assert f"Video_Speech_Actor_01.zip: 1 clips are not in it: {first}; get it elsewhere" in line
    assert (raw / "Video_Speech_Actor_01.zip").is_file()


def test_a_record_without_an_archive_is_refused(archives, raw, capsys):
    del archives["Video_Speech_Actor_02.zip"]
    with clips.server(published(archives)) as base:
        line = clips.refusal(capsys, "download", "ravdess", "--base", f"{base}/good")
    assert "record 1188976 of Zenodo has no Video_Speech_Actor_02.zip" in line and clips_in(raw) == []


def test_a_hostile_archive_writes_nothing_outside(archives, raw, capsys):
    clip = all_clips([1])[0]
    archives["Video_Speech_Actor_01.zip"] = zipped({f"../../{clip}.mp4": b"x"})
    with clips.server(published(archives)) as base:
        line = clips.refusal(capsys, "download", "ravdess", "--base", f"{base}/good")
    assert "a member would leave the folder" in line and not list(raw.parent.parent.rglob("*.mp4"))


# ---- splits


def actors_in(args: dict) -> dict[str, list[int]]:
    """Part -> its actors, who have all of their 60 clips there."""
    parts, notes = RAVDESS.read_splits(RAVDESS.options(args), Path())
    actors = {part: Counter(actor_of(name) for name, _ in rows) for part, rows in parts.items()}
    assert not notes and all(set(counts.values()) == {60} for counts in actors.values())
    return {part: sorted(counts) for part, counts in actors.items()}


def test_the_clips_are_those_of_the_archives():
    names = all_clips(range(1, 25))
    assert len(set(names)) == 1440 and names == sorted(names) and names[0] == "01-01-01-01-01-01-01"
    assert ravdess.EXAMPLE.removesuffix(".mp4") in names
    parts, _ = RAVDESS.read_splits(RAVDESS.options({}), Path())
    labels = Counter(CLASSES[label] for rows in parts.values() for _, label in rows)
    assert labels == {name: 96 if name == "neutral" else 192 for name in CLASSES}
    assert all(CLASSES[label] == "fearful" for rows in parts.values() for name, label in rows if name[6:8] == "06")


def test_the_default_split_keeps_actors_apart():
    assert actors_in({}) == {"train": [*range(1, 17)], "val": [*range(17, 21)], "test": [*range(21, 25)]}


@pytest.mark.parametrize("folds", [2, 3, 4, 6, 12])
def test_folds_have_as_many_men_as_women_and_test_every_actor_once(folds):
    chosen = set()
    for split_seed in range(3):
        splits = [actors_in({"folds": folds, "fold": f, "split_seed": split_seed}) for f in range(folds)]
        assert sorted(actor for parts in splits for actor in parts["test"]) == [*range(1, 25)]
        for parts in splits:
            assert sorted(actor for actors in parts.values() for actor in actors) == [*range(1, 25)]
            assert len(parts["test"]) == 24 // folds
            assert all(2 * sum(actor % 2 for actor in actors) == len(actors) for actors in parts.values())
        chosen.add(tuple(tuple(parts["test"]) for parts in splits))
    assert len(chosen) == 3  # another split_seed, another division


@pytest.mark.parametrize(("args", "says"), [
    ({"folds": 5}, "folds=5: choose one of 2, 3, 4, 6, 12; each fold then has as many men as women"),
    ({"folds": 24}, "folds=24: choose one of"),
    ({"folds": 6, "fold": 6}, "fold=6: with folds=6 there are 0 to 5"),
    ({"fold": 1}, "fold and split_seed belong to folds=NUMBER"),
    ({"preset": "bb"}, "preset='bb': input should be 'paper'"),
])  # fmt: skip
def test_arguments_are_checked(args, says):
    with pytest.raises(DataError, match=says):
        RAVDESS.prepare(**args)


def test_a_comparison_takes_six_folds():
    config = configure({"dataset": "ravdess"})
    chosen = [replicate(config, {}, number)["dataset_args"] for number in range(FOLDS + 1)]
    assert chosen[0] == {"folds": 6, "fold": 0, "split_seed": 0} and chosen[5]["fold"] == 5
    assert chosen[6] == {"folds": 6, "fold": 0, "split_seed": 1}
    assert len({unit_of(args) for args in chosen}) == 7 and overlapping([unit_of(args) for args in chosen])
    assert RAVDESS.resplit({"folds": 4}, 5) == {"folds": 4, "fold": 1, "split_seed": 1}
    assert RAVDESS.resplit({"folds": 4, "fold": 2}, 5) == RAVDESS.resplit({"folds": None}, 5) == {}


# ---- samples


def test_shapes_are_those_of_crema_d():
    ours, other = RAVDESS.presets["paper"], CremaD.presets["paper"]
    assert (ours.sound.shape, ours.picks, ours.k) == (other.sound.shape, other.picks, other.k)
    differs = ours.sound.parameters.items() ^ other.sound.parameters.items()
    assert {name for name, _ in differs} == {"middle"}


def test_evaluation_hears_the_middle_three_seconds_and_sees_the_middle_frame(prepared, written):
    test = prepared.test
    path = written / "Actor_05" / f"{LONG}.mp4"
    item = test[list(test.ids).index(LONG)]
    x = audio.mono_at(audio.read_track(path), 22_050)
    start = (len(x) - 66_150) // 2
    assert start > 5000
    assert torch.equal(item["audio"][0], audio.stft_log(x[start : start + 66_150].clamp(-1, 1), 512, 353))
    jpegs = read_jpegs(path, "fps_blocks", 1)[0]
    want = torch.from_numpy(image_files.scaled(jpegs[2], 32).copy())[None, None]
    assert len(jpegs) == 4 and torch.equal(item["visual"], image_transforms.normalise(want)[0])
    assert item["label"] == CLASSES.index("fearful") and item["visual"].shape == (3, 1, 32, 32)


def test_a_short_clip_is_repeated(prepared, written):
    clip = prepared.train.ids[3]
    x = audio.mono_at(audio.read_track(written / f"Actor_{clip[-2:]}" / f"{clip}.mp4"), 22_050)
    sound = audio.stft_log(audio.tile(x, 66_150).clamp(-1, 1), 512, 353)
    assert len(x) < 20_000 and torch.equal(prepared.train[3]["audio"][0], sound) and sound.shape == (257, 188)


def test_a_training_sample_depends_on_its_seed_alone(prepared):
    train = prepared.train
    alone = train[3, 42]
    assert not torch.equal(alone["visual"], train[3, 43]["visual"])
    batch = train.augment(train.batch([(5, 7), (3, 42)]), [7, 42])
    assert torch.equal(batch.inputs["visual"][1], alone["visual"])


# ---- files


@pytest.mark.parametrize(("name", "says"), [
    ("Actor_01/clip.mp4", r"'clip\.mp4' is not seven numbers of two digits \(modality, .* like 01-01-06"),
    ("Actor_01/01-01-06-01-02-01-01 (1).mp4", "is not seven numbers"),
    ("Actor_01/01-01-06-01-02-01-01\n.mp4", r"01\\n\.mp4' is not seven numbers"),
    ("Actor_01/01-01-0\u0666-01-02-01-01.mp4", "is not seven numbers"),  # a digit, though not of ASCII
    ("Actor_01/01-01-06-01-02-01.mp4", "is not seven numbers"),
    ("Actor_01/04-01-06-01-02-01-01.mp4", "has modality 04; there are 01 to 03"),
    ("Actor_01/01-03-06-01-02-01-01.mp4", "has vocal channel 03; there are 01 to 02"),
    ("Actor_01/01-01-09-01-02-01-01.mp4", "has emotion 09; there are 01 to 08"),
    ("Actor_01/01-01-00-01-02-01-01.mp4", "has emotion 00; there are 01 to 08"),
    ("Actor_01/01-01-06-03-02-01-01.mp4", "has intensity 03; there are 01 to 02"),
    ("Actor_01/01-01-01-02-01-01-01.mp4", "is neutral with a strong intensity, which does not exist"),
    ("Actor_01/01-01-06-01-03-01-01.mp4", "has statement 03; there are 01 to 02"),
    ("Actor_01/01-01-06-01-02-03-01.mp4", "has repetition 03; there are 01 to 02"),
    ("Actor_25/01-01-06-01-02-01-25.mp4", "has actor 25; there are 01 to 24"),
    ("Actor_01/01-01-06-01-02-01-02.mp4", "belongs into Actor_02"),
    ("Actor_01/02-01-06-01-02-01-02.mp4", "belongs into Actor_02"),
    ("Actor_01 copy/01-01-06-01-02-01-01.mp4", "belongs into Actor_01"),
])  # fmt: skip
def test_names_that_cannot_be_are_one_line(tmp_path, name, says):
    path = tmp_path / name
    path.parent.mkdir()
    path.write_bytes(b"x")
    with pytest.raises(ManifestError, match=says) as raised:
        RAVDESS.find(tmp_path, [])
    assert "\n" not in str(raised.value) and str(path.parent) in str(raised.value)


def test_what_is_no_video_is_left_alone_and_nothing_is_there_twice(tmp_path):
    folder = tmp_path / "Actor_12"
    folder.mkdir()
    for name in ("._01-01-06-01-02-01-12.mp4", "03-01-06-01-02-01-12.wav", "notes.txt", "02-01-06-01-02-01-12.mp4",
                 "01-02-06-01-02-01-12.mp4", ravdess.EXAMPLE):  # fmt: skip
        (folder / name).write_bytes(b"x")
    (folder / "01-01-05-01-02-01-12.mp4").mkdir()
    assert list(RAVDESS.find(tmp_path, [])) == ["01-01-06-01-02-01-12"]
    assert ravdess.describe_unused(tmp_path) == [
        "videos that are no samples (without sound, or song): 1 called 01-02-*.mp4, 1 called 02-01-*.mp4"
    ]
    (folder / "01-01-06-01-02-01-12.MP4").write_bytes(b"x")
    with pytest.raises(ManifestError, match=r"01-01-06-01-02-01-12\.mp4 are the same clip; remove one of them"):
        videos(tmp_path)


def test_missing_and_silent_clips_are_counted_and_named(raw):
    first, second = all_clips([3])[:2]
    write_clip(raw / "Actor_03" / f"{first}.mp4", 0.4, sound=False)
    with pytest.raises(NoAudioTrackError, match=rf"{first}\.mp4: there is no sound in it"):
        RAVDESS.prepare(progress=False, **OWN)
    (raw / "Actor_03" / f"{second}.mp4").unlink()
    with pytest.raises(MissingMediaError, match=rf"1 of 48 are missing: .*Actor_03/{second}\.mp4; .*max_missing=1"):
        RAVDESS.prepare(progress=False, **OWN)
    args = {**OWN, "max_missing": 2}
    RAVDESS.prepare(progress=False, **args)
    with pytest.raises(MissingMediaError, match="2 of 48 are missing"):
        RAVDESS.module(**OWN)
    val = RAVDESS.module(**args).val
    assert (val.report.listed, val.report.found) == (16, 14) and val.recipe["missing"] == 2
    assert val.report.notes == {"missing": 2, "unreadable": 1}


def test_folds_share_one_prepared_set(raw):
    folder = RAVDESS.prepare(progress=False, **OWN)
    args = [{**OWN, "folds": 3, "fold": fold} for fold in range(3)]
    assert all(RAVDESS.prepare(progress=False, **one) == folder for one in args)
    modules = [RAVDESS.module(**one) for one in args]
    assert sorted(name for module in modules for name in module.test.ids) == all_clips(ACTORS)
    for module in modules:
        assert len({part.fingerprint for part in module.splits().values()}) == 3
        assert "actors_also_in_train" not in module.test.report.notes and module.test.report.independent is None


@pytest.mark.long  # what is common to all sets of clips runs with CREMA-D
def test_another_file_of_the_same_size_is_noticed(raw):
    clips.notices_changed_files(RAVDESS, OWN, raw / "Actor_01" / f"{all_clips([1])[3]}.mp4")


@pytest.mark.long
def test_killed_and_damaged(raw, capsys, monkeypatch, tmp_path):
    patches = (
        f"from datasets import ravdess\nfor name, value in {SMALL!r}.items():\n    setattr(ravdess, name, value)\n"
    )
    clips.survives_kills(RAVDESS, OWN, capsys, monkeypatch, tmp_path, patches, kills=2)
