"""Downloads that go on where they stopped and are only believed when their digest is right; archives that stay put."""

from __future__ import annotations

import hashlib
import http.client
import io
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from datasets.core.checks import printable
from datasets.core.errors import DataError, PinMismatchError
from datasets.core.files import convert_disk_errors, open_part, part_size
from datasets.core.progress import Progress

SCHEMES = ("https://", "http://")
TRIES = 4
PAUSE = 1.0  # seconds before the second try, then twice as long each time
TIMEOUT = 30.0  # seconds without a byte
LONGEST_WAIT = 120.0  # seconds that a server may ask us to wait
SLOWEST_RATE = 200  # bytes a second, over any TIMEOUT: a server that sends less never ends
OVERHEAD = 1 << 20  # bytes that a server may send besides the file: headers, and what divides a body
BLOCK = 1 << 16
T = TypeVar("T")


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


class ServerError(DataError):
    """A server that cannot be reached, fails or refuses.

    Args:
        url: What was asked for.
        reason: What is wrong.
        advice: What to do about it.
        status: HTTP's number where the server refuses, else 0.
        body: The first bytes of what a server that refuses says about it.
    """

    def __init__(self, url: str, reason: str, advice: str, status: int = 0, body: bytes = b"") -> None:
        super().__init__(f"{url}: {reason}; {advice}")
        self.reason, self.status, self.body = reason, status, body


class _TransferInterrupted(Exception):
    """Worth another try, after ``wait`` seconds at the earliest."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def fetch(
    url: str,
    path: Path,
    pin: ExactFile | None,
    *,
    limit: int = 0,
    progress: Progress | None = None,
    headers: Mapping[str, str] | None = None,
) -> Path:
    """Downloads ``url`` to ``path``; a file that is there already and matches ``pin`` is not fetched again.

    Bytes go to ``path``.part, which a later call continues, and are renamed when size and digest are right. Without a
    pin at most ``limit`` bytes are taken. ``headers`` are sent to ``url`` alone, not to where it redirects. Raises
    DataError: no such address, a server that fails ``TRIES`` times or refuses (ServerError), other bytes than pinned
    (those are deleted; PinMismatchError), a disk that is full or read-only, a link or somebody else's file where the
    bytes should go.
    """
    if not url.startswith(SCHEMES):
        raise DataError(f"{url}: not an http or https address")
    if pin and path.is_file() and path.stat().st_size == pin.size and pin.measure(path) == pin:
        return path
    part = path.with_name(path.name + ".part")
    with convert_disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    _try_again(url, lambda: _transfer(url, part, pin.size if pin else limit, progress, headers or {}))
    if pin and (received := pin.measure(part)) != pin:
        part.unlink()
        raise PinMismatchError(
            f"{url}: got {received.size} bytes with {received.digest}, expected {pin.size} with "
            f"{pin.md5 or pin.sha256}; it was deleted: try again, or get the file elsewhere"
        )
    with convert_disk_errors(path.parent):
        part.replace(path)
    return path


def post(url: str, body: bytes, headers: Mapping[str, str], limit: int) -> bytes:
    """Sends ``body`` to ``url`` and returns the answer, of at most ``limit`` bytes. Raises ServerError."""

    def attempt() -> bytes:
        request = urllib.request.Request(url, body, {"User-Agent": "ogm-bench", **headers}, method="POST")
        try:
            with _opener(limit + OVERHEAD).open(request, timeout=TIMEOUT) as response:
                answer: bytes = response.read(limit + 1)
        except urllib.error.HTTPError as error:
            try:
                said = error.read(BLOCK)
            except (OSError, http.client.HTTPException):
                said = b""
            error.close()
            raise _refusal(url, error, said) from error
        except (OSError, http.client.HTTPException) as error:
            raise _interruption(error) from error
        if len(answer) > limit:
            raise ServerError(url, f"answers with more than {limit} bytes", "check the address")
        return answer

    if not url.startswith(SCHEMES):
        raise DataError(f"{url}: not an http or https address")
    return _try_again(url, attempt)


def _try_again(url: str, attempt: Callable[[], T]) -> T:
    """What ``attempt`` returns, the first time that it is not interrupted. Raises ServerError after ``TRIES`` times."""
    wait = 0.0
    for number in range(TRIES):
        if number:
            time.sleep(max(wait, PAUSE * 2 ** (number - 1)))
        try:
            return attempt()
        except _TransferInterrupted as error:
            reason, wait = printable(error), error.wait
    advice = "run the command again later, it goes on where it stopped"
    raise ServerError(url, f"{reason}, {TRIES} times", advice)


def _refusal(url: str, error: urllib.error.HTTPError, body: bytes = b"") -> ServerError | _TransferInterrupted:
    """What an HTTP status means: 5xx, 408 and 429 are worth another try, a full disk or a used-up quota is not."""
    reason = f"HTTP {error.code} {printable(error.reason)}"
    if (error.code < 500 and error.code not in (408, 429)) or error.code in (507, 509):
        return ServerError(url, reason, "check the address, or get the file elsewhere", error.code, body)
    wait = _retry_after(error.headers["Retry-After"])
    if wait > LONGEST_WAIT:
        advice = "run the command again then, it goes on where it stopped"
        return ServerError(url, f"{reason}, asks to wait {wait:.0f} seconds", advice, error.code, body)
    return _TransferInterrupted(reason, wait)


def _retry_after(text: str | None) -> float:
    """The seconds from now that a header says, as a number or as a date; 0 where it says nothing that makes sense."""
    if text and re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text or "").timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _interruption(error: Exception) -> _TransferInterrupted:
    """Refused, unknown host, timed out, cut off."""
    return _TransferInterrupted(str(getattr(error, "reason", error) or type(error).__name__))


def _transfer(url: str, part: Path, limit: int, progress: Progress | None, headers: Mapping[str, str]) -> None:
    """One request, from where ``part`` ends. Raises _TransferInterrupted where another try may help."""
    with convert_disk_errors(part.parent):
        received_bytes = part_size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "ogm-bench", **_range(received_bytes)})
    for name, value in headers.items():
        request.add_unredirected_header(name, value)
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
        raise _refusal(url, error) from error
    except (OSError, http.client.HTTPException) as error:
        raise _interruption(error) from error
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
            reason = f"leads to no http or https address ({printable(error)})"
            raise ServerError(req.full_url, reason, "get the file elsewhere") from error

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


@cache
def _certificates() -> ssl.SSLContext:
    """Reading the system's certificates takes longer than fetching a small file, so it is done once."""
    return ssl.create_default_context()


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
            return self.do_open(Secure, req, context=_certificates())

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(), Web(), _Redirects(), urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(), urllib.request.UnknownHandler(),
    ):  # fmt: skip
        opener.add_handler(handler)
    return opener


def _range(received_bytes: int) -> dict[str, str]:
    return {"Range": f"bytes={received_bytes}-"} if received_bytes else {}
