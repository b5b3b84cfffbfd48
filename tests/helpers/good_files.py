"""A small good file of every format that the suite reads, to be damaged."""

from __future__ import annotations

import gzip
import hashlib
import json
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from datasets.crema_d import CLASSES
from datasets.mfeat import PER_CLASS, SAMPLES, VIEWS
from datasets.storage.archives import ZENODO
from datasets.ucf101 import LISTS
from tests.datasets.test_grid import alignment, write_mpg
from tests.helpers.lfs_server import oid
from tests.helpers.media import frame, tone, write_clip, write_flv, write_idx, write_wav

CSV = "id,split,label,start,end,a:audio,b:npy\n" + "".join(
    f"clip {i},{'train' if i < 8 else 'test'},{'xy'[i % 2]},0,{i + 1},s/{i}.wav,n/{i}.npy\n" for i in range(12)
)
CLIP = "bbaf2n"  # of GRID
BODY = b"a recording" * 100  # an object of git-lfs


def good_files(folder: Path) -> dict[str, bytes]:
    """Name -> content; the folder is used to write them."""
    _sounds(folder)
    _films(folder)
    _arrays(folder)
    _lists(folder)
    _archives(folder)
    (folder / "part.set").write_bytes(bytes(range(64)))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def _sounds(folder: Path) -> None:
    write_wav(folder / "a.wav", tone(0.5, 16_000))
    write_wav(folder / "b.wav", np.stack([tone(0.3, 8000)] * 2, 1), 8000, "FLOAT")
    for name in ("a.flac", "a.ogg"):
        soundfile.write(folder / name, tone(0.5, 16_000), 16_000)
    for name in ("a.mp3", "a.opus"):
        soundfile.write(folder / name, tone(0.5, 48_000), 48_000, format="OGG" if "opus" in name else "MP3",
                        subtype="OPUS" if "opus" in name else "MPEG_LAYER_III")  # fmt: skip


def _films(folder: Path) -> None:
    write_clip(folder / "a.mp4", 2.0, size=(48, 36), rate=5)
    write_clip(folder / "a.avi", 2.0, size=(48, 36), rate=5)
    write_flv(folder / "a.flv", 40, size=(48, 36))
    write_clip(folder / "a.webm", 1.0, size=(48, 36), rate=5)
    write_mpg(folder / "grid.mpg")
    write_clip(folder / "ravdess.mp4", 3.0, size=(160, 90), rate=30)
    for name in ("a.jpg", "a.png", "a.gif", "a.bmp", "a.webp", "a.tiff", "a.ppm"):
        Image.fromarray(frame(3, 48, 36)).save(folder / name)


def _arrays(folder: Path) -> None:
    np.save(folder / "a.npy", np.arange(60.0).reshape(5, 12))
    np.savez_compressed(folder / "a.npz", a=np.arange(60).reshape(5, 12), b=np.zeros(3))
    for protocol in (2, 4, 5):
        data = {"train": {"text": np.ones((3, 4)), "id": np.array([[b"x"] * 3]), "n": [1, 2]}}
        (folder / f"{protocol}.pkl").write_bytes(pickle.dumps(data, protocol=protocol))
    write_idx(folder / "idx", np.arange(48).reshape(3, 4, 4))
    (folder / "idx.gz").write_bytes(gzip.compress((folder / "idx").read_bytes()))
    rows = [[f"{(i * 7 + k) % 97 / 8:.3f}" for k in range(VIEWS["mor"])] for i in range(SAMPLES)]
    (folder / "mfeat-mor").write_text("".join(f" {'  '.join(row)}\n" for row in rows))
    labelled = (",".join([*row, str(i // PER_CLASS)]) for i, row in enumerate(rows))
    (folder / "mfeat-mor.csv").write_text("\n".join(["a,b,c,d,e,f,label", *labelled]))


def _lists(folder: Path) -> None:
    (folder / "list.csv").write_text("".join(f"clip {i},{CLASSES[i % 6]}\r\n" for i in range(30)))
    (folder / "own.csv").write_text(CSV)
    (folder / "ave.txt").write_text("".join(f"Church bell&{i:011}&good&0&{i % 9 + 1}\n" for i in range(30)))
    (folder / "vggsound.csv").write_text("".join(f'{i:011},{i},"people running",train\n' for i in range(30)))
    clips = {f"{i:011}_000001_000011": {"subset": "training", "label": "playing_guitar"} for i in range(30)}
    (folder / "bml.json").write_text(json.dumps({"database": clips}))
    (folder / "grid.align").write_text(alignment(CLIP))
    digests = "".join(f"{i}.mpg,{i + 1},{hashlib.sha256(bytes([i])).hexdigest()}\n" for i in range(30))
    for name, column in (("grid_s1", "name"), ("media", "path")):
        (folder / f"{name}.csv.gz").write_bytes(gzip.compress(f"{column},bytes,sha256\n{digests}".encode()))
    link = {"href": f"http://127.0.0.1/{oid(BODY)}", "header": {"X-Key": "1"}, "expires_at": "2101-01-01T00:00:00Z"}
    answers = [{"oid": oid(BODY), "size": len(BODY), "actions": {"download": link}},
               {"oid": "0" * 64, "size": 5, "error": {"code": 404, "message": "Object does not exist"}}]  # fmt: skip
    (folder / "batch.json").write_text(json.dumps({"transfer": "basic", "objects": answers}))


def _archives(folder: Path) -> None:
    with tarfile.open(folder / "a.tar.gz", "w:gz") as tar:
        tar.add(folder / "a.wav", "sounds/a.wav")
        tar.add(folder / "b.wav", "sounds/b.wav")
    (folder / "a.tar").write_bytes(gzip.decompress((folder / "a.tar.gz").read_bytes()))
    with zipfile.ZipFile(folder / "lists.zip", "w", zipfile.ZIP_DEFLATED) as lists:
        for name in LISTS:
            lists.writestr(f"ucf/{name}", "".join(f"{i} Class{i}\n" for i in range(30)))
    with zipfile.ZipFile(folder / "clips.zip", "w", zipfile.ZIP_DEFLATED) as clips:
        clips.write(folder / "a.wav", "s1/a.wav")
        clips.write(folder / "b.wav", "s1/b.wav", zipfile.ZIP_STORED)
        clips.write(folder / "a.jpg", "s1/thumb.jpg")
    data = (folder / "clips.zip").read_bytes()
    locked = {"clips.zip": {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}}
    (folder / "lock.json").write_text(json.dumps(locked, indent=2))
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    described = {"key": "clips.zip", "size": len(data), "checksum": f"md5:{md5}",
                 "links": {"self": f"{ZENODO}/1/files/clips.zip/content"}}  # fmt: skip
    (folder / "zenodo.json").write_text(json.dumps({"id": 1, "files": [described, {**described, "key": "other.txt"}]}))
