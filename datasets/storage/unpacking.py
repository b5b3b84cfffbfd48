"""Archives unpacked: only what is wanted of them, never outside the folder, never more than a limit."""

from __future__ import annotations

import gzip
import io
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from datasets.core.checks import open_member, printable
from datasets.core.errors import DataError
from datasets.core.files import convert_disk_errors, open_part
from datasets.core.progress import Progress

BLOCK = 1 << 16
SLACK = 1 << 20  # bytes that an archive may hold besides its files


class _SizeLimitedReader(io.RawIOBase):
    """The content of a file up to a limit: a megabyte of a gzip file may hold a gigabyte of zeros."""

    def __init__(self, file: IO[bytes], archive: Path, limit: int) -> None:
        self.file, self.archive, self.limit, self.left = file, archive, limit, 2 * limit + SLACK

    def read(self, count: int = -1) -> bytes:
        data = self.file.read(min(count, BLOCK))
        self.left -= len(data)
        if self.left < 0:
            raise _too_much(self.archive, self.limit)
        return data


@contextmanager
def _open_tar(archive: Path, limit: int) -> Iterator[tarfile.TarFile]:
    with archive.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        plain = cast(IO[bytes], gzip.GzipFile(fileobj=file)) if compressed else file
        with tarfile.open(fileobj=cast(IO[bytes], _SizeLimitedReader(plain, archive, limit)), mode="r|") as tar:
            yield tar


def _too_much(archive: Path, limit: int) -> DataError:
    return DataError(f"{archive}: unpacks to more than {limit} bytes; it is not the expected archive")


def unpack(archive: Path, folder: Path, names: re.Pattern[str], limit: int) -> None:
    """Extracts the regular files of a tar whose path matches ``names`` into ``folder``, by the last part of their path.

    The tar may be gzipped.

    Raises DataError, before that member is written, for an archive that is damaged, holds a path or link that leads
    out of it, or holds more than ``limit`` bytes. Damage behind the first members may only look like an early end: the
    caller checks what was unpacked.
    """
    total = 0
    try:
        with _open_tar(archive, limit) as tar:
            for member in tar:
                member = tarfile.data_filter(member, str(folder))
                if not member.isfile() or not names.fullmatch(member.name):
                    continue
                if member.size < 0:
                    raise tarfile.ReadError("a member of less than no bytes")
                total += member.size
                if total > limit:
                    raise _too_much(archive, limit)
                packed = tar.extractfile(member)
                assert packed is not None  # only links and folders have none
                content = packed.read()
                with convert_disk_errors(folder):
                    folder.mkdir(parents=True, exist_ok=True)
                    with open_part(folder / Path(member.name).name) as extracted:
                        extracted.write(content)
    except tarfile.FilterError as error:
        raise DataError(f"{archive}: refused, a member would leave the folder ({printable(error)})") from error
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{archive}: a damaged archive ({printable(error)}); download it again") from error


class _BoundedReads(io.FileIO):
    """A zip whose numbers are not believed: at most ``most`` bytes are read at once, and only from inside the file.

    zipfile reads the directory of an archive whole, however long it claims to be.
    """

    most: int

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:  # all that is left, which only is asked for where it is little
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > self.most:
            raise zipfile.BadZipFile(f"a directory of {size} bytes")
        return super().read(max(size, 0)) or b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET and not 0 <= offset <= os.fstat(self.fileno()).st_size:
            raise zipfile.BadZipFile(f"a member at byte {offset}")
        return super().seek(offset, whence)


def unpack_zip(
    archive: Path,
    folder: Path,
    names: re.Pattern[str],
    limit: int,
    *,
    members: int = 20_000,
    progress: Progress | None = None,
) -> list[Path]:
    """Extracts the files of a zip whose path matches ``names`` into ``folder``, by the last part of their path.

    A file goes through a ``.part`` beside it and is renamed when its length and checksum are right. Files that are
    there already, as the archive has them, are not written again: what was stopped goes on from there.

    Args:
        archive: The zip.
        folder: Is made where it is not there.
        names: Of the wanted files, with their folders in the archive.
        limit: Bytes that all wanted files together may have.
        members: How many entries, wanted or not, the archive may have.
        progress: Is told how many bytes are unpacked.

    Returns:
        The extracted files, in the order of the archive.

    Raises:
        DataError: Before anything is written: no zip, a path that leads out of it, a wanted file that is a link or has
            the name of another one, more than ``limit`` or ``members``. Before that file is at its place: damage, a
            password, a method of compression other than deflate. A disk that is full or read-only.
    """
    try:
        with _BoundedReads(archive) as file:
            file.most = max(BLOCK << 1, members * 512)
            with zipfile.ZipFile(file) as packed:
                chosen = _wanted_members(archive, packed, names, limit, members)
                total, done = sum(member.file_size for member in chosen), 0
                paths = []
                for member in chosen:
                    paths.append(_unpack_member(packed, member, folder))
                    done += member.file_size
                    if progress:
                        progress(f"unpacking {archive.name}", done, total)
                return paths
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{archive}: a damaged archive ({printable(error)}); download it again") from error


def _wanted_members(
    archive: Path, packed: zipfile.ZipFile, names: re.Pattern[str], limit: int, members: int
) -> list[zipfile.ZipInfo]:
    """The entries to extract. Raises DataError as ``unpack_zip`` does, before anything is written."""
    entries = packed.infolist()
    if len(entries) > members:
        raise DataError(f"{archive}: has {len(entries)} entries, more than {members}; it is not the expected archive")
    chosen: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        shown, parts = printable(entry.filename), re.split(r"[/\\]", entry.filename)
        if ".." in parts or not parts[0] or ":" in parts[0]:
            raise DataError(f"{archive}: refused, a member would leave the folder ({shown})")
        if entry.is_dir() or not names.fullmatch(entry.filename):
            continue
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise DataError(f"{archive}: refused, a member is a link or a device ({shown})")
        if parts[-1] in chosen:
            raise DataError(f"{archive}: has two files called {printable(parts[-1])}; it is not the expected archive")
        chosen[parts[-1]] = entry
    if sum(entry.file_size for entry in chosen.values()) > limit:
        raise _too_much(archive, limit)
    return list(chosen.values())


def _unpack_member(packed: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> Path:
    """Extracts one file, unless it is there already as the archive has it."""
    path = folder / re.split(r"[/\\]", member.filename)[-1]
    with convert_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not path.is_symlink() and path.is_file() and path.stat().st_size == member.file_size:
            with path.open("rb") as there:
                if _crc(there) == member.CRC:
                    return path
    part, left = path.with_name(path.name + ".part"), member.file_size
    with convert_disk_errors(folder):
        written = open_part(part)
    try:
        with written, open_member(packed, member) as content:
            while block := content.read(BLOCK):  # raises BadZipFile at its end where the checksum is another
                left -= len(block)
                with convert_disk_errors(folder):
                    written.write(block)
        if left:
            raise zipfile.BadZipFile(f"{member.filename!a} has {member.file_size - left} bytes, not {member.file_size}")
        with convert_disk_errors(folder):
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _crc(file: IO[bytes]) -> int:
    value = 0
    while block := file.read(BLOCK):
        value = zlib.crc32(block, value)
    return value
