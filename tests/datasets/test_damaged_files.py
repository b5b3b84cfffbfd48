"""Damaged files through every decoder and list reader, through ``prepare``, and what was found by them.

200 in an ordinary run; 5,000 more in tests/attack/test_files.py.
"""

from __future__ import annotations

import contextlib
import gzip
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from datasets.core.errors import DataError
from datasets.decode import audio
from datasets.decode.grid_clip import decode_clip, whole_clip
from datasets.grid import FORMS
from datasets.manifest import Manifest
from datasets.storage.list_files import read_exact_files
from datasets.storage.unpacking import unpack_zip
from tests.datasets.test_grid import write_mpg
from tests.helpers.damaged_files import READERS, WAVS, damaged, put_through
from tests.helpers.good_files import CSV, good_files
from tests.helpers.media import tone, write_wav


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "good").mkdir()
    (tmp_path / "work").mkdir()
    return tmp_path


def test_good_files_are_read(folder: Path) -> None:
    files = good_files(folder / "good")
    assert files.keys() == READERS.keys()
    for name, data in files.items():
        for read in READERS[name]:
            if name != "part.set":  # is damage for another file
                path = folder / "work" / f"0{Path(name).suffix}"
                path.write_bytes(data)
                read(path)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # of PIL, about damage that it can read past
def test_200_damaged_files(folder: Path) -> None:
    outcomes = put_through(folder, range(200))
    assert outcomes.total() == 200
    refused = sum(n for what, n in outcomes.items() if not what.endswith(" read"))
    assert 80 < refused < 200, outcomes  # and some are read: what was damaged in them does not matter


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_a_damaged_file_leaves_no_prepared_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the whole of ``prepare``: what is refused leaves nothing that looks ready, and mending it is enough."""
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "s").mkdir()
    (tmp_path / "n").mkdir()
    for i in range(12):
        write_wav(tmp_path / f"s/{i}.wav", tone(0.3, 16_000))
        np.save(tmp_path / f"n/{i}.npy", np.full((2, 3), i))
    path = tmp_path / "own.csv"
    path.write_text(CSV)
    args: dict[str, Any] = {"path": str(path), "seconds": 0.2}
    good_wav, good_npy, refused = (tmp_path / "s/5.wav").read_bytes(), (tmp_path / "n/5.npy").read_bytes(), 0
    for case in range(20):
        (tmp_path / "s/5.wav").write_bytes(damaged(good_wav, case, good_npy) if case % 2 else good_wav)
        (tmp_path / "n/5.npy").write_bytes(good_npy if case % 2 else damaged(good_npy, case, good_wav))
        try:
            folder = Manifest.prepare(progress=False, **args)
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
        except DataError as error:
            refused += 1
            assert "own.csv, line 7, column" in str(error) and not Manifest.ready(**args), case
    assert refused >= 8
    (tmp_path / "s/5.wav").write_bytes(good_wav)
    (tmp_path / "n/5.npy").write_bytes(good_npy)
    Manifest.prepare(progress=False, **args)
    assert Manifest.module(**args).train.cache["b"].shape == (12, 2, 3)


def test_a_field_without_end_is_one_line(tmp_path: Path) -> None:
    """A quote that never closes makes one field of the rest of a large list."""
    path = tmp_path / "list.csv"
    path.write_text('clip 1,"NEU\n' + "clip 2,HAP\n" * 20_000)
    for name in ("list.csv", "own.csv"):
        with pytest.raises(DataError, match="line") as error:
            READERS[name][0](path)
        assert "\n" not in str(error.value) and len(str(error.value)) < 1000


def test_a_header_may_promise_any_length_and_any_number_of_channels(tmp_path: Path) -> None:
    """Found by cases above 2,000: 64 GB were asked for, and PyAV read beyond a frame of more than eight channels."""
    soundfile.write(tmp_path / "a.flac", tone(0.5, 16_000), 16_000)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[22:26] = b"\xff\xff\xff\xff"  # STREAMINFO: the number of samples
    (tmp_path / "a.flac").write_bytes(data)
    try:
        assert audio.read_audio(tmp_path / "a.flac").samples.shape[1] <= 8000
    except DataError as error:
        assert "a.flac" in str(error)
    soundfile.write(tmp_path / "b.wav", np.zeros((4000, 33)), 16_000)
    with pytest.raises(DataError, match=r"b\.wav"):
        audio.read_track(tmp_path / "b.wav")


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("vggsound.csv", '00000000000,{},"people running",train\n'),
        ("vggsound.csv", '00000000000,1,"people running",{}\n'),
        ("ave.txt", "Church bell&x&good&0&{}\n"),
        ("bml.json", '{{"database": {{"a_000001": {{"subset": "training", "label": {}}}}}}}'),
        ("bml.json", '{{"database": {{"00000000000_1": {{"subset": "training", "label": "{}"}}}}}}'),
        ("bml.json", '{{"database": {{"{}": {{"subset": "training", "label": "singing"}}}}}}'),
    ],
)
def test_a_number_of_thousands_of_digits_is_one_short_line(tmp_path: Path, name: str, row: str) -> None:
    """Python turns no more than 4,300 digits into a number, and a field of a CSV may have 131,072."""
    path = tmp_path / name
    path.write_text(row.format("9" * 100_000))
    with pytest.raises(DataError) as error:
        READERS[name][0](path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000


def test_lists_within_lists_are_no_list_of_clips(tmp_path: Path) -> None:
    path = tmp_path / "bml.json"
    path.write_text("[" * 200_000)
    with pytest.raises(DataError, match="not BML's list of clips"):
        READERS["bml.json"][0](path)


def test_a_gigabyte_in_a_list_of_files_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "media.csv.gz"
    path.write_bytes(gzip.compress(b"path,bytes,sha256\n" + bytes(64 << 20), 1))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="not the list that this repository has"):
            read_exact_files(path)
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()


def test_half_a_clip_of_grid_is_read_and_noted(tmp_path: Path) -> None:
    path, notes = tmp_path / "half.mpg", Counter[str]()
    data = write_mpg(tmp_path / "whole.mpg").read_bytes()
    path.write_bytes(data[: len(data) // 2])
    rows = decode_clip(path, [whole_clip("a")], FORMS["small"], None, notes)
    assert all(np.isfinite(values).all() for values in rows.values())
    assert notes["video_short"] == notes["sound_padded"] == notes["frames_repeated"] == 1


def test_a_damaged_member_of_a_zip_leaves_nothing(folder: Path) -> None:
    data = bytearray(good_files(folder / "good")["clips.zip"])
    data[100] ^= 1  # in the first member
    (folder / "clips.zip").write_bytes(data)
    with pytest.raises(DataError, match="a damaged archive"):
        unpack_zip(folder / "clips.zip", folder / "out", WAVS, 1_000_000)
    assert not list((folder / "out").iterdir())


def test_every_bit_of_the_end_of_a_zip_may_be_another(folder: Path) -> None:
    """Zipfile seeks to where the last 22 bytes say, which may be before the first byte: found by all bits of a zip."""
    data, path = good_files(folder / "good")["lists.zip"], folder / "work" / "lists.zip"
    for bit in range(8 * (len(data) - 12), 8 * (len(data) - 2)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with contextlib.suppress(DataError):
            READERS["lists.zip"][0](path)
