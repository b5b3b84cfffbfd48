"""Downloads that go on where they stopped and are only believed when their digest is right; archives that stay put."""

from __future__ import annotations

import gzip
import http.client
import re
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path

from datasets.cache import sha256, writing
from datasets.errors import DataError, PinMismatchError
from datasets.progress import Progress

TRIES = 4
PAUSE = 1.0  # seconds before the second try, then twice as long each time
TIMEOUT = 30.0  # seconds without a byte
BLOCK = 1 << 16


@dataclass(frozen=True)
class Exactly:
    """The one file that is wanted."""

    size: int
    sha256: str


class _Unfinished(Exception):
    """Worth another try."""


def fetch(url: str, path: Path, pin: Exactly | None, *, limit: int = 0, progress: Progress | None = None) -> Path:
    """Downloads ``url`` to ``path``; a file that is there already and matches ``pin`` is not fetched again.

    Bytes go to ``path``.part, which a later call continues, and are renamed when size and sha256 are right. Without a
    pin at most ``limit`` bytes are taken. Raises DataError: no such address, a server that fails ``TRIES`` times, a
    body that ends early, other bytes than pinned (those are deleted), a disk that is full or read-only.
    """
    if not url.startswith(("https://", "http://")):
        raise DataError(f"{url}: not an http or https address")
    if pin and path.is_file() and path.stat().st_size == pin.size and sha256(path) == pin.sha256:
        return path
    part = path.with_name(path.name + ".part")
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            _transfer(url, part, pin.size if pin else limit, progress)
            break
        except _Unfinished as error:
            reason = error
    else:
        raise DataError(f"{url}: {reason}, {TRIES} times; run the command again later, it goes on where it stopped")
    if pin and (found := Exactly(part.stat().st_size, sha256(part))) != pin:
        part.unlink()
        raise PinMismatchError(
            f"{url}: got {found.size} bytes with sha256 {found.sha256}, expected {pin.size} with {pin.sha256}; it was "
            "deleted: try again, or get the file elsewhere"
        )
    with writing(path.parent):
        part.replace(path)
    return path


def _transfer(url: str, part: Path, limit: int, progress: Progress | None) -> None:
    """One request, from where ``part`` ends. Raises _Unfinished where another try may help."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "ogm-bench", **_range(have)})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            if answer.status != 206:  # the server sends all of it, whatever was asked for
                have = 0
            total = have + int(answer.headers["Content-Length"] or 0)
            with writing(part.parent):
                file = part.open("ab" if have else "wb")
            with file:
                while block := answer.read(BLOCK):
                    with writing(part.parent):
                        file.write(block)
                    have += len(block)
                    if have > limit:
                        break
                    if progress:
                        progress(f"fetching {part.stem}", have, total)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing lies behind what we have: it is complete, or not a part of this file
            if have != limit:
                part.unlink()
                raise _Unfinished("what was there of it did not fit") from error
            return
        if error.code < 500 and error.code not in (408, 429):
            raise DataError(
                f"{url}: HTTP {error.code} {error.reason}; check the address, or get the file elsewhere"
            ) from error
        raise _Unfinished(f"HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:  # refused, unknown host, timed out, cut off
        raise _Unfinished(str(getattr(error, "reason", error) or type(error).__name__)) from error
    if have > limit:
        part.unlink()
        raise PinMismatchError(f"{url}: sends more than the expected {limit} bytes; it was deleted: check the address")
    if have < total:
        raise _Unfinished(f"the body ended after {have} of {total} bytes")


def _range(have: int) -> dict[str, str]:
    return {"Range": f"bytes={have}-"} if have else {}


def unpack(archive: Path, folder: Path, names: re.Pattern[str], limit: int) -> None:
    """Extracts the regular files of a tar whose path matches ``names`` into ``folder``, by the last part of their path.

    Raises DataError, before that member is written, for an archive that is damaged, holds a path or link that leads
    out of it, or holds more than ``limit`` bytes. Damage behind the first members may only look like an early end: the
    caller checks what was unpacked.
    """
    total = 0
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                member = tarfile.data_filter(member, str(folder))
                if not member.isfile() or not names.fullmatch(member.name):
                    continue
                total += member.size
                if total > limit:
                    raise DataError(f"{archive}: unpacks to more than {limit} bytes; it is not the expected archive")
                content = tar.extractfile(member).read()  # type: ignore[union-attr]
                with writing(folder):
                    folder.mkdir(parents=True, exist_ok=True)
                    (folder / Path(member.name).name).write_bytes(content)
    except tarfile.FilterError as error:
        raise DataError(f"{archive}: refused, a member would leave the folder ({error})") from error
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{archive}: a damaged archive ({error}); download it again") from error
