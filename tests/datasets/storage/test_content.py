"""Digests of raw files: always those of the bytes that are there, whatever became of the memory that saves time."""

import os
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from datasets.core.errors import DataError
from datasets.storage import content
from datasets.storage.cache import sha256

ROOT = Path(__file__).parents[3]


@pytest.fixture
def files(tmp_path, monkeypatch) -> list[Path]:
    """Twelve files, old enough to be remembered."""
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "raw").mkdir()
    paths = [tmp_path / "raw" / f"{i}.npy" for i in range(12)]
    for i, path in enumerate(paths):
        path.write_bytes(bytes([i]) * 3000)
    monkeypatch.setattr(content, "TICK", -(10**12))
    return paths


@pytest.fixture
def read(monkeypatch) -> list[Path]:
    """Which files were read."""
    seen: list[Path] = []
    monkeypatch.setattr(content, "sha256", lambda path: seen.append(path) or sha256(path))
    return seen


def truth(paths: list[Path]) -> dict[Path, str]:
    return {path: sha256(path) for path in paths}


def test_a_second_look_reads_only_what_changed(files, read):
    assert content.digests(files) == truth(files) and sorted(read) == sorted(files)
    read.clear()
    assert content.digests(files) == truth(files) and not read
    before = files[3].stat()
    files[3].write_bytes(b"x" * 3000)
    os.utime(files[3], ns=(before.st_atime_ns, before.st_mtime_ns))  # the same size and time: its inode knows better
    other = files[4].with_name("other")
    other.write_bytes(b"y" * 3000)
    other.replace(files[4])
    assert content.digests(files) == truth(files) and sorted(read) == files[3:5]


def test_what_just_changed_is_not_remembered(files, read, monkeypatch):
    monkeypatch.setattr(content, "TICK", 2_000_000_000)
    content.digests(files)
    read.clear()
    assert content.digests(files) == truth(files) and sorted(read) == sorted(files)
    time.sleep(2.1)
    content.digests(files)
    read.clear()
    assert content.digests(files) == truth(files) and not read


def test_a_folder_of_pictures_is_one_file(tmp_path, files, read):
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(3):
        Image.new("L", (4, 4), 40 * i).save(folder / f"{i}.png")
    first = content.digests([folder])[folder]
    read.clear()
    assert content.digests([folder]) == {folder: first} and not read
    Image.new("L", (4, 4), 41).save(folder / "1.png")
    second = content.digests([folder])[folder]
    (folder / "2.png").unlink()
    assert len({first, second, content.digests([folder])[folder]}) == 3


def test_a_damaged_memory_never_gives_a_wrong_digest(tmp_path, files, read):
    memory, known = tmp_path / "cache" / "content.sqlite", truth(files)
    content.digests(files)
    whole = memory.read_bytes()
    for case in range(150):
        rng, data = random.Random(case), bytearray(whole)
        for _ in range(rng.choice([1, 1, 4, 100])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        memory.write_bytes(data[: rng.randrange(len(data))] if case % 5 == 0 else data)
        assert content.digests(files) == known, case
    memory.write_bytes(b"no database at all" * 99)
    content.digests(files)
    content.digests(files)
    read.clear()
    assert content.digests(files) == known and not read  # it was begun anew
    with sqlite3.connect(memory) as base:  # an entry that belongs to another file
        (entry,) = base.execute("SELECT entry FROM digests WHERE path = ?", (bytes(files[1]),)).fetchone()
        base.execute("UPDATE digests SET entry = ? WHERE path = ?", (entry, bytes(files[2])))
    base.close()
    assert content.digests(files) == known and read == [files[2]]


def test_without_a_place_for_the_memory_everything_is_read(tmp_path, files, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    for place in ("file", "file/below"):
        monkeypatch.setenv("OGM_CACHE", str(tmp_path / place))
        assert content.digests(files) == truth(files)


def test_what_is_not_there_has_no_digest_and_what_cannot_be_read_is_one_line(tmp_path, files):
    (tmp_path / "empty").mkdir()
    gone = [tmp_path / "gone.npy", tmp_path / "empty"]
    assert content.digests([*files, *gone]) == truth(files)
    pieces = {"whole": {"a": files[0], "b": files[1]}, "half": {"a": files[0], "b": gone[0]}}
    assert content.sources(pieces).keys() == {"whole"}
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataError, match=r"loop: cannot be read \(Too many levels of symbolic links\)") as error:
        content.digests([tmp_path / "loop"])
    assert "\n" not in str(error.value)


def test_a_file_that_changes_meanwhile_is_one_line(files, monkeypatch):
    def appended(path: Path) -> str:
        with path.open("ab") as file:
            file.write(b"more")
        return sha256(path)

    monkeypatch.setattr(content, "sha256", appended)
    with pytest.raises(DataError, match="it changed while it was read"):
        content.digests(files)


LOOK = """
import sys
from pathlib import Path
from datasets.storage import content
content.TICK = -(10**12)
paths = sorted(Path(sys.argv[1]).iterdir())
for _ in range(5):
    print(*content.digests(paths).values())
"""


def test_several_processes_share_the_memory(tmp_path, files, read):
    words, env = [sys.executable, "-c", LOOK, str(tmp_path / "raw")], {**os.environ, "PYTHONPATH": str(ROOT)}
    several = [subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outs = [process.communicate(timeout=120)[0] for process in several]
    assert set("".join(outs).splitlines()) == {" ".join(truth(sorted(files)).values())}
    assert content.digests(files) == truth(files) and not read


@pytest.mark.parametrize("name", ["a/b.WAV", "a.b/c", "clips.d/", "x", ".hidden", "a.tar.gz", "a.", "b.c/.d"])
def test_a_path_as_text_or_as_an_object_is_the_same_source(name):
    as_text, as_object = (content.source({"audio": path}, {path: "digest"}) for path in (name, Path(name)))
    assert as_text == as_object
