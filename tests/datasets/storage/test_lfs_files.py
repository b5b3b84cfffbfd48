"""Lists of files from git-lfs servers on this machine: good, slow, busy, over their quota, wrong; and ten kills."""

from __future__ import annotations

import gzip
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datasets.core.errors import DataError
from datasets.core.files import locked
from datasets.storage import download, lfs_files
from datasets.storage.download import ExactFile
from datasets.storage.lfs_files import ListedFile, fetch_listed, read_listed
from tests.helpers.disks import disk
from tests.helpers.lfs_server import Behaviour, lfs_server, oid

ROOT = Path(__file__).parents[3]
FILES = {f"{'AudioWAV' if i % 2 else 'VideoFlash'}/{i}": random.Random(i).randbytes(9000 + i) for i in range(230)}
FILES["AudioWAV/twin"] = FILES["AudioWAV/1"]  # two names, one object
LISTED = [ListedFile(path, ExactFile(len(body), oid(body))) for path, body in FILES.items()]
BODIES = sum(map(len, FILES.values()))
Lfs = tuple[str, Behaviour]
Start = Callable[[], Lfs]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(download, "PAUSE", 0.01)
    monkeypatch.setattr(lfs_files, "PAUSE", 0.02)
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def lfs() -> Iterator[Lfs]:
    with lfs_server(FILES) as both:
        yield both


@pytest.fixture
def other() -> Iterator[Lfs]:
    with lfs_server(FILES) as both:
        yield both


def there(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def few(number: int) -> list[ListedFile]:
    return LISTED[:number]


def batches(behaviour: Behaviour) -> list[object]:
    return [number for what, number, _ in behaviour.log if what == "batch"]


def test_all_files_come_once_in_batches_of_100(lfs: Lfs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[str, int, int]] = []
    lfs[1].drip = 0.002
    fetch_listed(LISTED, tmp_path / "new" / "raw", [lfs[0]], lambda *shown: seen.append(shown))
    assert there(tmp_path / "new" / "raw") == FILES
    assert batches(lfs[1]) == [100, 100, 31] and len(lfs[1].log) == len(FILES) + 3
    assert 4 <= lfs[1].most_at_once <= 1.5 * lfs_files.CONNECTIONS  # the server sees the end of a request a little late
    assert seen[-1] == ("fetching 231 of 231 files", BODIES, BODIES)
    assert {total for *_, total in seen} == {BODIES} and all(0 <= done <= BODIES for _, done, _ in seen)
    fetch_listed(LISTED, tmp_path / "new" / "raw", ["http://127.0.0.1:1/nobody"])  # all is there: nobody is asked
    assert capsys.readouterr() == ("", "")


def test_what_is_missing_or_other_is_fetched(lfs: Lfs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, body in FILES.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(body)
    (tmp_path / "AudioWAV/1").unlink()
    (tmp_path / "AudioWAV/1.part").write_bytes(FILES["AudioWAV/1"][:5000])
    (tmp_path / "AudioWAV/3").write_bytes(FILES["AudioWAV/3"][:-1] + b"?")
    (tmp_path / "AudioWAV/5").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "AudioWAV/7.wav").write_bytes(b"somebody's own")
    fetch_listed(LISTED, tmp_path, [lfs[0]])
    assert there(tmp_path) == {**FILES, "AudioWAV/7.wav": b"somebody's own"} | {
        k: v for k, v in there(tmp_path).items() if k.startswith("cache/")
    }
    assert batches(lfs[1]) == [3]
    assert [h.get("Range") for h in lfs[1].headers].count("bytes=5000-") == 1
    assert "2 files are not the published ones; they are fetched again" in capsys.readouterr().err


def test_links_that_expire_are_asked_for_again(lfs: Lfs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lfs[1].lives = 30  # files, then every link of the same answer is refused
    fetch_listed(LISTED, tmp_path / "raw", [lfs[0]])
    assert there(tmp_path / "raw") == FILES and len(batches(lfs[1])) >= 8
    assert capsys.readouterr().err == ""


def test_links_that_say_when_they_expire_are_not_tried_later(lfs: Lfs, tmp_path: Path) -> None:
    lfs[1].action, lfs[1].drip = {"expires_in": 1.0}, 0.1
    fetch_listed(few(50), tmp_path / "raw", [lfs[0]])  # 50 files at 8 connections take 2 s
    assert there(tmp_path / "raw") == {file.path: FILES[file.path] for file in few(50)}
    assert len(batches(lfs[1])) >= 2 and all(status == 200 for *_, status in lfs[1].log)


def test_a_body_that_is_cut_off_goes_on(lfs: Lfs, tmp_path: Path) -> None:
    lfs[1].cut = {file.exact.sha256 for file in few(40)}
    fetch_listed(few(40), tmp_path / "raw", [lfs[0]])
    assert there(tmp_path / "raw") == {file.path: FILES[file.path] for file in few(40)}
    assert sum("Range" in headers for headers in lfs[1].headers) == 40 and batches(lfs[1]) == [40]


def test_a_busy_server_is_waited_for(lfs: Lfs, tmp_path: Path) -> None:
    lfs[1].busy = {"GET": 5}
    began = time.monotonic()
    fetch_listed(few(20), tmp_path / "raw", [lfs[0]])
    assert len(there(tmp_path / "raw")) == 20 and time.monotonic() - began >= 1  # as its Retry-After says
    assert [status for *_, status in lfs[1].log].count(429) == 5


def test_headers_go_to_the_link_and_not_to_where_it_leads(lfs: Lfs, other: Lfs, tmp_path: Path) -> None:
    lfs[1].action = {"header": {"Authorization": "Basic c2VjcmV0", "X-Meta": "1"}}
    lfs[1].moved = other[0].removesuffix("/repo")
    fetch_listed(few(10), tmp_path / "raw", [lfs[0]])
    assert {(h.get("Authorization"), h.get("X-Meta")) for h in lfs[1].headers} == {("Basic c2VjcmV0", "1")}
    assert len(other[1].headers) == 10 and not any({"Authorization", "X-Meta"} & h.keys() for h in other[1].headers)


# ---- a repository that fails is left for the next one


def test_a_quota_that_is_used_up(lfs: Lfs, other: Lfs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lfs[1].quota = 1
    fetch_listed(LISTED, tmp_path / "raw", [lfs[0], other[0]])
    assert there(tmp_path / "raw") == FILES
    budget = "HTTP 403 Forbidden: This repository exceeded its LFS budget."
    assert capsys.readouterr().err == f"{lfs[0]}: {budget}; going on with {other[0]}\n"
    assert batches(lfs[1])[0] == 100 and 131 <= sum(what == "object" for what, *_ in other[1].log) < 140


def test_both_quotas_are_used_up(lfs: Lfs, other: Lfs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lfs[1].quota, other[1].status = 1, 509
    with pytest.raises(DataError) as error:
        fetch_listed(LISTED, tmp_path / "raw", [lfs[0], other[0]])
    assert str(error.value) == (
        f"{other[0]}: HTTP 509 ; {len(there(tmp_path / 'raw'))} of 231 files are there: run the same command again "
        "later, it goes on where it stopped"
    )
    assert capsys.readouterr().err.count("\n") == 1
    assert 100 - lfs_files.CONNECTIONS < len(there(tmp_path / "raw")) <= 100  # the next links are asked for early
    other[1].status = 0
    fetch_listed(LISTED, tmp_path / "raw", [lfs[0], other[0]])
    assert there(tmp_path / "raw") == FILES


@pytest.mark.parametrize("code", [404, 410, 422])
def test_an_object_that_one_repository_has_not(
    lfs: Lfs, other: Lfs, tmp_path: Path, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    lfs[1].errors = {LISTED[5].exact.sha256: {"code": code, "message": "gone"}}
    fetch_listed(few(120), tmp_path / "raw", [lfs[0], other[0]])
    assert len(there(tmp_path / "raw")) == 120
    said = capsys.readouterr().err
    assert said == f"{lfs[0]}: {LISTED[5].path}: error {code}: gone; going on with {other[0]}\n"
    assert sum(what == "object" for what, *_ in other[1].log) == 1


def test_wrong_bytes_are_not_taken(lfs: Lfs, other: Lfs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lfs[1].wrong = {LISTED[5].exact.sha256, LISTED[6].exact.sha256}
    with pytest.raises(DataError, match=r"other bytes than the published ones, and 1 more files; 18 of 20 files are"):
        fetch_listed(few(20), tmp_path / "raw", [lfs[0]])
    assert len(there(tmp_path / "raw")) == 18 and not list((tmp_path / "raw").rglob("*.part"))
    assert sum(name in lfs[1].wrong for what, name, _ in lfs[1].log if what == "object") == 4  # twice each
    fetch_listed(few(20), tmp_path / "raw", [lfs[0], other[0]])
    assert len(there(tmp_path / "raw")) == 20
    assert f"going on with {other[0]}\n" in capsys.readouterr().err


def test_a_server_of_nothing_but_wrong_bytes_is_left_soon(lfs: Lfs, tmp_path: Path) -> None:
    lfs[1].wrong = {file.exact.sha256 for file in LISTED}
    with pytest.raises(
        DataError, match="17 files in a row failed, the last by other bytes than the published ones; 0 "
    ):
        fetch_listed(LISTED, tmp_path / "raw", [lfs[0]])
    assert len(lfs[1].log) < 30 and not there(tmp_path / "raw")


def test_nobody_answers(other: Lfs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with lfs_server(FILES) as (gone, _):
        pass
    fetch_listed(few(20), tmp_path / "raw", [gone, other[0]])
    said = capsys.readouterr().err
    assert "refused, 4 times; going on with" in said and said.count("\n") == 1


# ---- the disk


def test_a_full_disk_is_said_before_anything_is_fetched(lfs: Lfs, tmp_path: Path) -> None:
    with disk(tmp_path / "small", "size=1m"):
        with pytest.raises(DataError, match=r"small: cannot write \(needs 2\.1 MB more: the disk at .*OGM_DATA"):
            fetch_listed(LISTED, tmp_path / "small", [lfs[0]])
        assert not lfs[1].log and not there(tmp_path / "small")


def test_a_disk_that_another_program_fills(
    lfs: Lfs, other: Lfs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with disk(tmp_path / "small", "size=1m"):
        monkeypatch.setattr(lfs_files, "_ask_for_space", lambda *_: None)
        with pytest.raises(DataError, match=r"No space left on device: the disk at .*OGM_DATA"):
            fetch_listed(LISTED, tmp_path / "small", [lfs[0], other[0]])
        whole = {path: body for path, body in there(tmp_path / "small").items() if not path.endswith(".part")}
        assert len(whole) > 50 and whole.items() <= FILES.items()
        assert not other[1].log and capsys.readouterr().err == ""


def test_what_cannot_be_written_is_not_the_servers_fault(lfs: Lfs, other: Lfs, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "AudioWAV").write_bytes(b"a file")
    with pytest.raises(DataError, match="cannot write"):
        fetch_listed(few(20), tmp_path / "raw", [lfs[0], other[0]])
    assert not other[1].log


def test_one_download_at_a_time(lfs: Lfs, tmp_path: Path) -> None:
    with locked(tmp_path, "busy"), pytest.raises(DataError, match="another process is downloading into it; wait"):
        fetch_listed(few(3), tmp_path, [lfs[0]])


# ---- stopped

COMMAND = """
import signal
import sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background processes ignore, and pass on so
from datasets.storage.lfs_files import fetch_listed, read_listed
fetch_listed(read_listed(Path(sys.argv[1])), Path(sys.argv[2]), [sys.argv[3]])
"""


def start(tmp_path: Path, base: str, program: str = COMMAND) -> subprocess.Popen[str]:
    with gzip.open(tmp_path / "list.csv.gz", "wt") as text:
        text.write("path,bytes,sha256\n")
        text.writelines(f"{file.path},{file.exact.size},{file.exact.sha256}\n" for file in LISTED)
    assert read_listed(tmp_path / "list.csv.gz") == LISTED
    words = [sys.executable, "-c", program, str(tmp_path / "list.csv.gz"), str(tmp_path / "raw"), base]
    return subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
from datasets.storage.lfs_files import fetch_listed, read_listed
files, folder, moments, parts = read_listed(Path(sys.argv[1])), Path(sys.argv[2]), random.Random(0), 0
def whole():
    return sum(path.is_file() and path.suffix != ".part" for path in folder.rglob("*"))
for _ in range(10):
    enough = whole() + moments.randrange(1, 8)
    if not (child := os.fork()):
        fetch_listed(files, folder, [sys.argv[3]])
        os._exit(0)
    while whole() < enough:
        time.sleep(moments.uniform(0, 0.05))
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    parts += len(list(folder.rglob("*.part")))
assert parts, "no file was ever half there"
"""


def test_ten_kills_and_the_same_files(lfs: Lfs, tmp_path: Path) -> None:
    lfs[1].drip = 0.02  # a file has three pieces
    killed = start(tmp_path, lfs[0], KILLED)
    _, err = killed.communicate(timeout=60)
    assert killed.returncode == 0, err
    left = there(tmp_path / "raw")
    whole = {path: body for path, body in left.items() if not path.endswith(".part")}
    assert 10 <= len(whole) < len(FILES) and whole.items() <= FILES.items()
    assert any("Range" in headers for headers in lfs[1].headers)
    lfs[1].drip = 0
    lfs[1].headers.clear()
    fetch_listed(LISTED, tmp_path / "raw", [lfs[0]])
    assert there(tmp_path / "raw") == FILES
    assert len(lfs[1].headers) <= len(FILES) - len(whole)


def test_an_interruption_ends_at_once(lfs: Lfs, tmp_path: Path) -> None:
    lfs[1].drip = 20.0
    process = start(tmp_path, lfs[0])
    while lfs[1].at_once < lfs_files.CONNECTIONS:
        time.sleep(0.01)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode != 0 and time.monotonic() - began < 10
    assert all(path.endswith(".part") for path in there(tmp_path / "raw"))
