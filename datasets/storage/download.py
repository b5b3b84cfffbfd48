"""Downloads that go on where they stopped and are only believed when their digest is right; archives that stay put."""

from __future__ import annotations

import hashlib
import http.client
import io
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets.core.checks import printable
from datasets.core.errors import DataError, PinMismatchError
from datasets.core.files import convert_disk_errors, open_part, part_size
from datasets.core.progress import Progress

SCHEMES = ("https://", "http://")
TRIES = 4
PAUSE = 1.0  # seconds before the second try, then twice as long each time
TIMEOUT = 30.0  # seconds without a byte
SLOWEST_RATE = 200  # bytes a second, over any TIMEOUT: a server that sends less never ends
OVERHEAD = 1 << 20  # bytes that a server may send besides the file: headers, and what divides a body
BLOCK = 1 << 16


@dataclass(frozen=True)
class ExactFile:
    """The one file that is wanted, by its sha256, or by its md5 where its host publishes nothing else."""

    size: int
    sha256: str = ""
    md5: str = ""

    @property
    def digest(self) -> str:
        """Algorithm and digest, for a message."""
        return f"md5 {self.md5}" if self.md5 else f"sha256 {self.sha256}"

    def measure(self, path: Path) -> ExactFile:
        """What a file is, by the digest that this one has."""
        algorithm = "md5" if self.md5 else "sha256"
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, algorithm).hexdigest()
        return replace(self, size=path.stat().st_size, **{algorithm: digest})


class _TransferInterrupted(Exception):
    """Worth another try."""


def fetch(url: str, path: Path, pin: ExactFile | None, *, limit: int = 0, progress: Progress | None = None) -> Path:
    """Downloads ``url`` to ``path``; a file that is there already and matches ``pin`` is not fetched again.

    Bytes go to ``path``.part, which a later call continues, and are renamed when size and digest are right. Without a
    pin at most ``limit`` bytes are taken. Raises DataError: no such address, a server that fails ``TRIES`` times, a
    body that ends early, other bytes than pinned (those are deleted), a disk that is full or read-only, a link or
    somebody else's file where the bytes should go.
    """
    if not url.startswith(SCHEMES):
        raise DataError(f"{url}: not an http or https address")
    if pin and path.is_file() and path.stat().st_size == pin.size and pin.measure(path) == pin:
        return path
    part = path.with_name(path.name + ".part")
    with convert_disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            _transfer(url, part, pin.size if pin else limit, progress)
            break
        except _TransferInterrupted as error:
            reason = printable(error)
    else:
        raise DataError(f"{url}: {reason}, {TRIES} times; run the command again later, it goes on where it stopped")
    if pin and (received := pin.measure(part)) != pin:
        part.unlink()
        raise PinMismatchError(
            f"{url}: got {received.size} bytes with {received.digest}, expected {pin.size} with "
            f"{pin.md5 or pin.sha256}; it was deleted: try again, or get the file elsewhere"
        )
    with convert_disk_errors(path.parent):
        part.replace(path)
    return path


def _transfer(url: str, part: Path, limit: int, progress: Progress | None) -> None:
    """One request, from where ``part`` ends. Raises _Unfinished where another try may help."""
    with convert_disk_errors(part.parent):
        received_bytes = part_size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "ogm-bench", **_range(received_bytes)})
    try:
        with _opener(limit + OVERHEAD).open(request, timeout=TIMEOUT) as response:
            if response.status != 206:  # the server sends all of it, whatever was asked for
                received_bytes = 0
            elif not str(response.headers["Content-Range"]).startswith(f"bytes {received_bytes}-"):
                part.unlink(missing_ok=True)
                raise _TransferInterrupted("sends another part of the file than was asked for")
            total = received_bytes + (response.length or 0)
            with convert_disk_errors(part.parent):
                file = open_part(part, append=received_bytes > 0)
            with file:
                while block := response.read1(BLOCK):
                    with convert_disk_errors(part.parent):
                        file.write(block)
                        file.flush()
                    received_bytes += len(block)
                    if received_bytes > limit:
                        break
                    if progress:
                        progress(f"fetching {part.stem}", received_bytes, total)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing lies behind what we have: it is complete, or not a part of this file
            if received_bytes != limit:
                part.unlink(missing_ok=True)
                raise _TransferInterrupted("what was there of it did not fit") from error
            return
        reason = f"HTTP {error.code} {printable(error.reason)}"
        if error.code < 500 and error.code not in (408, 429):
            raise DataError(f"{url}: {reason}; check the address, or get the file elsewhere") from error
        raise _TransferInterrupted(reason) from error
    except (OSError, http.client.HTTPException) as error:  # refused, unknown host, timed out, cut off
        raise _TransferInterrupted(str(getattr(error, "reason", error) or type(error).__name__)) from error
    if received_bytes > limit:
        part.unlink()
        raise PinMismatchError(f"{url}: sends more than the expected {limit} bytes; it was deleted: check the address")
    if received_bytes < total:
        raise _TransferInterrupted(f"the body ended after {received_bytes} of {total} bytes")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Goes on to where a server leads, on the web alone."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except DataError:  # of a server that this one leads to
            raise
        except ValueError as error:
            fp.close()
            raise DataError(
                f"{req.full_url}: leads to no http or https address ({printable(error)}); get the file elsewhere"
            ) from error

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith(SCHEMES):
            raise ValueError(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _GuardedReader(io.RawIOBase):
    """What a server sends, headers and all: at most ``limit`` bytes, and none of them too slowly."""

    def __init__(self, raw: io.RawIOBase, limit: int) -> None:
        self.raw, self.left = raw, limit
        self.since, self.got = time.monotonic(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self.raw.readinto(buffer) or 0
        self.left, self.got, now = self.left - count, self.got + count, time.monotonic()
        if self.left < 0:
            raise http.client.HTTPException("sends without end")
        if now - self.since > TIMEOUT:
            if self.got < SLOWEST_RATE * TIMEOUT:
                raise TimeoutError(f"sends less than {SLOWEST_RATE} bytes a second")
            self.since, self.got = now, 0
        return count

    def close(self) -> None:
        self.raw.close()
        super().close()


def _opener(limit: int) -> urllib.request.OpenerDirector:
    """Opens http and https alone, not the files and ftp servers that urllib would follow a redirect to."""

    class Response(http.client.HTTPResponse):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.fp = io.BufferedReader(_GuardedReader(self.fp.detach(), limit))

    class Plain(http.client.HTTPConnection):
        response_class = Response

    class Secure(http.client.HTTPSConnection):
        response_class = Response

    class Web(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
        def http_open(self, req: Any) -> Any:
            return self.do_open(Plain, req)

        def https_open(self, req: Any) -> Any:
            return self.do_open(Secure, req)

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(), Web(), _Redirects(), urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(), urllib.request.UnknownHandler(),
    ):  # fmt: skip
        opener.add_handler(handler)
    return opener


def _range(received_bytes: int) -> dict[str, str]:
    return {"Range": f"bytes={received_bytes}-"} if received_bytes else {}
