"""GRID: clips in the true layout with real codecs, words cut out by alignments, and splits that keep clips whole."""

import hashlib
import json
import math
import os
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from datasets.core.errors import DataError, LabelError, ManifestError, MissingMediaError, PinMismatchError
from datasets.decode import grid_clip
from datasets.decode.grid_clip import add_noise, cut_sound, decode_clip, whole_clip, word_piece
from datasets.grid import FORMS, Grid
from datasets.storage import archives, download
from datasets.storage.cache import sha256
from datasets.storage.grid_files import PIECES, WORDS, aligned_words, published_digests, read_alignment, words_of
from tests.helpers import clips
from tests.helpers.media import frame, tone
from tests.helpers.shared_media import shared

SPOKEN = {piece: {word[0]: word for word in words} for piece, words in WORDS.items()}
SPOKEN["digit"] = {**{str(i): word for i, word in enumerate(WORDS["digit"]) if i}, "z": "zero"}


def name_of(i: int) -> str:
    """A clip whose letter is number i, and whose other words change with it too."""
    return "".join([*SPOKEN[piece]][i // (1 if piece in ("letter", "digit") else k + 1) % len(SPOKEN[piece])]
                   for k, piece in enumerate(PIECES))  # fmt: skip


def part_of(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10


# Of each letter one clip in train, and two more.
NAMES = sorted(
    {next(n for n in (name_of(i + 25 * k) for k in range(99)) if part_of(n) > 1) for i in range(25)}
    | {name_of(i) for i in range(25, 75)}
)
SMALL = {"allow_unpinned": True, "max_missing": 1000 - len(NAMES)}


def write_mpg(path: Path, frames: int = 75, seconds: float = 2.978, rate: int = 25, sound: bool = True) -> Path:
    """A clip as GRID has it: MPEG-1, 360 x 288, and stereo mp2 of 44.1 kHz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mpeg") as container:
        picture = container.add_stream("mpeg1video", rate=rate)
        picture.width, picture.height, picture.pix_fmt = 360, 288, "yuv420p"
        voice = container.add_stream("mp2", rate=44_100, layout="stereo") if sound else None
        for number in range(frames):
            container.mux(picture.encode(av.VideoFrame.from_ndarray(frame(number, 360, 288), format="rgb24")))
        container.mux(picture.encode())
        if voice:
            samples = (np.stack([tone(seconds, 44_100, 300)] * 2) * 32767).astype(np.int16)
            for start in range(0, samples.shape[1], 1152):
                block = np.ascontiguousarray(samples[:, start : start + 1152].T.reshape(1, -1))
                sent = av.AudioFrame.from_ndarray(block, format="s16", layout="stereo")
                sent.sample_rate, sent.pts = 44_100, start
                container.mux(voice.encode(sent))
            container.mux(voice.encode())
    return path


def alignment(name: str, path: Path = Path()) -> str:
    """Six words of 8,000 units from 12,500 on, with a pause after the second."""
    lines, start = ["0 12500 sil"], 12_500
    for number, word in enumerate(words_of(name, path)):
        lines.append(f"{start} {start + 8000} {word}")
        start += 8000
        if number == 1:
            lines.append(f"{start} {start + 1000} sp")
            start += 1000
    return "\n".join([*lines, f"{start} 74500 sil"]) + "\n"


def lay_out(raw: Path, talker: str, names: list[str], videos: list[Path]) -> None:
    """Clips that are links to a few videos, and their alignments."""
    (raw / talker).mkdir(parents=True)
    (raw / "alignments" / talker).mkdir(parents=True)
    for number, name in enumerate(names):
        os.link(videos[number % len(videos)], raw / talker / f"{name}.mpg")
        (raw / "alignments" / talker / f"{name}.align").write_text(alignment(name))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return [write_mpg(folder / "a.mpg"), write_mpg(folder / "b.mpg", 74), write_mpg(folder / "c.mpg", seconds=2.7)]


@pytest.fixture(scope="module")
def prepared(videos, tmp_path_factory):
    """Words, once for all; the raw files are not needed any more."""
    folder = tmp_path_factory.mktemp("grid -ü")
    lay_out(folder / "raw" / "grid", "s1", NAMES, videos)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OGM_DATA", str(folder / "raw"))
        patch.setenv("OGM_CACHE", str(folder / "cache"))
        Grid.prepare(progress=False, **SMALL, noise_db=-5)
        patch.setenv("OGM_DATA", str(folder / "nothing"))
        yield Grid.module(**SMALL, noise_db=-5)


@pytest.fixture
def cached(prepared, monkeypatch):
    """What ``prepared`` made, for other splits of it."""
    monkeypatch.setenv("OGM_CACHE", str(prepared.train.cache.folder.parents[1]))
    monkeypatch.setenv("OGM_DATA", str(prepared.train.cache.folder.parents[2] / "nothing"))


@pytest.fixture
def raw(videos, tmp_path, monkeypatch):
    """Six clips to damage."""
    monkeypatch.setenv("OGM_DATA", str(tmp_path / "raw"))
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    lay_out(tmp_path / "raw" / "grid", "s1", NAMES[:6], videos)
    return tmp_path / "raw" / "grid"


def clips_of(data) -> set[str]:
    return {name.split("/")[1] for name in data.ids}


# ---- names and alignments


def test_classes_and_names():
    assert len(Grid.classes) == len(set(Grid.classes)) == Grid.card.classes == 51
    assert words_of("bbaf2n", Path()) == ("bin", "blue", "at", "f", "two", "now")
    assert words_of("swwzzs", Path()) == ("set", "white", "with", "z", "zero", "soon")
    for bad in ("bbaw2n", "bbaf0n", "bbaf2", "bbaf2nn", "BBAF2N", "xbaf2n", ""):
        with pytest.raises(ManifestError, match="is not called like bbaf2n"):
            words_of(bad, Path("s1"))


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [("0 1 bin blue", ManifestError, "line 1: .* is not `start end word`"), ("0 -1 bin", ManifestError, "line 1"),
     ("5 5 bin", ManifestError, "lasts no time"), ("5 9 bin\n8 11 blue", ManifestError, "line 2.* before 9"),
     ("0 ² bin", ManifestError, "not an alignment"), ("", LabelError, "clip's name says 'bin blue at f two now'"),
     ("0 1" + "0" * 30 + " bin", ManifestError, "line 1"),
     (alignment("bbaf2s"), LabelError, "two soon', but the clip's name says"),
     (alignment("bbaf2n").replace("61500 now", "99999 now"), LabelError, "not within the 3 s")],
)  # fmt: skip
def test_alignments_that_cannot_be_used(tmp_path, text, kind, says):
    path = tmp_path / "bbaf2n.align"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(kind, match=says) as error:
        aligned_words(path, "bbaf2n")
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_silence_is_no_word(tmp_path):
    path = tmp_path / "bbaf2n.align"
    path.write_text(alignment("bbaf2n"))
    assert [word for _, _, word in read_alignment(path)] == ["bin", "blue", "at", "f", "two", "now"]
    assert aligned_words(path, "bbaf2n")[2] == (29_500, 37_500)


# ---- pieces of a clip


def test_a_word_is_cut_around_its_centre():
    piece = word_piece("w", 24_000, 26_000)  # its centre is at 1 s
    assert (piece.first_frame, piece.frames, piece.first_sample, piece.samples) == (20, 10, 12_800, 6400)
    early = word_piece("w", 0, 5000)
    assert early.first_frame == -2 and early.first_sample == -1600
    whole = whole_clip("c")
    assert (whole.frames, whole.samples) == (75, 48_000)


@pytest.mark.parametrize(("first", "expected"), [(2, [3, 4, 5]), (-2, [0, 0, 1]), (8, [9, 10, 0]), (50, [0, 0, 0])])
def test_sound_beyond_the_ends_is_zero(first, expected):
    part, padded = cut_sound(torch.arange(1.0, 11), first, 3)
    assert part.tolist() == expected and padded == expected.count(0)


def test_noise_has_the_power_that_is_asked_for_and_is_drawn_from_the_name():
    x = torch.from_numpy(tone(0.4, 16_000)).float()
    for snr in (-5.0, 10.0):
        noise = add_noise(x, snr, "s1/bbaf2n/0", len(x)) - x
        assert 10 * math.log10(x.square().mean() / noise.square().mean()) == pytest.approx(snr, abs=0.2)
    again = add_noise(x, 10.0, "s1/bbaf2n/0", len(x)) - x
    other = add_noise(x, 10.0, "s1/bbaf2n/1", len(x)) - x
    assert torch.equal(noise, again) and abs(torch.corrcoef(torch.stack([noise, other]))[0, 1]) < 0.05
    half = torch.cat([x, torch.zeros(len(x))])  # what was not recorded does not make the noise weaker
    assert (add_noise(half, 0.0, "n", len(x)) - half).square().mean() == pytest.approx(
        float(x.square().mean()), rel=0.05
    )
    assert not add_noise(torch.zeros(100), -5.0, "n", 100).any()


def test_frames_are_those_around_the_word(videos):
    notes: Counter[str] = Counter()
    frames = grid_clip.mouth_frames(videos[0], FORMS["small"], notes)
    assert frames.shape == (75, 24, 36) and not +notes
    piece = word_piece("w", 24_000, 26_000)
    seen = decode_clip(videos[0], [piece], FORMS["small"], None, Counter())["visual"][0]
    assert np.array_equal(seen, frames[20:30:2])
    with av.open(str(videos[0])) as container:
        grey = [f.to_ndarray(format="gray") for f in container.decode(video=0)][24]
    rows = torch.from_numpy(grey[186:250, 110:206].copy()).float()[None, None]
    assert (
        torch.nn.functional.adaptive_avg_pool2d(rows, (24, 36))[0, 0] - torch.from_numpy(seen[2])
    ).abs().max() <= 0.5
    short = grid_clip.mouth_frames(videos[1], FORMS["full"], notes)
    assert short.shape == (74, 64, 96) and notes["video_short"] == 1
    notes.clear()
    late = decode_clip(videos[1], [word_piece("w", 68_000, 74_000)], FORMS["full"], None, notes)["visual"][0]
    assert np.array_equal(late[-2], short[73]) and np.array_equal(late[-1], short[73]) is (len(late) == 10)
    assert notes["frames_repeated"] == int(word_piece("w", 68_000, 74_000).first_frame + 10 > 74)


@pytest.mark.parametrize(
    ("preset", "piece", "audio", "visual"),
    [("small", word_piece("w", 20_000, 30_000), (40, 41), (5, 24, 36)), ("small", whole_clip("c"), (40, 301),
     (38, 24, 36)), ("full", word_piece("w", 20_000, 30_000), (80, 41), (10, 64, 96)),
     ("full", whole_clip("c"), (80, 301), (75, 64, 96))],
)  # fmt: skip
def test_shapes(videos, preset, piece, audio, visual):
    form = FORMS[preset]
    rows = decode_clip(videos[2], [piece], form, 0.0, notes := Counter())
    assert rows["audio"].shape[1:] == audio == grid_clip.shapes(form, piece)["audio"]
    assert rows["visual"].shape[1:] == visual == grid_clip.shapes(form, piece)["visual"]
    assert np.isfinite(rows["audio"]).all() and abs(rows["audio"].mean()) < 1e-4
    assert notes["sound_padded"] == (piece.samples == 48_000)


# ---- samples and splits


def test_words_of_a_clip_are_on_one_side(prepared):
    parts = prepared.splits()
    assert sum(map(len, parts.values())) == 6 * len(NAMES)
    sides = {name: clips_of(data) for name, data in parts.items()}
    for name, own in sides.items():
        assert own and all({0: "test", 1: "val"}.get(part_of(clip), "train") == name for clip in own)
        report = parts[name].report
        assert report.independent == len(own) == len(parts[name]) / 6 and report.found == report.listed
    assert set().union(*sides.values()) == set(NAMES)
    train = prepared.train
    for i in (0, 5, 13):
        _, clip, place = train.ids[i].split("/")
        assert train.classes[train.labels[i]] == words_of(clip, Path())[int(place)]
    every = sum((Counter(data.report.notes) for data in parts.values()), Counter())
    assert every["missing"] == 1000 - len(NAMES) and every["video_short"] == len(NAMES[1::3])
    assert every["not_the_published_clip"] > 0


def test_batches_are_the_stored_samples_standardised(prepared):
    batch = prepared.train.batch([3, 0])
    assert batch.inputs["audio"].shape == (2, 1, 40, 41) and batch.inputs["visual"].shape == (2, 5, 24, 36)
    for x in batch.inputs.values():
        assert x.dtype == torch.float32 and x.mean((1, 2, 3)).abs().max() < 1e-3
        assert (x.std((1, 2, 3)) - 1).abs().max() < 1e-2
    assert torch.equal(prepared.train[3]["visual"], batch.inputs["visual"][0])
    seeded = prepared.train.batch([(3, 7), (0, 8)])
    assert all(torch.equal(seeded.inputs[m], batch.inputs[m]) for m in batch.inputs)


def test_folds_keep_clips_whole_and_test_every_clip_once(cached):
    tested: Counter[str] = Counter()
    for number in range(5):
        chosen = Grid.resplit({}, number)
        assert chosen == {"folds": 5, "fold": number, "split_seed": 0}
        module = Grid.module(**SMALL, noise_db=-5, **chosen)
        sides = [clips_of(data) for data in module.splits().values()]
        assert sum(map(len, sides)) == len(set().union(*sides)) == len(NAMES)
        tested.update(clips_of(module.test))
    assert tested == dict.fromkeys(NAMES, 1)
    assert Grid.resplit({"folds": 3}, 4) == {"folds": 3, "fold": 1, "split_seed": 1}
    assert Grid.resplit({"fold": 0}, 4) == Grid.resplit({"folds": "x"}, 4) == {}
    with pytest.raises(DataError, match="1 groups, but folds=5"):
        Grid.module(**SMALL, noise_db=-5, split="talker", folds=5)
    with pytest.raises(DataError, match="leaves no clip of s1 for train; take more talkers"):
        Grid.module(**SMALL, noise_db=-5, split="talker")


def test_talkers_are_held_out_and_whole_clips_have_labels_of_their_names(videos, tmp_path, monkeypatch):
    """One talker's alignments lie in the folder of another, and one archive unpacked to folders of its own."""
    monkeypatch.setenv("OGM_DATA", str(tmp_path))
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    raw = tmp_path / "grid"
    for number in range(3):
        lay_out(raw, f"s{number + 2}", NAMES[number::7][:9], videos)
    (raw / "alignments" / "s2").rename(raw / "alignments" / "s9")
    (raw / "s3" / "video").mkdir()
    (raw / "x").mkdir()
    for path in (raw / "s3").glob("*.mpg"):
        path.rename(raw / "x" / path.name)
    (raw / "x").rename(raw / "s3" / "video" / "mpg_6000")
    args = {"talkers": "s4,s2,s3", "split": "talker", "target": "colour", "max_missing": 2973}
    Grid.prepare(progress=False, **args)
    module = Grid.module(**args)
    assert [{name[:2] for name in data.ids} for data in module.splits().values()] == [{"s4"}, {"s3"}, {"s2"}]
    assert module.test.classes == WORDS["colour"] and module.test.report.notes["alignment_in_other_folder"] == 9
    for name, label in zip(module.test.ids, module.test.labels, strict=True):
        assert words_of(name[3:], Path())[1] == module.test.classes[label]
    assert module.test.batch([0]).inputs["visual"].shape == (1, 38, 24, 36)
    assert len(module.test) == module.test.report.independent == 9


def test_it_trains(cached):
    clips.trains("grid", {**SMALL, "noise_db": -5}, 51)


# ---- what is refused


@pytest.mark.parametrize(
    ("args", "says"),
    [({"talkers": "s1,s21"}, "'s21' is no talker"), ({"talkers": "s1,s1"}, "named twice"), ({"talkers": "S1"}, "is no"),
     ({"noise_db": 99}, "less than or equal to 60"), ({"noise_db": "loud"}, "noise_db"), ({"target": "x"}, "target"),
     ({"fold": 1}, "belong to folds"), ({"noise": -5}, "no argument is called 'noise'")],
)  # fmt: skip
def test_options_that_make_no_sense(args, says):
    with pytest.raises(DataError, match=says) as error:
        Grid.module(**args)
    assert "\n" not in str(error.value)


def test_absent_and_contradicting_clips_are_counted(raw):
    with pytest.raises(MissingMediaError, match=r"994 of 1000 clips .* 994 of talker s1; .* max_missing=994") as error:
        Grid.prepare(progress=False)
    assert "\n" not in str(error.value)
    path = raw / "alignments" / "s1" / f"{NAMES[0]}.align"
    path.write_text(alignment(NAMES[1]))
    with pytest.raises(MissingMediaError, match=rf"995 of 1000 .*{NAMES[0]}.align: .* but the clip's name says"):
        Grid.prepare(progress=False, max_missing=994)
    path.unlink()
    with pytest.raises(MissingMediaError, match=r"1000 of 1000 .* choose talkers= that are there"):
        Grid.prepare(progress=False, max_missing=33_000, talkers="s2")
    (raw / "s1" / "film.mpg").write_bytes(b"x")
    with pytest.raises(ManifestError, match="'film' is not called like bbaf2n"):
        Grid.prepare(progress=False)


def test_other_clips_of_s1_than_the_published_ones_are_refused(raw):
    with pytest.raises(PinMismatchError, match="6 of the 1000 clips of talker s1 are not the published ones"):
        Grid.prepare(progress=False, max_missing=994)


@pytest.mark.parametrize("damage", ["empty", "text", "silent film", "30 frames a second"])
def test_unreadable_clips_are_named_and_may_be_allowed(raw, damage):
    path = raw / "s1" / f"{NAMES[2]}.mpg"
    path.unlink()
    if damage == "empty":
        path.touch()
    elif damage == "text":
        path.write_text("not a film\n" * 100)
    else:
        write_mpg(path, 30, rate=25 if damage == "silent film" else 30, sound=damage != "silent film")
    with pytest.raises(DataError) as error:
        Grid.prepare(progress=False, allow_unpinned=True, max_missing=994)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    if damage != "empty":
        folder = Grid.prepare(progress=False, allow_unpinned=True, max_missing=995)
        about = json.loads((folder / "index.json").read_text())["about"]
        assert [str(path) in facts.get("why", "") for facts in about].count(True) == 1


def test_clips_that_changed_since_are_noticed(raw):
    args = {"allow_unpinned": True, "max_missing": 994}
    Grid.prepare(progress=False, **args)
    path = raw / "alignments" / "s1" / f"{NAMES[0]}.align"
    path.write_text(path.read_text().replace("0 12500 sil", "0 12499 sil"))
    with pytest.raises(DataError, match=r"the raw files of 1 of 6 .* have changed"):
        Grid.module(**args)


# ---- download


def test_archives_are_fetched_checked_and_unpacked(videos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(download, "PAUSE", 0.001)
    monkeypatch.setenv("OGM_DATA", str(tmp_path / "raw"))
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    lay_out(tmp_path / "here", "s1", NAMES[:5], videos)
    with zipfile.ZipFile(tmp_path / "s1.zip", "w") as file:
        for path in (tmp_path / "here" / "s1").iterdir():
            file.write(path, f"s1/{path.name}")
        file.writestr("s1/Thumbs.db", b"x")
        file.writestr(f"__MACOSX/s1/._{NAMES[0]}.mpg", b"x")
    with zipfile.ZipFile(tmp_path / "alignments.zip", "w") as file:
        for path in (tmp_path / "here" / "alignments" / "s1").iterdir():
            file.write(path, f"alignments/s1/{path.name}")
    served = {path.name: path.read_bytes() for path in (tmp_path / "s1.zip", tmp_path / "alignments.zip")}
    described = [
        {"key": name, "size": len(data), "checksum": f"md5:{hashlib.md5(data, usedforsecurity=False).hexdigest()}",
         "links": {"self": f"{archives.ZENODO}/3625687/files/{name}/content"}}
        for name, data in {**served, "s2.zip": b"not asked for", "audio_25k.zip": b"neither"}.items()
    ]  # fmt: skip
    served["zenodo-3625687.json"] = json.dumps({"files": described}).encode()
    with clips.server(served) as base:
        assert "HTTP 404" in clips.refusal(capsys, "download", "grid", "--base", f"{base}/404")
        for _ in range(2):
            said = clips.command(capsys, "download", "grid", "--base", f"{base}/good")
            assert "now run `python -m datasets prepare grid`" in said
    raw = tmp_path / "raw" / "grid"
    assert sorted(path.stem for path in (raw / "s1").iterdir()) == sorted(NAMES[:5])
    assert sorted(path.name for path in raw.iterdir() if path.is_dir()) == ["alignments", "s1"]
    assert Grid.prepare(progress=False, allow_unpinned=True, max_missing=995).is_dir()
    shutil.rmtree(raw)
    served["s1.zip"] = served["s1.zip"][:-1] + b"?"
    with clips.server(served) as base:
        assert "md5" in clips.refusal(capsys, "download", "grid", "--base", f"{base}/good")
    assert not (raw / "s1").exists()


# ---- the real clips


def test_real_clips_are_the_published_ones_and_one_is_damaged(tmp_path, monkeypatch):
    media = shared("data", "media", "grid", "s1")
    known = published_digests()
    assert len(known) == 1000
    paths = sorted(media.glob("*.mpg"))
    assert len(paths) == 25 and all(sha256(path) == known[f"s1/{path.stem}"] for path in paths)
    raw = tmp_path / "grid"
    (raw / "alignments" / "s1").mkdir(parents=True)
    (raw / "s1").symlink_to(media)
    for path in paths:
        (raw / "alignments" / "s1" / f"{path.stem}.align").write_text(alignment(path.stem))
    monkeypatch.setenv("OGM_DATA", str(tmp_path))
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    folder = Grid.prepare(progress=False, max_missing=975)
    index = json.loads((folder / "index.json").read_text())
    notes = {key: facts["notes"] for key, facts in zip(index["keys"], index["about"], strict=True)}
    assert notes["s1/sgib8n"].pop("video_partial") == 1
    assert all(set(of) <= {"video_short"} for of in notes.values())
    assert np.load(folder / "audio.npy").shape == (150, 40, 41)
