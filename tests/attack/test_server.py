"""A server that lies in every way that a download can hear: each ends in one line, with nothing half-written."""

from __future__ import annotations

import gzip
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datasets.core.errors import DataError, PinMismatchError
from datasets.storage import download as fetching
from datasets.storage.download import ExactFile, fetch

GOOD = bytes(range(256)) * 100
PIN = ExactFile(len(GOOD), hashlib.sha256(GOOD).hexdigest())
Send = Callable[[bytes], None]


def answer(send: Send, body: bytes = GOOD, status: str = "200 OK", *headers: str, length: object = None) -> None:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def chunks(send: Send, *parts: bytes) -> None:
    send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for part in parts:
        send(b"%x\r\n" % len(part) + part + b"\r\n")


def for_ever(send: Send, data: bytes, pause: float = 0.0) -> None:
    while True:
        send(data)
        time.sleep(pause)


def drip(send: Send) -> None:
    answer(send, b"", length=len(GOOD))
    for_ever(send, b"a", 0.05)


def drip_headers(send: Send) -> None:
    send(b"HTTP/1.1 200 OK\r\n")
    for_ever(send, b"a", 0.05)


def endless_header(send: Send) -> None:
    send(b"HTTP/1.1 200 OK\r\n")
    for_ever(send, b"a" * 1000)


def endless_trailers(send: Send) -> None:
    chunks(send, GOOD)
    send(b"0\r\n")
    for_ever(send, b"X: " + b"a" * 1000 + b"\r\n")


def endless_chunks(send: Send) -> None:
    chunks(send)
    for_ever(send, b"1000\r\n" + bytes(4096) + b"\r\n")


def endless_continues(send: Send) -> None:
    for_ever(send, b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def endless_body(send: Send) -> None:
    send(b"HTTP/1.1 200 OK\r\n\r\n")
    for_ever(send, bytes(65536))


def moved(send: Send, where: str) -> None:
    answer(send, b"", "302 Found", f"Location: {where}")


# What the server does, and what the line says.
LIES: dict[str, tuple[Callable[[Send], object], str]] = {
    "too short, and says so": (lambda send: answer(send, GOOD[:-1]), "got 25599 bytes"),
    "too long, and says so": (lambda send: answer(send, GOOD + b"a"), "more than the expected 25600 bytes"),
    "other bytes": (lambda send: answer(send, GOOD[:-1] + b"?"), "it was deleted"),
    "a length larger than the body": (lambda send: answer(send, GOOD[:-1], length=len(GOOD)), "ended after 25599"),
    "a length smaller than the body": (lambda send: answer(send, GOOD, length=100), "got 100 bytes"),
    "a length of a terabyte": (lambda send: answer(send, GOOD, length=10**12), "ended after 25600"),
    "a length that is no number": (lambda send: answer(send, GOOD[:5], length="many"), "got 5 bytes"),
    "a negative length": (lambda send: answer(send, GOOD[:5], length=-5), "got 5 bytes"),
    "no body": (lambda send: answer(send, b"", "204 No Content"), "got 0 bytes"),
    "gzip that nobody asked for": (
        lambda send: answer(send, gzip.compress(bytes(10_000_000)), "200 OK", "Content-Encoding: gzip"),
        "bytes with sha256",
    ),
    "another range": (lambda send: answer(send, GOOD, "206 Partial", "Content-Range: bytes 7-99/100"), "another part"),
    "no range": (lambda send: answer(send, GOOD, "206 Partial Content"), "another part"),
    "nothing lies behind": (lambda send: answer(send, b"", "416 Range Not Satisfiable"), "did not fit"),
    "chunks that are cut": (lambda send: chunks(send, GOOD[:100]), "IncompleteRead"),
    "a chunk of no size": (lambda send: (chunks(send), send(b"zz\r\n")), "IncompleteRead"),
    "a chunk of a terabyte": (lambda send: (chunks(send), send(b"%x\r\nabc" % 10**12)), "4 times"),
    "a chunk of a negative size": (lambda send: (chunks(send), send(b"-5\r\nabc")), "4 times"),
    "chunks without end": (endless_chunks, "more than the expected"),
    "a body without end": (endless_body, "more than the expected"),
    "trailers without end": (endless_trailers, "sends without end"),
    "continue, continue": (endless_continues, "sends without end"),
    "a thousand headers": (lambda send: answer(send, GOOD, "200 OK", *["X: y"] * 1000), "more than 100 headers"),
    "a header without end": (endless_header, "more than 65536 bytes"),
    "a drip": (drip, "sends less than 200 bytes a second"),
    "a drip of headers": (drip_headers, "sends less than 200 bytes a second"),
    "nothing at all": (lambda send: time.sleep(5), "timed out"),
    "an end before the start": (lambda send: None, "4 times"),
    "no http": (lambda send: send(b"\x1b[31mhello\r\n\r\n"), "4 times"),
    "a reason that paints the terminal": (lambda send: answer(send, b"", "404 \x1b[31mred"), r"HTTP 404 \\x1b[31mred"),
    "a reason of a kilobyte": (lambda send: answer(send, b"", "404 " + "no " * 400), "HTTP 404 no no"),
    "a file": (lambda send: moved(send, "file:///etc/hostname"), "302"),
    "an ftp server": (lambda send: moved(send, "ftp://127.0.0.1/a"), "leads to no http or https address (ftp://127.0.0.1/a)"),
    "data": (lambda send: moved(send, "data:text/plain,hello"), "302"),
    "itself": (lambda send: moved(send, "/a"), "302"),
    "nowhere": (lambda send: moved(send, "http://127.0.0.1:1/a"), "refused"),
    "an address that is none": (lambda send: moved(send, "http://[::1/a"), "IPv6"),
    "a port that is none": (lambda send: moved(send, "http://127.0.0.1:many/a"), "many"),
    "an address with a line end": (lambda send: moved(send, "http://127.0.0.1:1/a%0d%0aX: y\tz"), "4 times"),
}  # fmt: skip


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[Send], object]], str]]:
    """Starts a server that answers every request in one way, and gives its address."""
    monkeypatch.setattr(fetching, "PAUSE", 0.01)
    monkeypatch.setattr(fetching, "TIMEOUT", 0.2)
    stop, threads, listener = threading.Event(), [], socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)

    def start(lie: Callable[[Send], object]) -> str:
        def one(client: socket.socket) -> None:
            with client:
                client.settimeout(10)
                try:
                    client.recv(65536)
                    lie(lambda data: None if stop.is_set() else client.sendall(data))
                    client.shutdown(socket.SHUT_WR)
                except OSError:
                    pass  # whoever asked has gone away

        def all_of_them() -> None:
            while not stop.is_set():
                try:
                    client, _ = listener.accept()
                except TimeoutError:
                    continue
                threads.append(threading.Thread(target=one, args=(client,), daemon=True))
                threads[-1].start()

        threads.append(threading.Thread(target=all_of_them, daemon=True))
        threads[-1].start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/a"

    yield start
    stop.set()
    threads[0].join()
    listener.close()


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.timeout(60)
def test_a_lie_is_one_line_and_leaves_nothing(lie: str, serve: Callable[..., str], tmp_path: Path) -> None:
    what, says = LIES[lie]
    url = serve(what)
    with pytest.raises(DataError) as error:
        fetch(url, tmp_path / "a", PIN)
    line = str(error.value)
    assert line.isprintable() and len(line) < 500 and url in line and says.replace("\\\\", "\\") in line, line
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"a.part"}  # what a later call goes on with, where the server only stopped
    if isinstance(error.value, PinMismatchError):
        assert not left


@pytest.mark.parametrize("lie", ["another range", "no range", "nothing lies behind", "other bytes"])
def test_what_is_there_of_a_file_does_not_become_another(lie: str, serve: Callable[..., str], tmp_path: Path) -> None:
    """A download that goes on: neither is the part kept that was not continued, nor the file that it replaces lost."""
    (tmp_path / "a").write_bytes(b"an older file")
    (tmp_path / "a.part").write_bytes(GOOD[:1000])
    with pytest.raises(DataError):
        fetch(serve(LIES[lie][0]), tmp_path / "a", PIN)
    assert (tmp_path / "a").read_bytes() == b"an older file" and not (tmp_path / "a.part").exists()


def test_a_download_is_not_written_through_a_link(serve: Callable[..., str], tmp_path: Path) -> None:
    url = serve(answer)
    other = tmp_path / "other"
    for link in (lambda: (tmp_path / "a.part").symlink_to(other), lambda: (tmp_path / "a.part").hardlink_to(other)):
        other.write_bytes(b"somebody else's")
        link()
        with pytest.raises(DataError, match=r"a\.part: a link"):
            fetch(url, tmp_path / "a", PIN)
        assert other.read_bytes() == b"somebody else's" and not (tmp_path / "a").exists()
        (tmp_path / "a.part").unlink()
    assert fetch(url, tmp_path / "a", PIN).read_bytes() == GOOD


def test_a_redirect_on_the_web_is_followed(serve: Callable[..., str], tmp_path: Path) -> None:
    sent: list[int] = []

    def once(send: Send) -> None:
        sent.append(1)
        moved(send, "/b") if len(sent) == 1 else answer(send)

    assert fetch(serve(once), tmp_path / "a", PIN).read_bytes() == GOOD and len(sent) == 2
