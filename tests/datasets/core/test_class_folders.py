"""Folders as classes: what becomes a sample, what is left out and why, and names that nobody expects."""

import os
import shutil
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets.__main__ import main
from datasets.core.class_folders import scan, write_csv
from datasets.core.errors import ManifestError
from datasets.core.manifest_file import read_manifest


def put(folder, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def pairs(label: str, count: int, suffixes=("wav", "mp4")) -> list[str]:
    return [f"{label}/{i}.{suffix}" for i in range(count) for suffix in suffixes]


def run(capsys, *words: str) -> tuple[int, str, str]:
    return main(["scan", *words]), *capsys.readouterr()


def test_files_of_one_name_are_one_sample(tmp_path, capsys):
    put(tmp_path, *pairs("bark", 10), *pairs("meow", 5), "bark/9.txt", "meow/9/0001.jpg", "meow/9/2.PNG", "meow/9.WAV")
    code, out, err = run(capsys, str(tmp_path))
    assert (code, err) == (0, "")
    assert "16 samples of 2 classes, audio:audio, visual:video, frames:frames, text:text\n" in out
    assert "  bark  train 8, test 2\n  meow  train 5, test 1\n" in out and "allow_missing=true" in out.splitlines()[-1]
    listing = read_manifest(tmp_path / "manifest.csv", allow_missing=True)
    files = {sample.id: sample.files for sample in listing.samples}
    assert files["bark/9"] == {"audio": "bark/9.wav", "visual": "bark/9.mp4", "frames": "", "text": "bark/9.txt"}
    assert files["meow/9"] == {"audio": "meow/9.WAV", "visual": "", "frames": "meow/9", "text": ""}
    assert all(sample.group == sample.id and sample.label in ("bark", "meow") for sample in listing.samples)


def test_folders_may_say_the_split(tmp_path):
    put(tmp_path, *(f"{part}/{name}" for part in ("train", "val", "test") for name in pairs("a", 2) + pairs("b", 1)))
    found = scan(tmp_path)
    assert found.split["val/a/1"] == "val" and found.label["test/b/0"] == "b" and len(found.samples) == 9
    write_csv(found, tmp_path / "manifest.csv", overwrite=False)
    assert {s.split for s in read_manifest(tmp_path / "manifest.csv").samples} == {"train", "val", "test"}
    shutil.rmtree(tmp_path / "test")
    with pytest.raises(ManifestError, match="folders train, val and none of test"):
        scan(tmp_path)
    put(tmp_path, *pairs("bus", 2))  # a train is a vehicle then
    assert {"bus"} == set(scan(tmp_path).label.values())


def test_videos_alone_are_sound_and_pictures(tmp_path):
    put(tmp_path, *pairs("a", 3, ("mp4",)), *pairs("b", 3, ("mp4",)))
    found = scan(tmp_path)
    write_csv(found, tmp_path / "manifest.csv", overwrite=False)
    sample = read_manifest(tmp_path / "manifest.csv").samples[0]
    assert sample.files == {"audio": "a/0.mp4", "visual": "a/0.mp4"} and found.incomplete == 0


def test_the_draw_of_the_test_does_not_depend_on_the_order_or_on_other_classes(tmp_path):
    put(tmp_path, *pairs("a", 20))
    before = scan(tmp_path).split
    put(tmp_path, *pairs("b", 7), *pairs("one", 1))
    after = scan(tmp_path).split
    assert before.items() <= after.items() and after["one/0"] == "train"
    assert sum(part == "test" for part in before.values()) == 4


def test_what_is_left_out_is_said_with_its_reason(tmp_path, capsys):
    folder = tmp_path / "clips"
    put(folder, *pairs("a", 2), "a/0.flac", "a/x.exe", "a/deep/b.wav", "notes.md", ".hidden", "a/.DS_Store", "a/y.npz")
    put(folder, "a/line\nbreak.wav", "a/end .wav ", "classes.txt", "C:/1.wav")
    put(tmp_path, "else/secret.wav")
    (folder / "a/out.wav").symlink_to(tmp_path / "else/secret.wav")
    (folder / "outside").symlink_to(tmp_path / "else")
    (folder / "a/again.wav").symlink_to(folder / "a/0.wav")  # stays within
    (folder / "a/again.mp4").symlink_to("0.mp4")
    (folder / "a/nowhere.wav").symlink_to("none.wav")
    os.mkfifo(folder / "a/pipe.wav")
    code, out, _ = run(capsys, str(folder))
    assert code == 0 and "manifest.csv: 3 samples of 1 classes" in out
    for line in (
        "left out, 1: a second audio file of one sample; keep one (a/0.wav)",
        "left out, 1: no kind of file that is known here: '.exe' (a/x.exe)",
        "left out, 1: no kind of file that is known here: '.npz' (a/y.npz)",
        "left out, 1: a folder with no pictures, or with more than pictures (a/deep)",
        "left out, 2: a link that leads out of the folder; put a copy there (outside, a/out.wav)",
        "left out, 2: neither a file nor a folder (a/nowhere.wav, a/pipe.wav)",
        "left out, 1: beside the folders of the classes; put it into one of them (notes.md)",
    ):
        assert line in out.splitlines()
    assert "left out, 3: a name that no CSV can hold" in out and "a/line\\nbreak.wav" in out
    assert "secret" not in (folder / "manifest.csv").read_text()


def test_a_csv_that_is_there_is_kept(tmp_path, capsys):
    put(tmp_path, *pairs("a", 2))
    (tmp_path / "manifest.csv").write_text("mine")
    code, out, err = run(capsys, str(tmp_path))
    assert (code, out) == (2, "") and "is there already; it is kept" in err and err.count("\n") == 1
    assert (tmp_path / "manifest.csv").read_text() == "mine"
    assert run(capsys, str(tmp_path), "--overwrite")[0] == 0
    assert (tmp_path / "manifest.csv").read_text().startswith("id,split,label,group,audio:audio")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "manifest.csv"]
    (tmp_path / "manifest.csv").unlink()
    (tmp_path / "manifest.csv").mkdir()
    code, _, err = run(capsys, str(tmp_path), "--overwrite")
    assert code == 2 and err.count("\n") == 1


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ([], "no sample found; put files into FOLDER/CLASS/"),
        (["a.wav", "a.mp4"], "beside the folders of the classes"),
        (["a/b/c/d.wav"], "no sample found; folders: 'a'"),
        (["a/1.wav", "b/1.wav"], "audio:audio is all there is, and two modalities are needed"),
    ],
)
def test_folders_that_hold_nothing_to_train_on_are_one_line(tmp_path, capsys, names, says):
    put(tmp_path, *names)
    code, out, err = run(capsys, str(tmp_path))
    assert (code, out) == (2, "") and says in err and err.count("\n") == 1
    assert not (tmp_path / "manifest.csv").exists()


def test_no_folder_is_one_line(tmp_path, capsys):
    for path in (tmp_path / "no", "/dev/null"):
        code, _, err = run(capsys, str(path))
        assert code == 2 and str(path) in err and err.count("\n") == 1


NAME = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=("Cs",))
    | st.sampled_from(string.punctuation.replace("/", "") + " \n\r\t\u2028\ufeff"),
    min_size=1,
    max_size=12,
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 200)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(NAME, NAME), min_size=1, max_size=4, unique=True))
def test_every_name_survives_or_is_left_out(tmp_path, names):
    shutil.rmtree(tmp_path)
    put(tmp_path, *pairs("plain", 3))
    for label, name in names:
        put(tmp_path, f"{label}/{name}.wav", f"{label}/{name}.mp4")
    found = scan(tmp_path)
    write_csv(found, tmp_path / "manifest.csv", overwrite=True)
    listing = read_manifest(tmp_path / "manifest.csv", allow_missing=True)
    assert {s.id: s.label for s in listing.samples} == found.label
    for sample in listing.samples:
        for path in filter(None, sample.files.values()):
            assert (tmp_path / path).is_file()
    left = {path for paths in found.left_out.values() for path in paths}
    for label, name in names:
        there = f"{label}/{name}" in found.samples
        hidden = label.startswith(".") or name.startswith(".")
        assert there or hidden or left & {label, f"{label}/{name}.wav"}


def test_names_that_are_not_text_are_left_out(tmp_path):
    put(tmp_path, *pairs("a", 2))
    (tmp_path / "a" / os.fsdecode(b"\xff.wav")).touch()
    found = scan(tmp_path)
    assert len(found.samples) == 2 and len(found.left_out) == 1
