"""Raw files before they are decoded: what is there, what is missing, what only pretends to be media or to be ours."""

from __future__ import annotations

import errno
import os
import shutil
import stat
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


def disk(path: Path) -> str:
    """The disk that ``path`` is on, or would be on, and how much of it is free."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    while not os.path.ismount(place):
        place = place.parent
    return f"the disk at {place} has {usage.free / 1e6:.1f} of {usage.total / 1e6:.1f} MB free"


def one_line(error: OSError) -> str:
    """What the operating system has to say, in one line that names the file, and the disk where that is full."""
    name = error.filename or getattr(error, "filename2", None)
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = f"{reason}: {disk(Path(os.fsdecode(name) if name else '.'))}"
    return f"{os.fsdecode(name)}: {reason}" if name else reason


def open_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    """A file in a zip. Reading ``n`` bytes of it unpacks no more than that. Raises BadZipFile where it would."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"{member.filename!a} is neither stored nor deflated")
    return archive.open(member)


def printable(text: object) -> str:
    """What a file or a server says, in one line that is short and does nothing to a terminal."""
    return ascii(" ".join(str(text).split()))[1:-1][:200]


# ---- files that are being written
def part_size(path: Path) -> int:
    """How much there is of a file that is being written. Raises DataError for what is not a file of ours."""
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return 0
    _refuse_foreign(path, facts)
    return facts.st_size


def open_part(path: Path, append: bool = False) -> IO[bytes]:
    """Opens a file that is being written. Raises DataError for what is not a file of ours, and leaves that as it is."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_APPEND if append else 0)
    try:
        handle = os.open(path, flags, 0o666)
    except OSError:
        part_size(path)  # says it better where a link, a folder or a pipe is in the way
        raise
    file = os.fdopen(handle, "ab" if append else "wb")
    try:
        _refuse_foreign(path, os.fstat(handle))
        if not append:
            os.ftruncate(handle, 0)
    except BaseException:
        file.close()
        raise
    return file


def write_part(path: Path, content: bytes) -> None:
    """A file that is there whole or not at all, by way of ``path``.part."""
    part = path.with_name(path.name + ".part")
    with open_part(part) as file:
        file.write(content)
    part.replace(path)


def _refuse_foreign(path: Path, facts: os.stat_result) -> None:
    """A link would lead what is written somewhere else. Whoever owns the folder may own the file: some disks know no
    owners.
    """
    ours = (os.geteuid(), path.parent.stat().st_uid)
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1 or facts.st_uid not in ours:
        raise DataError(
            f"{path}: a link, a device or somebody else's file stands where a file is to be written; remove it"
        )
