"""Writing files: whole or not at all, never through somebody else's link, and with a disk's errors in one line."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from datasets.core.errors import BusyError, DataError


def free_space(path: Path) -> str:
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
        reason = f"{reason}: {free_space(Path(os.fsdecode(name) if name else '.'))}"
    return f"{os.fsdecode(name)}: {reason}" if name else reason


@contextlib.contextmanager
def convert_disk_errors(folder: Path) -> Iterator[None]:
    """Turns what the operating system says about a full or read-only disk into a DataError of one line.

    Args:
        folder: What the message names where the operating system names no file.
    """
    try:
        yield
    except OSError as error:
        path, reason = error.filename or folder, error.strerror or error
        help_ = "point OGM_CACHE (OGM_DATA for downloads) to a folder that can be written"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"{reason}: {free_space(Path(path))}"
            help_ = "free some space, or point OGM_CACHE (OGM_DATA for downloads) to a larger disk"
        raise DataError(f"{path}: cannot write ({reason}); {help_}") from error


@contextlib.contextmanager
def locked(folder: Path, busy: str) -> Iterator[None]:
    """Keeps other processes from writing into a folder meanwhile. The lock dies with its process.

    Args:
        folder: The folder; it has to be there.
        busy: What the message says of another process that has locked it.

    Raises:
        BusyError: Another process has locked it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise BusyError(f"{folder}: {busy}; wait for it to finish") from error
    try:
        yield
    finally:
        os.close(handle)


def part_size(path: Path) -> int:
    """The size in bytes of a file that is being written; 0 where there is none yet.

    Raises:
        DataError: A link, a device or somebody else's file stands there.
    """
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return 0
    _refuse_foreign(path, facts)
    return facts.st_size


def open_part(path: Path, append: bool = False) -> IO[bytes]:
    """Opens a file that is being written.

    Args:
        path: The file; made where it is not there.
        append: Go on behind its last byte, instead of starting again.

    Raises:
        DataError: A link, a device or somebody else's file stands there; it is left as it is.
    """
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


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes a file that is there whole or not at all: into a part beside it, which is renamed.

    Several processes may write the same file at a time. What a process that was killed has left of it is cleared away:
    a part that is still being written is locked by whoever writes it.

    Raises:
        OSError: The disk is full, or may not be written.
    """
    with open_atomic(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def open_atomic(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file to write as ``write_atomic`` does: it is at its place once the context ends, if nothing is raised.

    Raises:
        OSError: The disk is full, or may not be written.
    """
    part, file = _new_part(path)
    with file:
        try:
            yield file
            file.flush()
            part.replace(path)
        except BaseException:
            if _is_at(file, part):
                part.unlink()
            raise


def _new_part(path: Path) -> tuple[Path, IO[bytes]]:
    """A new file beside ``path``, open and locked, of the first number under which nobody else is writing.

    Numbers, so that parts that were left are found without listing a folder, which may hold 100,000 files.
    """
    number = 0
    while True:
        part, next_part = (path.with_name(f"{path.name}.{n}.part") for n in (number, number + 1))
        _remove_unlocked(part)
        with contextlib.suppress(FileExistsError):
            file = part.open("xb")  # only where nothing stands, so never through a link
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, part):  # else it was taken for one that was left, before it was locked
                _remove_unlocked(next_part)
                return part, file
            file.close()
        number += 1


def _remove_unlocked(part: Path) -> None:
    """Removes a part that nobody is writing; a link or a device that stands there is left alone."""
    with contextlib.suppress(FileNotFoundError, BlockingIOError):
        if stat.S_ISREG(part.lstat().st_mode):
            with part.open("rb") as left:
                fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(left, part):  # else its writer has finished meanwhile, and another one may have begun
                    part.unlink()


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether this open file, and not another one, has this path."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    return False


def _refuse_foreign(path: Path, facts: os.stat_result) -> None:
    """Raises DataError for a link, a device or somebody else's file.

    A link would lead what is written somewhere else. Whoever owns the folder may own the file: some disks know no
    owners.
    """
    ours = (os.geteuid(), path.parent.stat().st_uid)
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1 or facts.st_uid not in ours:
        raise DataError(
            f"{path}: a link, a device or somebody else's file stands where a file is to be written; remove it"
        )
