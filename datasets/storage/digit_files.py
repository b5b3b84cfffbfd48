"""The raw files of AV-MNIST (MNIST's images, the Free Spoken Digit Dataset's recordings): get, check, read."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from datasets.core.checks import refuse_missing
from datasets.core.errors import ManifestError, PinMismatchError
from datasets.core.files import convert_disk_errors
from datasets.core.progress import Progress
from datasets.decode.idx import read_idx
from datasets.storage import content
from datasets.storage.cache import sha256
from datasets.storage.download import ExactFile, fetch
from datasets.storage.unpacking import unpack

MNIST_BASE = "https://ossci-datasets.s3.amazonaws.com/mnist"
FSDD_BASE = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive"
FSDD_ARCHIVE = "26eb9aaf76e81b692f806f9140c2d2777410d7a1.tar.gz"  # made by GitHub: its own bytes may change
FSDD_PIN = "04e1baae96c6a26e39c623f2b01d0182ddae627ba0ac02a3cdc17ba2af99fd9b"  # of the folder, see folder_digest
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
TAKES = 50
NAME = re.compile(rf"([0-9])_({'|'.join(SPEAKERS)})_([0-9]|[1-4][0-9])")
MAGIC = {"images-idx3-ubyte": 2051, "labels-idx1-ubyte": 2049}
# The gzipped files as published, and the sha256 of what is inside.
MNIST = {
    "train-images-idx3-ubyte": (
        ExactFile(9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": (
        ExactFile(28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte": (
        ExactFile(1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte": (
        ExactFile(4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}


@dataclass(frozen=True)
class Clip:
    """One recording, called DIGIT_SPEAKER_TAKE.wav."""

    digit: int
    speaker: str
    take: int

    @property
    def stem(self) -> str:
        """The name of its file, without .wav."""
        return f"{self.digit}_{self.speaker}_{self.take}"

    @classmethod
    def parse(cls, stem: str, folder: str = "recordings") -> Clip:
        """The recording of that name.

        Raises:
            ManifestError: The name is not DIGIT_SPEAKER_TAKE.
        """
        match = NAME.fullmatch(stem)
        if not match:
            raise ManifestError(f"{folder}/{stem}.wav is not called DIGIT_SPEAKER_TAKE.wav; rename or remove it")
        return cls(int(match[1]), match[2], int(match[3]))


def download(raw: Path, base: str | None, progress: Progress | None) -> None:
    """Fetches what is not there yet: 12 MB of images, 21 MB of recordings. Raises DataError."""
    download_images(raw, base, progress)
    recordings = raw / "fsdd" / "recordings"
    if recordings.is_dir() and any(recordings.iterdir()):
        scan_recordings(recordings, pinned=True)
        return
    archive = fetch(
        f"{base or FSDD_BASE}/{FSDD_ARCHIVE}", raw / "fsdd" / FSDD_ARCHIVE, None, limit=100_000_000, progress=progress
    )
    part = recordings.with_name("recordings.part")
    try:
        with convert_disk_errors(part):
            if os.path.lexists(part):
                shutil.rmtree(part)  # not where it is a link: that would lead what is unpacked somewhere else
        unpack(archive, part, re.compile(rf"[^/]+/recordings/{NAME.pattern}\.wav"), limit=100_000_000)
        scan_recordings(part, pinned=True)
        with convert_disk_errors(recordings):
            shutil.rmtree(recordings, ignore_errors=True)
            part.replace(recordings)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        archive.unlink()


def download_images(raw: Path, base: str | None, progress: Progress | None) -> None:
    """MNIST's four files, into mnist/, where they are not there yet. Raises DataError."""
    for name, (pin, inside) in MNIST.items():
        plain = raw / "mnist" / name
        if not (plain.is_file() and sha256(plain) == inside):
            fetch(f"{base or MNIST_BASE}/{name}.gz", raw / "mnist" / f"{name}.gz", pin, progress=progress)


def scan_recordings(folder: Path, pinned: bool) -> dict[str, str]:
    """The recordings in a folder.

    Args:
        folder: The folder.
        pinned: Whether they have to be the published ones, all of them.

    Returns:
        Stem -> sha256.

    Raises:
        DataError: A name does not parse or, where pinned, files are missing or other than published.
    """
    stems = sorted(path.stem for path in folder.iterdir() if path.suffix == ".wav") if folder.is_dir() else []
    for stem in stems:
        Clip.parse(stem, str(folder))
    if pinned:
        expected = [folder / f"{d}_{s}_{t}.wav" for d in range(10) for s in SPEAKERS for t in range(TAKES)]
        refuse_missing(
            [path for path in expected if not path.is_file()],
            len(expected),
            0,
            f"get the missing ones, or remove {folder} and run `python -m datasets download avmnist`",
        )
    digests = {path.stem: digest for path, digest in content.digests(folder / f"{stem}.wav" for stem in stems).items()}
    if pinned and (found := folder_digest(digests)) != FSDD_PIN:
        raise PinMismatchError(
            f"{folder}: not the recordings of the pinned commit (digest of the folder {found}, "
            f"expected {FSDD_PIN}); remove it and download again, or say allow_unpinned=true"
        )
    return digests


def folder_digest(digests: Mapping[str, str]) -> str:
    """sha256 of the lines ``<sha256>  recordings/<name>``, in byte order of the names."""
    lines = sorted((f"{stem}.wav".encode(), digest) for stem, digest in digests.items())
    text = "".join(f"{digest}  recordings/{name.decode()}\n" for name, digest in lines)
    return hashlib.sha256(text.encode()).hexdigest()


def image_paths(folder: Path) -> dict[str, Path | None]:
    """Each of MNIST's four files -> where it is, gzipped or plain."""
    return {n: next((p for p in (folder / f"{n}.gz", folder / n) if p.is_file()), None) for n in MNIST}


def scan_images(folder: Path, pinned: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{"train": (pixels (n, 28, 28) uint8, labels (n,) uint8), "t10k": ...}. Raises DataError."""
    paths = image_paths(folder)
    refuse_missing(
        [folder / f"{name}.gz" for name, path in paths.items() if path is None],
        len(paths),
        0,
        f"run `python -m datasets download {folder.parent.name}`, or put them there (plain or gzipped)",
    )
    images = {}
    for source in ("train", "t10k"):
        pixels, labels = (
            read_idx(path, magic, MNIST[f"{source}-{kind}"][1] if pinned else None)
            for kind, magic in MAGIC.items()
            if (path := paths[f"{source}-{kind}"])
        )
        top = labels.max(initial=0)
        if len(pixels) != len(labels) or pixels.shape[1:] != (28, 28) or top > 9:
            raise ManifestError(
                f"{folder}: {source} has images {pixels.shape} and {len(labels)} labels from 0 to {top}; "
                "expected as many images of 28 x 28 as labels, from 0 to 9"
            )
        images[source] = pixels, labels
    return images


def image_sources(folder: Path, pinned: bool) -> dict[str, str]:
    """Source -> sha256 of its pixels and labels; nothing where a file is not there. Raises DataError."""
    paths = list(image_paths(folder).values())
    if not all(paths):
        return {}
    digests = content.digests([path for path in paths if path])
    return _image_sources(folder, pinned, tuple(digests.values()))


@lru_cache(maxsize=4)  # the files are unpacked and read once, unless their digests change
def _image_sources(folder: Path, pinned: bool, digests: tuple[str, ...]) -> dict[str, str]:
    return {
        source: hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
        for source, (pixels, labels) in scan_images(folder, pinned).items()
    }
