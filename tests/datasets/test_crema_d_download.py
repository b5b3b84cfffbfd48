"""CREMA-D's whole way, from a git-lfs server on this machine to an epoch; and the list of what is fetched."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasets.__main__ import main
from datasets.core.split_lists import Pin
from datasets.crema_d import TWINS, CremaD, all_clips
from datasets.storage import download, lfs_files
from datasets.storage.lfs_files import read_listed
from datasets.storage.list_files import ListFile
from tests.datasets.test_crema_d import TEST, TRAIN
from tests.helpers import clips
from tests.helpers.lfs_server import Behaviour, lfs_server
from tests.helpers.media import tone, write_flv, write_lists, write_wav
from tests.helpers.shared_media import shared

CLIPS = TRAIN[:12] + TEST  # of two actors to train on, and of a third
Lfs = tuple[str, Behaviour]


def test_the_list_names_every_file_of_the_pinned_commit() -> None:
    digest = hashlib.sha256(CremaD.media_list.read_bytes()).hexdigest()
    assert digest == "15aa28c4bd412238435bc7f47121e6d230a59f5800476286f38de30d9f3e0d6f"
    listed = {file.path: file.exact for file in read_listed(CremaD.media_list)}
    names = [f"AudioWAV/{clip}.wav" for clip in all_clips()] + [f"VideoFlash/{clip}.flv" for clip in all_clips()]
    assert list(listed) == names
    sizes = {what: sum(e.size for path, e in listed.items() if path.startswith(what)) for what in ("Audio", "Video")}
    assert {what: round(size / 1e9, 2) for what, size in sizes.items()} == {"Audio": 0.61, "Video": 2.44}
    assert all(len(e.sha256) == 64 and int(e.sha256, 16) for e in listed.values())
    for one, other in zip(TWINS[::2], TWINS[1::2], strict=True):
        assert listed[f"AudioWAV/{one}.wav"] == listed[f"AudioWAV/{other}.wav"]


def test_genuine_files_are_the_listed_ones() -> None:
    listed = {file.path: file.exact for file in read_listed(CremaD.media_list)}
    for path in shared("data", "media", "crema_d", "VideoFlash").glob("*.flv"):
        exact = listed[f"VideoFlash/{path.name}"]
        assert (exact.size, exact.sha256) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Clips and lists as the repository and the authors have them, but few."""
    folder = tmp_path_factory.mktemp("published")
    for number, clip in enumerate(CLIPS):
        write_wav(folder / "AudioWAV" / f"{clip}.wav", tone(1.3 + number / 40, 16_000, 200 + 30 * number))
        write_flv(folder / "VideoFlash" / f"{clip}.flv", 8 + number)
    write_lists(folder, {"train.csv": TRAIN[:12], "test.csv": TEST})
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.*"))}


@pytest.fixture
def lfs(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lfs]:
    """Their server; the list of media and the pins of the split lists are those of these files."""
    monkeypatch.setenv("OGM_DATA", str(tmp_path / "raw"))
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "PAUSE", 0.01)
    monkeypatch.setattr(lfs_files, "PAUSE", 0.02)
    media = {path: body for path, body in files.items() if "/" in path}
    with gzip.open(tmp_path / "media.csv.gz", "wt") as text:
        text.write("path,bytes,sha256\n")
        text.writelines(f"{path},{len(body)},{hashlib.sha256(body).hexdigest()}\n" for path, body in media.items())
    monkeypatch.setattr(CremaD, "media_list", tmp_path / "media.csv.gz")
    lists = {path: body for path, body in files.items() if "/" not in path}
    pins = {name: Pin(len(body), 0, hashlib.sha256(body).hexdigest(), "") for name, body in lists.items()}
    monkeypatch.setattr(CremaD, "list_files", tuple(ListFile(name, "", pin) for name, pin in pins.items()))
    with lfs_server(media, lists) as both:
        yield both


def test_from_the_server_to_an_epoch(
    lfs: Lfs, files: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, behaviour = lfs
    behaviour.cut = {
        hashlib.sha256(body).hexdigest() for path, body in files.items() if path.endswith("IOM_SAD_XX.flv")
    }
    out = clips.command(capsys, "download", "crema_d", "--base", base)
    assert f"crema_d is in {tmp_path}/raw/crema_d; now run `python -m datasets prepare crema_d`" in out
    raw = tmp_path / "raw" / "crema_d"
    assert {str(p.relative_to(raw)): p.read_bytes() for p in raw.rglob("*.*")} == {
        path if "/" in path else f"splits/{path}": body for path, body in files.items()
    }
    number = len(behaviour.log)
    clips.command(capsys, "download", "crema_d", "--base", base)
    assert len(behaviour.log) == number  # all is there: no link is asked for
    assert "test: 6 of 6" in clips.command(capsys, "prepare", "crema_d", "image_size=64")
    out = clips.command(capsys, "verify", "crema_d", "image_size=64")
    assert "all as they were written" in out and "ours: val 6 of 6" in out
    clips.trains("crema_d", {"image_size": 64}, 6)


def test_one_modality_and_then_the_other(lfs: Lfs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw" / "crema_d"
    out = clips.command(capsys, "download", "crema_d", "--base", lfs[0], "--only", "audio")
    assert out == f"{raw} has AudioWAV; the same command without --only fetches the rest\n"
    assert len(list(raw.glob("AudioWAV/*.wav"))) == len(CLIPS) and not (raw / "VideoFlash").exists()
    out = clips.command(capsys, "download", "crema_d", "--base", lfs[0], "--only", "visual")
    assert "now run `python -m datasets prepare crema_d`" in out
    assert [number for what, number, _ in lfs[1].log if what == "batch"] == [len(CLIPS), len(CLIPS)]


def test_both_hosts_are_asked(lfs: Lfs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where no address is given: the first host is over its quota, the second has all files."""
    base, _ = lfs
    monkeypatch.setattr(CremaD, "list_files", ())
    with lfs_server({}) as (first, over):
        over.status, over.message = 403, "This repository exceeded its LFS budget."
        monkeypatch.setattr(CremaD, "hosts", (first, base))
        assert main(["download", "crema_d"]) == 0
        out, err = capsys.readouterr()
        assert err == f"{first}: HTTP 403 Forbidden: {over.message}; going on with {base}\n" and "now run" in out
    assert all(f"https://{host}/" in CremaD.card.how_to_get for host in ("github.com", "gitlab.com"))


def test_what_fails_is_one_line(lfs: Lfs, capsys: pytest.CaptureFixture[str]) -> None:
    lfs[1].status, lfs[1].message = 509, "Bandwidth limit exceeded"
    said = clips.refusal(capsys, "download", "crema_d", "--base", lfs[0])
    assert f"error: {lfs[0]}: HTTP 509 : Bandwidth limit exceeded; 0 of {2 * len(CLIPS)} files are there: run" in said
    for name, only, says in (
        ("crema_d", "sound", "crema_d: 'sound' cannot be fetched alone; --only takes audio or visual"),
        ("avmnist", "audio", "avmnist: 'audio' cannot be fetched alone; it is fetched whole, without --only"),
    ):
        assert says in clips.refusal(capsys, "download", name, "--only", only)
