"""Damaged files through every decoder and list reader: a correct read or a named refusal, soon, nothing half done.

Each case is a good file, damaged by a rule drawn from the number of the case alone: bits flipped, the end cut off,
bytes of another file in the middle, a number blown up, or nothing left. Run as a module it puts a range of cases
through in a process of its own, so that a codec that crashes takes only that process down, and says what came of it:

    python -m tests.helpers.damaged_files FOLDER START STOP
"""

from __future__ import annotations

import faulthandler
import gzip
import json
import os
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from datasets import ave, kinetics_sounds, vggsound
from datasets.core.errors import DataError
from datasets.core.manifest_file import Sample, outline, read_manifest
from datasets.core.split_lists import parse, read_pinned
from datasets.crema_d import CLASSES
from datasets.decode import audio, image_files, image_transforms
from datasets.decode.arrays import array_shape, read_array
from datasets.decode.grid_clip import Piece, decode_clip, shapes, whole_clip, word_piece
from datasets.decode.idx import read_idx
from datasets.decode.safe_pickle import read_pickle
from datasets.decode.video import read_frames, read_jpegs
from datasets.grid import FORMS
from datasets.mfeat import SAMPLES, VIEWS, read_view
from datasets.ravdess import RAVDESS
from datasets.storage.archives import LOCK, check_lock, zenodo_archives
from datasets.storage.build import build
from datasets.storage.cache import Cache, Column, Decoded, RawItem
from datasets.storage.download import SCHEMES, ExactFile
from datasets.storage.git_lfs import Link, links
from datasets.storage.grid_files import aligned_words
from datasets.storage.lfs_files import read_listed
from datasets.storage.list_files import read_exact_files
from datasets.storage.manifest_cells import ManifestOptions, decode_cell, sound_shape, stored_size
from datasets.storage.unpacking import unpack, unpack_zip
from datasets.ucf101 import LISTS, unzip
from tests.helpers.good_files import BODY, CLIP, good_files
from tests.helpers.lfs_server import lfs_server, oid

SECONDS = 20.0  # that no single file may take, on a busy machine
HANGS = 120.0  # after which a process of its own ends itself and says where it was
GROWTH = 1000  # MB that such a process may need at any time beyond what it needs for good files
WAVS = re.compile(r"[a-z0-9]+/[a-z0-9]+\.wav")
Reader = Callable[[Path], None]


# ---- sound and pictures
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


def _grid(path: Path, pieces: list[Piece], noise_db: float | None) -> None:
    notes: Counter[str] = Counter()
    rows = decode_clip(path, pieces, FORMS["small"], noise_db, notes)
    for modality, shape in shapes(FORMS["small"], pieces[0]).items():
        assert rows[modality].shape == (len(pieces), *shape)
    assert rows["grey"].shape == (len(pieces), 2) and rows["visual"].dtype == np.uint8
    assert np.isfinite(rows["audio"]).all() and np.isfinite(rows["grey"]).all()


def _grid_words(path: Path) -> None:
    _grid(path, [word_piece("a", 12_500, 20_500), word_piece("b", 60_000, 74_000)], -5.0)


def _grid_clip(path: Path) -> None:
    _grid(path, [whole_clip("a")], None)


def _ravdess(path: Path) -> None:
    options, notes = RAVDESS.options({}), Counter[str]()
    rows = RAVDESS.decode(options, {"audio": path, "visual": path}, notes)
    assert rows["audio"].shape == (1, *RAVDESS.columns(options, 1)["audio"].shape) and np.isfinite(rows["audio"]).all()
    ends = np.cumsum(rows["visual_size"], dtype=np.int64)
    assert len(ends) and ends[-1] == len(rows["visual"])
    for end, size in zip(ends, rows["visual_size"], strict=True):
        assert image_files.scaled(rows["visual"][end - size : end].tobytes(), 16).shape == (16, 16, 3)


def _cell(path: Path) -> None:
    """A file that a user's CSV names, as ``manifest`` prepares it."""
    kind = {".wav": "audio", ".mp3": "audio", ".flac": "audio", ".jpg": "image", ".png": "image", ".npy": "npy",
            ".npz": "npz"}.get(path.suffix, "video")  # fmt: skip
    options, cell = ManifestOptions(), f"{path.name}#a" if kind == "npz" else path.name
    side, notes = stored_size(options), Counter[str]()
    shape = {"audio": sound_shape(options.sound, options.seconds), "npy": (5, 12), "npz": (5, 12)}.get(kind)
    if kind in ("npy", "npz"):
        assert array_shape(path, "a" if kind == "npz" else "")
    shape = shape or (side, side, 3)
    row = Sample(2, "clip", "train", "x", {}, 0.1, 0.9)
    values = decode_cell(path.parent, cell, kind, row, options, shape, notes)
    assert values.shape[1:] == shape and len(values) and np.isfinite(values).all()


# ---- arrays and tables
def _array(path: Path) -> None:
    values, _ = read_array(path, "a" if path.suffix == ".npz" else "")
    assert values.dtype == np.float32 and np.isfinite(values).all()


def _pickle(path: Path) -> None:
    for fields in read_pickle(path).values():
        assert all(isinstance(x, np.ndarray) for x in fields.values())


def _idx(path: Path) -> None:
    assert read_idx(path, 2051, None).ndim == 3


def _mfeat(path: Path) -> None:
    values = read_view(path, "mor")
    assert values.shape == (SAMPLES, VIEWS["mor"]) and np.isfinite(values).all()


# ---- lists
def _list(path: Path) -> None:
    text, _ = read_pinned(path, None)
    assert all(0 <= label < len(CLASSES) for _, label in parse(text, path, CLASSES)[0])


def _ave(path: Path) -> None:
    assert all(0 <= label < len(ave.CLASSES) for _, label in ave.parse(read_pinned(path, None)[0], path)[0])


def _vggsound(path: Path) -> None:
    parts, _ = vggsound.parse(read_pinned(path, None)[0], path)
    assert all(0 <= label < len(vggsound.CLASSES) for rows in parts.values() for _, label in rows)


def _bml(path: Path) -> None:
    parts = kinetics_sounds.parse_json(read_pinned(path, None)[0], path)
    assert all(0 <= label < len(kinetics_sounds.CLASSES) for rows in parts.values() for _, label in rows)


def _manifest(path: Path) -> None:
    assert len(outline(path).kinds) >= 2 and read_manifest(path).classes


def _alignment(path: Path) -> None:
    words = aligned_words(path, CLIP)
    assert len(words) == 6 and all(0 <= start < end for start, end in words)


def _digests(path: Path) -> None:
    assert all(one.size > 0 and len(one.sha256) == 64 for one in read_exact_files(path).values())


def _media(path: Path) -> None:
    assert all(file.path and file.exact.size > 0 for file in read_listed(path))


# ---- archives, and what is said about them
def _archive(path: Path) -> None:
    target = path.parent / "unpacked"
    unpack(path, target, WAVS, 1_000_000)
    for file in target.glob("*") if target.is_dir() else ():
        assert file.resolve().parent == target.resolve()
        file.unlink()


def _tar(path: Path) -> None:
    """Damage in the tar itself: that in gzip's bytes is mostly noticed by gzip."""
    packed = path.with_suffix(".gz")
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    try:
        _archive(packed)
    finally:
        packed.unlink()


def _zip(path: Path) -> None:
    target = path.parent / "lists"
    target.mkdir(exist_ok=True)
    unzip(path, target)
    assert sorted(file.name for file in target.iterdir()) == sorted(LISTS)
    for file in target.iterdir():
        file.unlink()


def _clips(path: Path) -> None:
    target = path.parent / "clips"
    found = unpack_zip(path, target, WAVS, 1_000_000)
    assert all(file.resolve().parent == target.resolve() and file.is_file() for file in found)
    for file in target.glob("*"):
        file.unlink()


def _lock(path: Path) -> None:
    """A lock file beside its archive: whatever it says, the archive passes or is named."""
    target = path.parent / "locked"
    target.mkdir(exist_ok=True)
    archive = target / "clips.zip"
    archive.write_bytes((path.parents[1] / "good" / "clips.zip").read_bytes())
    path.replace(target / LOCK)
    try:
        check_lock(archive)
    finally:
        (target / LOCK).unlink()


def _zenodo(path: Path) -> None:
    target = path.parent / "record"
    target.mkdir(exist_ok=True)
    path.replace(target / "zenodo-1.json")
    try:
        for archive in zenodo_archives(1, re.compile(r"clips\.zip"), 1 << 20, target):
            assert archive.name == "clips.zip" and 0 < archive.limit <= 1 << 20 and len(archive.md5) == 32
    finally:
        (target / "zenodo-1.json").unlink()


def _batch(path: Path) -> None:
    """What a git-lfs server answers."""
    with lfs_server({}) as (repository, behaviour):
        behaviour.answer = path.read_bytes()
        found = links(repository, [ExactFile(len(BODY), oid(BODY)), ExactFile(5, "0" * 64)])
    assert set(found) == {oid(BODY), "0" * 64}
    for link in found.values():
        assert link.url.startswith(SCHEMES) and link.expires > 0 if isinstance(link, Link) else link


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


READERS: dict[str, list[Reader]] = {  # of each good file
    "a.wav": [_audio, _track, _cell], "b.wav": [_audio, _track], "a.flac": [_audio, _cell], "a.ogg": [_audio, _track],
    "a.mp3": [_track, _cell], "a.opus": [_track], "a.mp4": [_frames, _track, _jpegs, _cell], "a.avi": [_frames, _track],
    "a.flv": [_frames, _track, _jpegs], "a.webm": [_frames, _track, _jpegs, _cell],
    "grid.mpg": [_grid_words, _grid_clip], "ravdess.mp4": [_ravdess], "a.jpg": [_image, _folder, _cell],
    "a.png": [_image, _cell], "a.gif": [_image], "a.bmp": [_image], "a.webp": [_image], "a.tiff": [_image],
    "a.ppm": [_image], "a.npy": [_array, _cell], "a.npz": [_array, _cell], "2.pkl": [_pickle], "4.pkl": [_pickle],
    "5.pkl": [_pickle], "idx": [_idx], "idx.gz": [_idx], "mfeat-mor": [_mfeat], "mfeat-mor.csv": [_mfeat],
    "list.csv": [_list], "own.csv": [_manifest], "ave.txt": [_ave], "vggsound.csv": [_vggsound], "bml.json": [_bml],
    "grid.align": [_alignment], "grid_s1.csv.gz": [_digests], "media.csv.gz": [_media], "batch.json": [_batch],
    "a.tar.gz": [_archive], "a.tar": [_tar], "lists.zip": [_zip], "clips.zip": [_clips], "lock.json": [_lock],
    "zenodo.json": [_zenodo], "part.set": [_cache],
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


def put_through(folder: Path, cases: range, before_each: Callable[[str], None] = lambda case: None) -> Counter[str]:
    """What came of it, by file, reader and outcome.

    Args:
        folder: A folder of one's own.
        cases: Which.
        before_each: Is told each case before it is read.

    Raises:
        AssertionError: Anything but a correct read or a DataError of one line, in time; it names the case.
    """
    (folder / "good").mkdir(exist_ok=True)
    files = good_files(folder / "good")
    names = list(files)
    outcomes: Counter[str] = Counter()
    for case in cases:
        name, turn = names[case % len(names)], case // len(names)
        read = READERS[name][turn % len(READERS[name])]
        work = folder / "work"
        work.mkdir(exist_ok=True)
        path = work / f"{case}{Path(name).suffix}"
        path.write_bytes(damaged(files[name], case, files[names[(case * 7 + turn + 3) % len(names)]]))
        before = sorted(work.iterdir())
        before_each(f"case {case}: {read.__name__} of {name}")
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
        outcomes[f"{name} {read.__name__[1:]} {outcome}"] += 1
        path.unlink(missing_ok=True)
    return outcomes


def _peak() -> int:
    """The most memory in MB that this process had at a time: ru_maxrss, but for what its parent had before."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) >> 10


def main(folder: Path, start: int, stop: int) -> None:
    """Puts a range of cases through, and prints outcomes and growth as JSON. FOLDER/case names the last case."""
    os.environ["OGM_CACHE"] = str(folder / "cache")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)  # of PIL, about damage that it can read past
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    faulthandler.enable()
    put_through(folder, range(len(READERS)))  # so that what every process needs once does not count
    before, growth, slowest, last = _peak(), 0, (0.0, ""), (time.monotonic(), "")

    def before_each(case: str) -> None:
        nonlocal growth, slowest, last
        growth = _peak() - before
        assert growth < GROWTH, f"{growth} MB more were needed before {case}"
        if last[1]:
            slowest = max(slowest, (round(time.monotonic() - last[0], 2), last[1]))
        last = time.monotonic(), case
        (folder / "case").write_text(case)
        faulthandler.dump_traceback_later(HANGS, exit=True)

    outcomes = put_through(folder, range(start, stop), before_each)
    before_each("the end")
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps({"outcomes": outcomes, "growth": growth, "slowest": slowest}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
