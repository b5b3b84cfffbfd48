"""Small files that hold gigabytes, and links where something is to be written."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import re
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.core.errors import DataError
from datasets.core.files import open_part, write_atomic
from datasets.decode import idx
from datasets.decode.arrays import read_array
from datasets.decode.idx import read_idx
from datasets.decode.image_files import read_folder
from datasets.decode.image_transforms import read_image
from datasets.storage import digit_files
from datasets.storage.build import build
from datasets.storage.cache import Column, Decoded, RawItem
from datasets.storage.unpacking import unpack
from datasets.ucf101 import LISTS, unzip

ZEROS = 0x04030201  # bytes, 67 million: what the bombs hold; real ones hold a hundred times as much


@contextmanager
def at_most(megabytes: float) -> Iterator[None]:
    """No more is held in memory at any time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < megabytes * 1e6
    finally:
        tracemalloc.stop()


def refused(read: Callable[[], object], *words: str) -> None:
    with pytest.raises(DataError) as error:
        read()
    line = str(error.value)
    assert "\n" not in line and len(line) < 1000 and all(word in line for word in words), line


def test_an_idx_file_is_inflated_as_far_as_its_header_says(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(np.array([2051, 2, 3, 3], ">i4").tobytes() + bytes(ZEROS), 1))
    with at_most(2):
        refused(lambda: read_idx(path, 2051, None), "images.gz", "35 bytes or more", "promises 2 x 3 x 3")


def test_an_idx_file_that_promises_gigabytes_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx, "LIMIT", 1_000_000)
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(np.array([2051, 1 << 20, 64, 1], ">i4").tobytes() + bytes(ZEROS), 1))
    with at_most(4):
        refused(lambda: read_idx(path, 2051, None), "images.gz", "at most 1000000")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.REGTYPE])
def test_a_tar_is_inflated_up_to_the_limit(kind: bytes, tmp_path: Path) -> None:
    """Headers with names of any length are read before a member is seen; members that are not wanted count too."""
    info = tarfile.TarInfo("long")
    info.type, info.size = kind, ZEROS
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(ZEROS), 1))
    with at_most(10):
        refused(lambda: unpack(tmp_path / "a.tar.gz", tmp_path / "out", re.compile("x/.*"), 1_000_000), "1000000 bytes")


@pytest.mark.timeout(60)
def test_a_tar_with_a_negative_size_ends(tmp_path: Path) -> None:
    """It would lead back to itself for ever."""
    info = tarfile.TarInfo("x/a.wav")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + struct.pack(">h", -512)
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header))[0]
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(bytes(header) + bytes(1024)))
    refused(lambda: unpack(tmp_path / "a.tar.gz", tmp_path / "out", re.compile("x/.*"), 1000), "a damaged archive")
    assert not (tmp_path / "out").exists()


def npy(shape: tuple[int, ...], header: bytes = b"") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue() + header


def test_an_npz_is_inflated_as_far_as_its_header_says(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("a.npy", npy((3,)) + bytes(ZEROS))
        file.writestr("b.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", ZEROS) + b" " * ZEROS)
    with at_most(4):
        refused(lambda: read_array(path, "a"), "a.npz#a", "promises 3 bytes")
        refused(lambda: read_array(path, "b"), "a.npz#b", "header")


def test_an_npz_that_unpacks_all_at_once_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("a.npy", npy((3,)) + bytes(ZEROS))
    with at_most(4):
        refused(lambda: read_array(path, "a"), "a.npz#a", "neither stored nor deflated")


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_zip_whose_members_lie_about_their_size(kind: int, tmp_path: Path) -> None:
    path = tmp_path / "lists.zip"
    with zipfile.ZipFile(path, "w", kind, compresslevel=1) as file:
        for name in LISTS:
            file.writestr(name, bytes(ZEROS) if name == LISTS[0] else b"1 a\n")
    data = path.read_bytes()
    assert data.count(struct.pack("<I", ZEROS)) == 2
    path.write_bytes(data.replace(struct.pack("<I", ZEROS), struct.pack("<I", 1000)))
    with at_most(4):
        refused(lambda: unzip(path, tmp_path / "out"), "lists.zip", "a damaged archive")
    assert len(bz2.compress(bytes(ZEROS))) < 1000 and not (tmp_path / "out").exists()


def bmp(width: int, height: int) -> bytes:
    """A picture's header alone."""
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("sides", [(9_000, 9_900), (9_999, 10_002), (30_000, 30_000)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_of_any_size_in_its_header(sides: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(bmp(*sides))
    refused(lambda: read_image(tmp_path / "a.png", 16), "a.png")
    refused(lambda: read_folder(tmp_path), "not one of its 1 pictures")


def test_a_picture_that_would_start_a_program_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.eps")
    refused(lambda: read_image(tmp_path / "a.eps", 16), "a.eps", "cannot identify")


# ---- links where something is to be written
LINKS: dict[str, Callable[[Path, Path], None]] = {
    "link": lambda part, other: part.symlink_to(other),
    "link to nothing": lambda part, other: part.symlink_to(other.with_name("new")),
    "hard link": lambda part, other: part.hardlink_to(other),
    "folder": lambda part, other: part.mkdir(),
    "pipe": lambda part, other: os.mkfifo(part),
}


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.timeout(60)
def test_nothing_is_written_through_a_link(kind: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"somebody else's")
    LINKS[kind](tmp_path / "a.part", other)
    before = sorted(tmp_path.iterdir())
    for write in (
        lambda: open_part(tmp_path / "a.part"),
        lambda: open_part(tmp_path / "a.part", append=True),
    ):
        refused(write, "a.part", "remove it")
    assert other.read_bytes() == b"somebody else's" and sorted(tmp_path.iterdir()) == before
    LINKS[kind](tmp_path / "a.0.part", other)  # as a part that was left
    if kind != "folder":
        LINKS[kind](tmp_path / "a", other)
    write_atomic(tmp_path / "a", b"ours")
    assert other.read_bytes() == b"somebody else's"
    assert (tmp_path / "a").read_bytes() == b"ours" and not (tmp_path / "a").is_symlink()


def test_a_file_of_another_owner_is_refused(tmp_path: Path) -> None:
    part = tmp_path / "a.part"
    part.write_bytes(b"theirs")
    if os.geteuid():
        pytest.skip("needs the right to give a file away")
    os.chown(part, 12345, 12345)
    refused(lambda: open_part(part), "somebody else's file")
    assert part.read_bytes() == b"theirs"
    os.chown(tmp_path, 12345, 12345)  # whoever owns the folder may do so
    open_part(part).close()


def test_a_set_is_not_made_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "set.part").symlink_to(tmp_path / "other")
    columns = {"x": Column("<f4", (), 1)}
    refused(
        lambda: build(tmp_path / "set", {}, [RawItem("p", "")], columns, lambda _: Decoded({"x": np.ones(1)})),
        "set.part",
    )
    assert not list((tmp_path / "other").iterdir())


def test_recordings_are_not_unpacked_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "fsdd").mkdir()
    (tmp_path / "fsdd" / "recordings.part").symlink_to(tmp_path / "other")
    archive = tmp_path / "fsdd" / "a.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        info = tarfile.TarInfo("x/recordings/0_george_0.wav")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    monkeypatch.setattr(digit_files, "download_images", lambda *_: None)
    monkeypatch.setattr(digit_files, "fetch", lambda *_, **__: archive)
    refused(lambda: digit_files.download(tmp_path, None, None), "recordings.part", "symbolic link")
    assert not list((tmp_path / "other").iterdir())
