"""Archives without a digest of ours, against a real server on this machine; zips that are damaged, hostile, killed."""

import hashlib
import io
import json
import re
import signal
import stat
import subprocess
import sys
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from datasets.core.errors import DataError, PinMismatchError
from datasets.storage import archives
from datasets.storage import download as fetching
from datasets.storage.archives import LOCK, Archive, check_lock, fetch_archive, zenodo_archives
from datasets.storage.unpacking import unpack_zip
from tests.helpers.servers import first_wanted, send_head, serving

ROOT = Path(__file__).parents[3]


def write_zip(members: dict[str, bytes], method: int = zipfile.ZIP_STORED, mode: int = 0o644) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as packed:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type, info.external_attr = method, mode << 16
            packed.writestr(info, content)
    return out.getvalue()


# a zip without compression, so that any byte may be changed
CONTENT = write_zip({"a": bytes(range(256)) * 1000})
NAMES = re.compile(r"x/\w+\.wav")


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.files``; the first ``server.cuts`` answers end after 100,000 bytes."""

    def do_GET(self) -> None:
        server = self.server
        server.log.append((self.path, self.headers["Range"]))  # type: ignore[attr-defined]
        body = server.files.get(self.path)  # type: ignore[attr-defined]
        if body is None:
            return self.send_error(404)
        start = first_wanted(self)
        send_head(self, len(body), start)
        cut = len(server.log) <= server.cuts  # type: ignore[attr-defined]
        self.wfile.write(body[start : start + 100_000] if cut else body[start:])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE", 0.01)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.log, httpd.files, httpd.cuts = [], {"/a.zip": CONTENT}, 0  # type: ignore[attr-defined]
        with serving(httpd) as httpd.base:  # type: ignore[attr-defined]
            monkeypatch.setattr(archives, "ZENODO", f"{httpd.base}/api/records")
            yield httpd


@pytest.fixture
def a_zip(server):
    return Archive("a.zip", f"{server.base}/a.zip", 10**6)


# ---- trust on first use


def test_the_first_download_is_trusted_and_said(server, a_zip, tmp_path, capsys):
    server.cuts = 1
    path = fetch_archive(a_zip, tmp_path)
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert server.log == [("/a.zip", None), ("/a.zip", "bytes=100000-")] and path.read_bytes() == CONTENT
    assert json.loads((tmp_path / LOCK).read_text()) == {"a.zip": {"sha256": digest, "size": len(CONTENT)}}
    (line,) = capsys.readouterr().err.splitlines()
    assert "no published checksum: trusted now, locked in" in line and digest in line
    fetch_archive(a_zip, tmp_path)
    assert len(server.log) == 2 and not capsys.readouterr().err  # nothing is fetched and nothing said again


def test_a_base_replaces_the_address(server, tmp_path):
    assert fetch_archive(Archive("a.zip", "https://host.invalid/b", 10**6), tmp_path, server.base).is_file()


def test_an_archive_that_changed_at_its_host_is_refused(server, a_zip, tmp_path):
    fetch_archive(a_zip, tmp_path).unlink()
    for changed in (CONTENT[:99] + b"?" + CONTENT[100:], CONTENT + b"more", CONTENT[:-10], write_zip({"a": b""})):
        server.files["/a.zip"] = changed
        with pytest.raises(DataError, match=r"remove the entry a\.zip from .*archives\.lock\.json") as error:
            fetch_archive(a_zip, tmp_path)
        assert "\n" not in str(error.value) and [p.name for p in tmp_path.iterdir()] == [LOCK]
    (tmp_path / LOCK).unlink()
    assert fetch_archive(a_zip, tmp_path).read_bytes() == changed


def test_an_archive_that_changed_here_is_refused(server, a_zip, tmp_path, monkeypatch):
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    path = fetch_archive(a_zip, tmp_path / "raw")
    check_lock(path)
    path.write_bytes(CONTENT[:-1] + b"?")
    for look in (lambda: check_lock(path), lambda: fetch_archive(a_zip, tmp_path / "raw")):
        with pytest.raises(PinMismatchError, match="were locked when it was first seen; remove it and download again"):
            look()
    assert path.is_file()  # it may be all that somebody has
    path.unlink()
    check_lock(path)


def test_an_archive_put_there_by_hand_is_locked_by_download(a_zip, server, tmp_path, capsys):
    path = tmp_path / "a.zip"
    path.write_bytes(write_zip({}))
    check_lock(path)
    fetch_archive(a_zip, tmp_path)
    assert not server.log and "(22 bytes" in capsys.readouterr().err
    assert list(json.loads((tmp_path / LOCK).read_text())) == ["a.zip"]


def test_what_is_no_zip_is_not_trusted(server, a_zip, tmp_path):
    server.files["/a.zip"] = b"<html>come back later</html>"
    with pytest.raises(DataError, match="no zip"):
        fetch_archive(a_zip, tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "a.zip").write_bytes(b"of somebody")
    with pytest.raises(DataError, match="no zip"):
        fetch_archive(a_zip, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"] and len(server.log) == 1


def test_locks_of_several_archives_are_kept(server, a_zip, tmp_path):
    server.files["/b.zip"] = write_zip({"b": b""})
    for name in ("b.zip", "a.zip"):
        fetch_archive(Archive(name, f"{server.base}/{name}", 10**6), tmp_path)
    assert list(json.loads((tmp_path / LOCK).read_text())) == ["a.zip", "b.zip"]


@pytest.mark.parametrize("text", ["", "[]", '{"a.zip": 1}', '{"a.zip": {"size": "1", "sha256": "0"}}', "[" * 10**5,
                                  '{"a.zip": {"size": 1, "sha256": 7}}'])  # fmt: skip
def test_a_damaged_lock_is_one_line(a_zip, tmp_path, text):
    (tmp_path / LOCK).write_text(text)
    (tmp_path / "a.zip").write_bytes(CONTENT)
    for look in (lambda: check_lock(tmp_path / "a.zip"), lambda: fetch_archive(a_zip, tmp_path)):
        with pytest.raises(DataError, match=r"not a list of locked archives; remove it"):
            look()


def test_more_than_the_limit_is_not_taken(server, tmp_path):
    with pytest.raises(DataError, match="more than the expected 1000 bytes"):
        fetch_archive(Archive("a.zip", f"{server.base}/a.zip", 1000), tmp_path)
    assert not list(tmp_path.iterdir())


# ---- checksums that Zenodo publishes


def describe(server, **changes):
    """What Zenodo says of a record with one archive and a file that nobody wants."""
    url = f"{server.base}/api/records/7/files/a.zip/content"
    facts = {"key": "a.zip", "size": len(CONTENT), "checksum": f"md5:{hashlib.md5(CONTENT).hexdigest()}",
             "links": {"self": url}, **changes}  # fmt: skip
    server.files |= {
        "/api/records/7": json.dumps({"id": 7, "files": [facts, {**facts, "key": "readme.md"}]}).encode(),
        "/api/records/7/files/a.zip/content": CONTENT,
    }
    server.files["/zenodo-7.json"] = server.files["/api/records/7"]


WANTED = re.compile(r"\w+\.zip|\.\..*")


@pytest.mark.parametrize("mirror", [False, True])
def test_the_checksum_of_zenodo_is_taken(server, tmp_path, capsys, mirror):
    describe(server)
    base = server.base if mirror else None
    for _ in range(2):
        (archive,) = zenodo_archives(7, WANTED, 10**6, tmp_path, base)
        assert fetch_archive(archive, tmp_path, base).read_bytes() == CONTENT
    asked = ["/zenodo-7.json", "/a.zip"] if mirror else ["/api/records/7", "/api/records/7/files/a.zip/content"]
    assert [path for path, _ in server.log] == asked and not capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", LOCK, "zenodo-7.json"]


def test_a_wrong_md5_is_refused(server, tmp_path):
    describe(server, checksum=f"md5:{'0' * 32}")
    (archive,) = zenodo_archives(7, WANTED, 10**6, tmp_path)
    with pytest.raises(PinMismatchError, match=rf"with md5 \w{{32}}, expected {len(CONTENT)} with {'0' * 32}"):
        fetch_archive(archive, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["zenodo-7.json"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"key": "../a.zip"}, "no plain name"), ({"size": "9"}, "no plain name, size"), ({"checksum": None}, "remove it"),
     ({"checksum": "sha1:00"}, "md5"), ({"links": {}}, "not a description"), ({"size": 10**7}, "at most 1000000"),
     ({"links": {"self": "http://elsewhere.invalid/a.zip"}}, "address of Zenodo"), ({"key": "a.7z"}, "no file of")],
)  # fmt: skip
def test_descriptions_that_cannot_be_used(server, tmp_path, changes, reason):
    describe(server, **changes)
    with pytest.raises(DataError, match=reason) as error:
        zenodo_archives(7, WANTED, 10**6, tmp_path)
    assert "\n" not in str(error.value)


def test_a_description_that_is_no_json(server, tmp_path):
    server.files["/api/records/7"] = b"<html>"
    with pytest.raises(DataError, match="not a description of a record"):
        zenodo_archives(7, WANTED, 10**6, tmp_path)


# ---- zips


def save_zip(path: Path, members: dict[str, bytes], **attributes: int) -> Path:
    path.write_bytes(write_zip(members, zipfile.ZIP_DEFLATED, **attributes))
    return path


FILES = {f"x/{i}.wav": hashlib.sha256(b"%d" % i).digest() * 5000 for i in range(6)}


def test_only_wanted_files_of_a_zip_are_unpacked(tmp_path):
    seen = []
    packed = save_zip(tmp_path / "a.zip", {"x/": b"", **FILES, "README": b"no"})
    paths = unpack_zip(packed, tmp_path / "o", NAMES, 10**6, progress=lambda *x: seen.append(x))
    assert {f"x/{p.name}": p.read_bytes() for p in paths} == FILES == dict(FILES)
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == sorted(p.name for p in paths)
    assert seen[-1] == ("unpacking a.zip", 960_000, 960_000)


def test_files_that_are_there_are_left_alone_and_others_written_again(tmp_path):
    packed, out = save_zip(tmp_path / "a.zip", FILES), tmp_path / "o"
    before = {p: p.stat().st_mtime_ns for p in unpack_zip(packed, out, NAMES, 10**6)}
    (out / "1.wav").write_bytes(bytes(160_000))
    (out / "2.wav").write_bytes(b"short")
    (out / "3.wav.part").write_bytes(b"left over")
    (out / "3.wav").unlink()
    (out / "4.wav").unlink()
    (out / "4.wav").symlink_to(packed)
    again = unpack_zip(packed, out, NAMES, 10**6)
    assert {f"x/{p.name}": p.read_bytes() for p in again} == FILES and not list(out.glob("*.part"))
    assert [p.name for p in again if p.stat().st_mtime_ns == before[p]] == ["0.wav", "5.wav"]
    assert zipfile.is_zipfile(packed)  # the link was replaced, not what it led to


@pytest.mark.parametrize("name", ["../x/a.wav", "/x/a.wav", "x/../../a.wav", "..\\a.wav", "C:\\a.wav", "y/../a.txt"])
def test_a_zip_with_a_member_that_would_escape_is_refused(tmp_path, name):
    out = tmp_path / "deep" / "out"
    with pytest.raises(DataError, match="refused, a member would leave the folder"):
        unpack_zip(save_zip(tmp_path / "a.zip", {**FILES, name: b"x"}), out, NAMES, 10**6)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO])
def test_a_zip_with_a_link_is_refused(tmp_path, kind):
    packed = save_zip(tmp_path / "a.zip", {"x/a.wav": b"/etc/passwd"}, mode=kind | 0o777)
    with pytest.raises(DataError, match="a member is a link or a device"):
        unpack_zip(packed, tmp_path / "o", NAMES, 10**6)
    assert unpack_zip(packed, tmp_path / "o", re.compile("none"), 10**6) == []


def test_zips_that_are_too_much_are_refused(tmp_path):
    bomb = save_zip(tmp_path / "a.zip", {"x/a.wav": bytes(10**7)})
    with pytest.raises(DataError, match="unpacks to more than 1000 bytes"):
        unpack_zip(bomb, tmp_path / "o", NAMES, 1000)
    many = save_zip(tmp_path / "b.zip", {f"{i}": b"" for i in range(1000)})
    with pytest.raises(DataError, match="has 1000 entries, more than 999"):
        unpack_zip(many, tmp_path / "o", NAMES, 1000, members=999)
    with pytest.raises(DataError, match=r"damaged archive .*a directory of"):
        unpack_zip(save_zip(tmp_path / "c.zip", {f"{i:0200}": b"" for i in range(1000)}), tmp_path, NAMES, 9, members=9)
    with pytest.raises(DataError, match=r"two files called a\.wav"):
        unpack_zip(save_zip(tmp_path / "d.zip", {"x/a.wav": b"", "y/a.wav": b""}), tmp_path, re.compile(".*"), 9)
    assert not (tmp_path / "o").exists()


def test_a_zip_that_understates_its_sizes_is_refused(tmp_path):
    """The bomb says that it has 100 bytes: no more than that is unpacked, and the checksum shows it."""
    packed = save_zip(tmp_path / "a.zip", {"x/a.wav": bytes(10**6)})
    said = (10**6).to_bytes(4, "little")
    assert packed.read_bytes().count(said) == 2
    packed.write_bytes(packed.read_bytes().replace(said, (100).to_bytes(4, "little")))
    with pytest.raises(DataError, match="a damaged archive"):
        unpack_zip(packed, tmp_path / "o", NAMES, 1000)
    assert not list((tmp_path / "o").iterdir())


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "byte", "password", "lzma"])
def test_a_damaged_zip_is_one_line(tmp_path, damage):
    path = save_zip(tmp_path / "a.zip", FILES)
    packed = bytearray(path.read_bytes())
    directory = packed.index(b"PK\1\2")
    if damage == "byte":
        packed[60] ^= 0xFF
    elif damage == "password":
        packed[6] |= 1
        packed[directory + 8] |= 1
    elif damage == "lzma":
        packed[8] = packed[directory + 10] = 14
    cut = {"cut": packed[: len(packed) // 2], "text": b"not a zip", "empty": b""}
    path.write_bytes(cut.get(damage, packed))
    with pytest.raises(DataError, match="a damaged archive") as error:
        unpack_zip(path, tmp_path / "o", NAMES, 10**6)
    assert "\n" not in str(error.value) and not list((tmp_path / "o").glob("*.wav"))


def test_a_zip_with_any_byte_changed_unpacks_right_or_is_one_line(tmp_path):
    path = save_zip(tmp_path / "a.zip", {"x/a.wav": b"content" * 20, "x/b.wav": b"other"})
    good, good_ones = path.read_bytes(), 0
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :])
        try:
            unpacked = unpack_zip(path, tmp_path / f"{place}", NAMES, 10**6)
        except DataError as error:
            assert "\n" not in str(error), place
        else:
            good_ones += 1
            assert {p.read_bytes() for p in unpacked} <= {b"content" * 20, b"other"}, place
    assert 0 < good_ones < len(good)  # what was changed may be a date


SLOW = """
import re, sys, time
from pathlib import Path
from datasets.storage.unpacking import unpack_zip

def slow(what, done, total):
    print(done, flush=True)
    time.sleep(0.2)

unpack_zip(Path(sys.argv[1]), Path(sys.argv[2]), re.compile(r"x/\\w+\\.wav"), 10**6, progress=slow)
"""


def test_unpacking_that_is_killed_goes_on(tmp_path):
    packed, out = save_zip(tmp_path / "a.zip", FILES), tmp_path / "o"
    with subprocess.Popen([sys.executable, "-c", SLOW, packed, out], cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout and child.stdout.readline() and child.stdout.readline()
        child.kill()
    assert child.returncode == -signal.SIGKILL
    early = {p: p.stat().st_mtime_ns for p in out.glob("*.wav")}
    assert 2 <= len(early) < len(FILES)
    paths = unpack_zip(packed, out, NAMES, 10**6)
    assert {f"x/{p.name}": p.read_bytes() for p in paths} == FILES and not list(out.glob("*.part"))
    assert {p: p.stat().st_mtime_ns for p in early} == early
