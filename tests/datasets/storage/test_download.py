"""Downloads against a real server on this machine that is good, wrong, cut off, forgetful or broken."""

import hashlib
import io
import re
import tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from datasets.core.errors import DataError, PinMismatchError
from datasets.storage import download as fetching
from datasets.storage.download import ExactFile, fetch
from datasets.storage.unpacking import unpack
from tests.helpers.servers import first_wanted, send_head, serving

GOOD = bytes(range(256)) * 1000
PIN = ExactFile(len(GOOD), hashlib.sha256(GOOD).hexdigest())


class Handler(BaseHTTPRequestHandler):
    """/KIND/...: what kind of server to be. The server's ``log`` holds (kind, Range header) of every request."""

    def do_GET(self) -> None:
        kind, wanted = self.path.split("/")[1], self.headers["Range"]
        log = self.server.log  # type: ignore[attr-defined]
        log.append((kind, wanted))
        if kind in ("404", "500"):
            return self.send_error(int(kind))
        if kind == "recovers" and len(log) < 3:
            return self.send_error(503)
        body = b"wrong" * 100 if kind == "wrong" else GOOD[:-1] + b"?" if kind == "altered" else GOOD
        start = 0 if kind.startswith("whole") else first_wanted(self)
        if wanted and start >= len(body):
            return self.send_error(416)
        send_head(self, len(body), start)
        stop = start + 100_000 if kind in ("cut", "whole-cut") or (kind == "once" and len(log) == 1) else len(body)
        self.wfile.write(body[start:stop])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE", 0.01)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.log = []  # type: ignore[attr-defined]
        with serving(httpd) as httpd.base:  # type: ignore[attr-defined]
            yield httpd


def test_a_good_file_arrives_once(server, tmp_path):
    seen: list[tuple[str, int, int]] = []
    path = fetch(f"{server.base}/good/a.bin", tmp_path / "new" / "a.bin", PIN, progress=lambda *x: seen.append(x))
    assert path.read_bytes() == GOOD and [p.name for p in path.parent.iterdir()] == ["a.bin"]
    assert seen[-1] == ("fetching a.bin", len(GOOD), len(GOOD))
    fetch(f"{server.base}/good/a.bin", path, PIN)
    assert len(server.log) == 1
    path.write_bytes(b"spoiled")
    assert fetch(f"{server.base}/good/a.bin", path, PIN).read_bytes() == GOOD


def test_it_goes_on_where_it_stopped(server, tmp_path):
    (tmp_path / "a.part").write_bytes(GOOD[:5000])
    assert fetch(f"{server.base}/good/a", tmp_path / "a", PIN).read_bytes() == GOOD
    assert server.log == [("good", "bytes=5000-")]


def test_a_server_that_ignores_ranges_is_read_from_the_start(server, tmp_path):
    (tmp_path / "a.part").write_bytes(GOOD[:5000])
    assert fetch(f"{server.base}/whole/a", tmp_path / "a", PIN).read_bytes() == GOOD


def test_a_complete_part_is_only_renamed(server, tmp_path):
    (tmp_path / "a.part").write_bytes(GOOD)
    assert fetch(f"{server.base}/good/a", tmp_path / "a", PIN).read_bytes() == GOOD


def test_a_body_that_ends_early_is_continued(server, tmp_path):
    assert fetch(f"{server.base}/once/a", tmp_path / "a", PIN).read_bytes() == GOOD
    assert server.log == [("once", None), ("once", "bytes=100000-")]


def test_a_body_that_always_ends_early_is_given_up(server, tmp_path):
    body = fetching.TRIES * 100_000 + 1
    with pytest.raises(DataError, match=rf"/whole-cut/a: the body ended after 100000 of {len(GOOD)} bytes, 4 times"):
        fetch(f"{server.base}/whole-cut/a", tmp_path / "a", ExactFile(body, ""))
    assert len(server.log) <= fetching.TRIES and not (tmp_path / "a").exists()


def test_a_server_that_recovers_is_waited_for(server, tmp_path):
    assert fetch(f"{server.base}/recovers/a", tmp_path / "a", PIN).read_bytes() == GOOD
    assert len(server.log) == 3


@pytest.mark.parametrize("kind", ["wrong", "altered"])
def test_wrong_bytes_are_deleted(server, tmp_path, kind):
    with pytest.raises(PinMismatchError, match=f"/{kind}/a: got .* expected {PIN.size} with {PIN.sha256}"):
        fetch(f"{server.base}/{kind}/a", tmp_path / "a", PIN)
    assert not list(tmp_path.iterdir())


def test_more_than_expected_is_not_read_to_the_end(server, tmp_path):
    with pytest.raises(PinMismatchError, match="more than the expected 1000 bytes"):
        fetch(f"{server.base}/good/a", tmp_path / "a", None, limit=1000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kind", "requests"), [("404", 1), ("500", fetching.TRIES)])
def test_errors_of_the_server_are_one_line(server, tmp_path, kind, requests):
    with pytest.raises(DataError, match=f"{server.base}/{kind}/a: HTTP {kind}") as error:
        fetch(f"{server.base}/{kind}/a", tmp_path / "a", PIN)
    assert "\n" not in str(error.value) and len(server.log) == requests and not list(tmp_path.iterdir())


def test_nobody_answers(server, tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        port = other.server_port
    with pytest.raises(DataError, match=f"127.0.0.1:{port}/a: .*refused, 4 times"):
        fetch(f"http://127.0.0.1:{port}/a", tmp_path / "a", PIN)


def test_only_the_web_is_read(tmp_path):
    with pytest.raises(DataError, match="not an http"):
        fetch("file:///etc/hostname", tmp_path / "a", PIN)


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        fetch(f"{server.base}/good/a", tmp_path / "file" / "a", PIN)


# ---- archives


def archive(path, members: dict[str, bytes | str]):
    """A tar.gz of files (bytes) and links (the text they point to)."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


NAMES = re.compile(r"[^/]+/recordings/\w+\.wav")


def test_only_wanted_files_are_unpacked(tmp_path):
    members: dict[str, bytes | str] = {"x/recordings/a.wav": b"one", "x/README": b"no", "x/recordings/b.wav": b"two",
                                       "x/recordings/c.wav": "a.wav"}  # fmt: skip
    unpack(archive(tmp_path / "a.tar.gz", members), tmp_path / "out", NAMES, 1000)
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == {"a.wav": b"one", "b.wav": b"two"}


@pytest.mark.parametrize("name", ["../evil/recordings/a.wav", "/evil/recordings/a.wav", "x/../../recordings/a.wav"])
def test_a_member_that_would_escape_is_refused(tmp_path, name):
    out = tmp_path / "deep" / "out"
    if name.startswith("/"):  # a leading slash is dropped: the file stays inside
        unpack(archive(tmp_path / "a.tar.gz", {name: b"x"}), out, NAMES, 1000)
    else:
        with pytest.raises(DataError, match="refused, a member would leave the folder"):
            unpack(archive(tmp_path / "a.tar.gz", {name: b"x"}), out, NAMES, 1000)
    assert not [p for p in tmp_path.rglob("*.wav") if out not in p.parents]


def test_a_link_that_would_escape_is_refused(tmp_path):
    with pytest.raises(DataError, match="refused"):
        unpack(archive(tmp_path / "a.tar.gz", {"x/recordings/a.wav": "../../../etc/passwd"}), tmp_path / "o", NAMES, 9)


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path):
    with pytest.raises(DataError, match="more than 1000 bytes"):
        unpack(archive(tmp_path / "a.tar.gz", {"x/recordings/a.wav": bytes(10**6)}), tmp_path / "o", NAMES, 1000)


@pytest.mark.parametrize("how", ["cut", "text"])
def test_a_damaged_archive_is_one_line(tmp_path, how):
    path = archive(
        tmp_path / "a.tar.gz", {f"x/recordings/{i}.wav": hashlib.sha256(b"%d" % i).digest() * 40 for i in range(50)}
    )
    half = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(half if how == "cut" else b"not an archive")
    with pytest.raises(DataError, match="a damaged archive") as error:
        unpack(path, tmp_path / "out", NAMES, 10**6)
    assert "\n" not in str(error.value)
