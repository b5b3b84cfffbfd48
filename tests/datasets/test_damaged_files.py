"""Damaged files through every decoder and list reader: a correct read or a named refusal, soon, nothing half done.

Each case is a good file, damaged by a rule drawn from the number of the case alone: bits flipped, the end cut off,
bytes of another file in the middle, a number blown up, or nothing left. 150 in an ordinary run, 3,000 more, and the
files of runs, in tests/attack/test_files.py.
"""

from __future__ import annotations

import gzip
import pickle
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from datasets.core.errors import DataError
from datasets.core.manifest_file import read_manifest
from datasets.core.split_lists import parse, read_pinned
from datasets.crema_d import CLASSES
from datasets.decode import audio, image_files, image_transforms
from datasets.decode.arrays import read_array
from datasets.decode.idx import read_idx
from datasets.decode.safe_pickle import read_pickle
from datasets.decode.video import read_frames, read_jpegs
from datasets.manifest import Manifest
from datasets.storage.build import build
from datasets.storage.cache import Cache, Column, Decoded, RawItem
from datasets.storage.unpacking import unpack
from datasets.ucf101 import LISTS, unzip
from tests.helpers.media import frame, tone, write_clip, write_flv, write_idx, write_wav

SECONDS = 20.0  # that no single file may take, on a busy machine
CSV = "id,split,label,start,end,a:audio,b:npy\n" + "".join(
    f"clip {i},{'train' if i < 8 else 'test'},{'xy'[i % 2]},0,{i + 1},s/{i}.wav,n/{i}.npy\n" for i in range(12)
)


def _audio(path: Path) -> None:
    recording = audio.read_audio(path)
    assert recording.samples.ndim == 2 and recording.samples.shape[1] and recording.samples.isfinite().all()
    assert recording.samples.shape[1] <= 4 * path.stat().st_size + 1_000_000  # nothing that was not in the file


def _track(path: Path) -> None:
    recording = audio.read_track(path)
    assert recording.samples.shape[1] and recording.samples.isfinite().all()


def _frames(path: Path) -> None:
    frames = read_frames(path, 1, 36, 48)
    assert frames.pixels.shape[1:] == (36, 48, 3) and len(frames.pixels) == len(frames.numbers) > 0


def _jpegs(path: Path) -> None:
    for file in read_jpegs(path, "time_centres", 2)[0]:
        assert image_files.scaled(file, 16).shape == (16, 16, 3)


def _folder(path: Path) -> None:
    target = path.parent / "frames"
    target.mkdir(exist_ok=True)
    path.replace(target / "0.jpg")
    try:
        files, notes = image_files.read_folder(target)
        assert len(files) == 1 and not notes
        assert image_files.scaled(files[0], 16).shape == (16, 16, 3)
    finally:
        (target / "0.jpg").unlink()


def _image(path: Path) -> None:
    assert image_transforms.read_image(path, 16).shape == (16, 16, 3)


def _array(path: Path) -> None:
    values, _ = read_array(path, "a" if path.suffix == ".npz" else "")
    assert values.dtype == np.float32 and np.isfinite(values).all()


def _pickle(path: Path) -> None:
    for fields in read_pickle(path).values():
        assert all(isinstance(x, np.ndarray) for x in fields.values())


def _idx(path: Path) -> None:
    assert read_idx(path, 2051, None).ndim == 3


def _list(path: Path) -> None:
    text, _ = read_pinned(path, None)
    assert all(0 <= label < len(CLASSES) for _, label in parse(text, path, CLASSES)[0])


def _manifest(path: Path) -> None:
    assert read_manifest(path).classes


def _archive(path: Path) -> None:
    import re

    target = path.parent / "unpacked"
    unpack(path, target, re.compile(r"[a-z]+/[a-z0-9]+\.wav"), 1_000_000)
    for file in target.glob("*") if target.is_dir() else ():
        assert file.resolve().parent == target.resolve()
        file.unlink()


def _zip(path: Path) -> None:
    target = path.parent / "lists"
    target.mkdir(exist_ok=True)
    unzip(path, target)
    assert sorted(file.name for file in target.iterdir()) == sorted(LISTS)
    for file in target.iterdir():
        file.unlink()


def _tar(path: Path) -> None:
    """Damage in the tar itself: that in gzip's bytes is mostly noticed by gzip."""
    packed = path.with_suffix(".gz")
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    try:
        _archive(packed)
    finally:
        packed.unlink()


def _cache(path: Path) -> None:
    """A file of a prepared set, damaged where it lies: refused when opened, or as it was, or found by ``verify``."""
    folder = path.parent / "set"
    build(folder, {}, [RawItem("p", "")], {"x": Column("<f4", (3,), 4)},
          lambda piece: Decoded({"x": np.ones((4, 3), np.float32)}))  # fmt: skip
    name = ["x.npy", "index.json", "manifest.json"][int(path.stem) % 3]
    good = (folder / name).read_bytes()
    bad = damaged(good, int(path.stem), path.read_bytes())
    (folder / name).write_bytes(bad)
    cache = Cache(folder)
    assert cache["x"].shape == (4, 3)
    if name != "manifest.json":
        cache.verify()
        assert bad == good


def good_files(folder: Path) -> dict[str, bytes]:
    import tarfile

    write_wav(folder / "a.wav", tone(0.5, 16_000))
    write_wav(folder / "b.wav", np.stack([tone(0.3, 8000)] * 2, 1), 8000, "FLOAT")
    for name in ("a.flac", "a.ogg"):
        soundfile.write(folder / name, tone(0.5, 16_000), 16_000)
    write_clip(folder / "a.mp4", 2.0, size=(48, 36), rate=5)
    write_clip(folder / "a.avi", 2.0, size=(48, 36), rate=5)
    write_flv(folder / "a.flv", 40, size=(48, 36))
    for name in ("a.mp3", "a.opus"):
        soundfile.write(folder / name, tone(0.5, 48_000), 48_000, format="OGG" if "opus" in name else "MP3",
                        subtype="OPUS" if "opus" in name else "MPEG_LAYER_III")  # fmt: skip
    write_clip(folder / "a.webm", 1.0, size=(48, 36), rate=5)
    for name in ("a.jpg", "a.png", "a.gif", "a.bmp", "a.webp", "a.tiff", "a.ppm"):
        Image.fromarray(frame(3, 48, 36)).save(folder / name)
    np.save(folder / "a.npy", np.arange(60.0).reshape(5, 12))
    np.savez_compressed(folder / "a.npz", a=np.arange(60).reshape(5, 12), b=np.zeros(3))
    for protocol in (2, 4, 5):
        data = {"train": {"text": np.ones((3, 4)), "id": np.array([[b"x"] * 3]), "n": [1, 2]}}
        (folder / f"{protocol}.pkl").write_bytes(pickle.dumps(data, protocol=protocol))
    write_idx(folder / "idx", np.arange(48).reshape(3, 4, 4))
    (folder / "idx.gz").write_bytes(gzip.compress((folder / "idx").read_bytes()))
    (folder / "list.csv").write_text("".join(f"clip {i},{CLASSES[i % 6]}\r\n" for i in range(30)))
    (folder / "own.csv").write_text(CSV)
    with tarfile.open(folder / "a.tar.gz", "w:gz") as tar:
        tar.add(folder / "a.wav", "sounds/a.wav")
        tar.add(folder / "b.wav", "sounds/b.wav")
    (folder / "a.tar").write_bytes(gzip.decompress((folder / "a.tar.gz").read_bytes()))
    with zipfile.ZipFile(folder / "lists.zip", "w", zipfile.ZIP_DEFLATED) as lists:
        for name in LISTS:
            lists.writestr(f"ucf/{name}", "".join(f"{i} Class{i}\n" for i in range(30)))
    (folder / "part.set").write_bytes(bytes(range(64)))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


READERS: dict[str, list[Callable[[Path], None]]] = {
    ".wav": [_audio, _track], ".flac": [_audio], ".ogg": [_audio, _track], ".mp4": [_frames, _track, _jpegs],
    ".avi": [_frames, _track], ".flv": [_frames, _track, _jpegs], ".jpg": [_image, _folder], ".png": [_image],
    ".gif": [_image], ".bmp": [_image], ".webp": [_image], ".npy": [_array], ".npz": [_array], ".pkl": [_pickle],
    ".mp3": [_track], ".opus": [_track], ".webm": [_frames, _track, _jpegs], ".tiff": [_image],
    ".ppm": [_image], ".zip": [_zip], ".tar": [_tar], "": [_idx], ".gz": [_idx, _archive],
    ".csv": [_list, _manifest], ".set": [_cache],
}  # fmt: skip


def damaged(data: bytes, seed: int, other: bytes) -> bytes:
    """What is left of a file. The seed decides all of it."""
    rng = np.random.default_rng(seed)
    out = bytearray(data)
    kind = rng.integers(7)
    if kind == 0:
        for bit in rng.integers(0, 8 * len(out), rng.integers(1, 30)):
            out[bit // 8] ^= 1 << bit % 8
    elif kind == 1:  # the header is where the numbers are that others trust
        for bit in rng.integers(0, 8 * min(len(out), 200), rng.integers(1, 12)):
            out[bit // 8] ^= 1 << bit % 8
    elif kind == 2:
        del out[rng.integers(len(out)) :]
    elif kind == 3:
        start = int(rng.integers(len(out)))
        out[start : start + len(other) // 3] = other[: len(other) // 3]
    elif kind == 4:
        start = int(rng.integers(min(len(out), 300)))
        out[start : start + 4] = b"\xff\xff\xff\x7f" if rng.integers(2) else b"\x7f\xff\xff\xff"
    elif kind == 5:
        out = bytearray(other)
    else:
        out = bytearray(b"" if rng.integers(2) else b"\0" * len(out))
    return bytes(out)


def put_through(folder: Path, cases: range) -> Counter[str]:
    """What came of it, by reader and outcome; anything but a read or a DataError is raised, with its case."""
    files = good_files(folder / "good")
    names = list(files)
    outcomes: Counter[str] = Counter()
    for case in cases:
        name = names[case % len(names)]
        suffix = Path(name).suffix
        readers = READERS[suffix]
        if suffix == ".gz":
            readers = [_archive if ".tar" in name else _idx]
        elif suffix == ".csv":
            readers = [_list if name == "list.csv" else _manifest]
        read = readers[case // len(names) % len(readers)]
        work = folder / "work"
        work.mkdir(exist_ok=True)
        path = work / f"{case}{suffix}"
        path.write_bytes(damaged(files[name], case, files[names[(case * 7 + 3) % len(names)]]))
        before = sorted(work.iterdir())
        began = time.monotonic()
        try:
            read(path)
            outcome = "read"
        except DataError as error:
            outcome = type(error).__name__
            assert "\n" not in str(error) and len(str(error)) < 3000, (case, name)
        except BaseException as error:
            raise AssertionError(f"case {case}: {read.__name__} of {name}: {error!r}") from error
        assert time.monotonic() - began < SECONDS, (case, name)
        assert not list(work.rglob("*.part")) and len(list(work.iterdir())) <= len(before) + 3, (case, name)
        outcomes[f"{read.__name__[1:]} {outcome}"] += 1
        path.unlink(missing_ok=True)
    return outcomes


@pytest.fixture
def good(tmp_path: Path) -> Path:
    (tmp_path / "good").mkdir()
    return tmp_path


def test_good_files_are_read(good: Path) -> None:
    for name, data in good_files(good / "good").items():
        for read in READERS[Path(name).suffix]:
            if (read in (_archive, _idx) and (".tar" in name) != (read is _archive)) or read is _cache:
                continue
            if read in (_list, _manifest) and (name == "own.csv") != (read is _manifest):
                continue
            path = good / f"0{Path(name).suffix}"
            path.write_bytes(data)
            read(path)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # of PIL, about damage that it can read past
def test_150_damaged_files(good: Path) -> None:
    outcomes = put_through(good, range(150))
    assert outcomes.total() == 150
    refused = sum(n for what, n in outcomes.items() if not what.endswith(" read"))
    assert 60 < refused < 150, outcomes  # and some are read: what was damaged in them does not matter


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
    for read in (_list, _manifest):
        with pytest.raises(DataError, match="line") as error:
            read(path)
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
