"""Prepared sets: written whole or not at all, resumed after a kill, checked when opened, never pickled."""

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from datasets.core.errors import CacheError, DataError, VideoDecodeError
from datasets.storage.build import build
from datasets.storage.cache import Cache, Column, Decoded, RawItem, short_digest

ROOT = Path(__file__).parents[3]
COLUMNS = {"a": Column("<f4", (3,), 300), "b": Column("|u1", (), 100)}
PIECES = [RawItem(f"clip {i}", f"{i} bytes") for i in range(150)]


def decode(piece: RawItem) -> Decoded:
    i = int(piece.key.split()[1])
    rows = {"a": np.full((i % 4, 3), i, np.float32)}
    if i % 2:
        rows["b"] = np.array([i], np.uint8)
    return Decoded(rows, {"odd": i % 2})


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def cache(tmp_path) -> Cache:
    return build(tmp_path / "set", {"x": 1}, PIECES, COLUMNS, decode)


def test_rows_come_back_by_piece(cache, tmp_path):
    assert cache.keys == [piece.key for piece in PIECES]
    for i, key in enumerate(cache.keys):
        assert cache["a"][cache.rows("a", key)].tolist() == [[i] * 3] * (i % 4)
        assert cache["b"][cache.rows("b", key)].tolist() == [i] * (i % 2)
        assert cache.facts[key] == {"odd": i % 2}
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert sorted(files(cache.folder)) == ["a.npy", "b.npy", "index.json", "manifest.json"]
    manifest = json.loads((cache.folder / "manifest.json").read_text())
    assert manifest["recipe"] == {"x": 1} and set(manifest["versions"]) >= {"av", "soundfile", "torch"}
    np.testing.assert_array_equal(np.load(cache.folder / "a.npy", allow_pickle=False), cache["a"])


def test_a_word_is_the_whole_recipe():
    assert short_digest({"a": 1, "b": [2, None]}) == short_digest({"b": [2, None], "a": 1})
    assert short_digest({"a": 1}) != short_digest({"a": 1.5}) and len(short_digest({})) == 12


KILLED = """
import sys, time
from pathlib import Path
from datasets.storage import build as module

from tests.datasets.storage.test_cache import COLUMNS, PIECES, decode
def slowly(piece):
    time.sleep(0.3 if int(piece.key.split()[1]) >= 128 else 0)
    return decode(piece)
module.BRIEF = 0  # no chunk is larger than the first
module.build(Path(sys.argv[1]), {"x": 1}, PIECES, COLUMNS, slowly)
"""


def test_a_killed_preparation_goes_on_and_ends_in_the_same_bytes(cache, tmp_path):
    folder = tmp_path / "killed"
    part, journal = folder.with_name("killed.part"), folder.with_name("killed.part") / "journal.jsonl"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], env={**os.environ, "PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_bytes().count(b"\n") == 2) and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(DataError, match="another process is preparing"):
        build(folder, {"x": 1}, PIECES, COLUMNS, decode)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert part.is_dir() and not folder.exists()
    with (part / "a.npy").open("ab") as file:
        file.write(b"half a row")  # the part of a chunk that no line of the journal vouches for
    with journal.open("ab") as file:
        file.write(b'[{"key": "clip 128", "sou')
    asked: list[str] = []
    build(folder, {"x": 1}, PIECES, COLUMNS, lambda piece: asked.append(piece.key) or decode(piece))
    assert sorted(asked) == sorted(piece.key for piece in PIECES[128:])
    assert files(folder) == files(cache.folder) and not part.exists()


def test_work_done_on_other_raw_files_is_not_used(tmp_path):
    def fails(piece: RawItem) -> Decoded:
        if piece.key == "clip 100":
            raise VideoDecodeError("clip 100: broken")
        return decode(piece)

    with pytest.raises(VideoDecodeError, match="clip 100"):
        build(tmp_path / "set", {}, PIECES, COLUMNS, fails)
    assert not (tmp_path / "set").exists()
    asked: list[str] = []
    pieces = [RawItem("clip 5", "another file"), *PIECES[6:]]
    built = build(tmp_path / "set", {}, pieces, COLUMNS, lambda piece: asked.append(piece.key) or decode(piece))
    assert len(asked) == len(pieces) == len(built.keys)


def test_a_clip_that_is_taken_away_costs_no_decoded_work(tmp_path):
    def fails(piece: RawItem) -> Decoded:
        if piece.key == "clip 100":
            raise VideoDecodeError("clip 100: broken")
        return decode(piece)

    with pytest.raises(VideoDecodeError):
        build(tmp_path / "set", {}, PIECES, COLUMNS, fails)
    asked: list[str] = []
    rest = [piece for piece in PIECES if piece.key != "clip 100"]
    build(tmp_path / "set", {}, rest, COLUMNS, lambda piece: asked.append(piece.key) or decode(piece))
    assert sorted(asked) == sorted(piece.key for piece in rest[64:])


def damage(name: str, how: str) -> None:
    path = Path(name)
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes({"short": data[:-5], "garbage": b"{" * len(data), "empty": b""}[how])


@pytest.mark.parametrize("how", ["missing", "short", "garbage", "empty"])
@pytest.mark.parametrize("name", ["a.npy", "index.json", "manifest.json"])
def test_opening_names_the_damaged_file(cache, name, how):
    damage(cache.folder / name, how)
    with pytest.raises(CacheError) as error:
        Cache(cache.folder)
    assert str(cache.folder / name) in str(error.value) and "prepare" in str(error.value)
    assert "\n" not in str(error.value)


def test_opening_sees_a_header_that_does_not_fit(cache):
    path = cache.folder / "a.npy"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"(223, 3)", b"(669,)  "))
    with pytest.raises(CacheError, match=r"a\.npy holds <f4 \(669,\)"):
        Cache(cache.folder)


def test_verify_reads_every_byte(cache):
    cache.verify()
    path = cache.folder / "a.npy"
    data = bytearray(path.read_bytes())
    data[-7] ^= 1
    path.write_bytes(data)
    again = Cache(cache.folder)
    with pytest.raises(CacheError, match=r"a\.npy has other bytes"):
        again.verify()


def test_memory_maps_are_not_pickled(tmp_path):
    big = {"a": Column("<f4", (1000,), 100)}
    cache = build(tmp_path / "set", {}, PIECES[:100], big, lambda p: Decoded({"a": np.ones((1, 1000), np.float32)}))
    assert cache["a"].sum() == 100_000
    data = pickle.dumps(cache)
    assert len(data) < 20_000 < cache["a"].nbytes
    assert pickle.loads(data)["a"].sum() == 100_000  # noqa: S301 (our own bytes)


def test_a_disk_that_is_too_small_is_said_before_anything_is_decoded(tmp_path):
    with pytest.raises(DataError, match=r"needs 4000000000\.0 MB.*OGM_CACHE") as error:
        build(tmp_path / "set", {}, PIECES, {"a": Column("<f4", (10**6,), 10**9)}, decode)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


FULL = """
import resource, sys
from pathlib import Path
from datasets.storage.build import build

from datasets.core.errors import DataError
from tests.datasets.storage.test_cache import COLUMNS, PIECES, decode
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    build(Path(sys.argv[1]), {}, PIECES, COLUMNS, decode)
except DataError as error:
    print(error)
"""


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path):
    command, env = [sys.executable, "-c", FULL, str(tmp_path / "set")], {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert "cannot write (File too large)" in done.stdout and done.stdout.count("\n") == 1, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match="cannot write") as error:
        build(tmp_path / "file" / "set", {}, PIECES, COLUMNS, decode)
    assert "\n" not in str(error.value)


def test_a_file_that_may_not_be_read_is_not_called_damaged():
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = build(Path(place) / "set", {}, PIECES, COLUMNS, decode).folder
        (folder / "index.json").chmod(0)
        user = os.geteuid()
        os.seteuid(user or 65534)  # root may read everything
        try:
            with pytest.raises(DataError, match=r"index\.json: cannot be read \(Permission denied\)") as error:
                Cache(folder)
        finally:
            os.seteuid(user)
    assert not isinstance(error.value, CacheError) and "delete" not in str(error.value)


def test_a_manifest_that_was_edited_is_refused(cache):
    path = cache.folder / "manifest.json"
    path.write_text(path.read_text().replace('"x": 1', '"x": 2'))
    with pytest.raises(CacheError, match=r"manifest\.json is not as it was written: the prepared set is damaged"):
        Cache(cache.folder)
