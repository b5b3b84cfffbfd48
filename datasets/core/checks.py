"""Raw files before they are decoded: what is there, what is missing, what only pretends to be media or to be ours."""

from __future__ import annotations

import errno
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from datasets.core.errors import DataError, MissingMediaError


def refuse_pointer(path: Path, kind: type[DataError]) -> None:
    """Raises ``kind`` for an empty file, and for the three lines of text that git lfs leaves where a file should be."""
    try:
        with path.open("rb") as file:
            head = file.read(200)
    except OSError as error:
        raise kind(f"{path}: cannot be read ({error.strerror}); {advice(error, 'get the file again')}") from error
    if not head:
        raise kind(f"{path}: the file has 0 bytes; get it again")
    if head.startswith(b"version https://git-lfs"):
        raise kind(f"{path}: a git-lfs pointer, not the file itself; run `git lfs pull` in the clone it came from")


def refuse_missing(names: Sequence[Path | str], listed: int, allowed: int, how: str) -> None:
    """Raises MissingMediaError, with counts and the first ten names, for more than ``allowed`` missing files."""
    if len(names) > allowed:
        shown = ", ".join(map(str, names[:10])) + (", ..." if len(names) > 10 else "")
        raise MissingMediaError(f"{len(names)} of {listed} are missing: {shown}; {how}")


def advice(error: OSError, otherwise: str) -> str:
    """What to do about a file that the operating system does not hand out."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return "give yourself the right to read it, or ask its owner"
    return otherwise


def open_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    """A file in a zip. Reading ``n`` bytes of it unpacks no more than that. Raises BadZipFile where it would."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"{member.filename!a} is neither stored nor deflated")
    return archive.open(member)


def printable(text: object) -> str:
    """What a file or a server says, in one line that is short and does nothing to a terminal."""
    return ascii(" ".join(str(text).split()))[1:-1][:200]
