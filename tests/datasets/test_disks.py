"""Disks that are full and files that are closed: one line that says which, and nothing is called damaged falsely."""

from __future__ import annotations

import http.server
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from datasets.__main__ import main
from datasets.cmu_mosi import CMUMOSI
from datasets.core.errors import DataError
from datasets.storage.download import fetch
from tests.datasets.test_cmu_mosi import content, write
from tests.helpers.disks import disk
from tests.helpers.media import tone, write_wav

NOBODY = 65534
CSV = "id,split,label,a:audio,b:npy\n" + "".join(
    f"{i},{part},{label},{i}.wav,{i}.npy\n"
    for i, (part, label) in enumerate([("train", "x"), ("train", "y"), ("val", "x"), ("test", "y")])
)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One that everybody may look into, with raw and prepared data of CMU-MOSI and a list of one's own."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    monkeypatch.setenv("OGM_DATA", str(place / "raw"))
    monkeypatch.setenv("OGM_CACHE", str(place / "cache"))
    (place / "raw" / "cmu_mosi").mkdir(parents=True)
    write(place / "raw", content())
    for i in range(4):
        write_wav(place / f"{i}.wav", tone(0.3, 16_000))
        np.save(place / f"{i}.npy", np.full((2, 3), i))
    (place / "own.csv").write_text(CSV)
    yield place
    shutil.rmtree(place)


@contextmanager
def nobody() -> Iterator[None]:
    """As somebody who owns nothing: root may read everything."""
    if os.geteuid():
        pytest.skip("needs the right to become somebody else")
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


CLOSED = {
    "cmu_mosi/mosi_data.pkl": "prepare cmu_mosi",
    "cmu_mosi": "prepare cmu_mosi",
    "manifest.json": "verify cmu_mosi",
    "index.json": "verify cmu_mosi",
    "text.npy": "verify cmu_mosi",
    "manifest.json of what is prepared again": "prepare cmu_mosi",
    "own.csv": "prepare manifest",
    "1.wav": "prepare manifest",
    "2.npy": "prepare manifest",
}


@pytest.mark.parametrize("what", CLOSED)
def test_a_closed_file_is_not_called_damaged(what: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = CLOSED[what].split()
    words += [f"path={folder}/own.csv", "seconds=0.2"] if "manifest" in words else []
    assert main(["prepare", *words[1:]]) == 0  # all is well, and what is imported on the way is imported
    name = what.split()[0]
    if words[0] == "prepare" and name != "manifest.json":
        shutil.rmtree(folder / "cache")
        (folder / "cache").mkdir()
        (folder / "cache").chmod(0o777)
    closed = next(p for p in sorted(folder.rglob("*")) if str(p).endswith(f"/{name}"))
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    closed.chmod(0)
    capsys.readouterr()
    with nobody():
        code = main(words)
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 2 and line.startswith("error: ") and str(closed) in line and "Permission denied" in line, line
    assert not any(word in line for word in ("damaged", "delete", "again", "remove", "save")), line
    closed.chmod(0o755)
    assert before.items() <= {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}.items()


def test_a_closed_folder_for_what_is_prepared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "cache").mkdir()
    with nobody():
        assert main(["prepare", "cmu_mosi"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot write (Permission denied)" in line and "OGM_CACHE" in line and str(folder / "cache") in line


def test_a_full_disk_says_where_and_how_full(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with disk(folder / "small", "size=256k") as place:
        monkeypatch.setenv("OGM_CACHE", str(place / "cache"))
        (place / "else").write_bytes(bytes(100_000))
        write(folder / "raw", content(steps=200))
        assert main(["prepare", "cmu_mosi"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "needs" in line and f"the disk at {place} has 0.1 of 0.3 MB free" in line and "OGM_CACHE" in line
        monkeypatch.setattr("datasets.storage.build._ask_for_space", lambda *_: None)  # as if another program filled it
        assert main(["prepare", "cmu_mosi"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert (
            f"No space left on device: the disk at {place} has 0.0 of 0.3 MB free" in line
            and str(place / "cache") in line
        )
        assert not list(place.rglob("*.part")) and not CMUMOSI.ready()


def test_a_disk_that_is_full_while_a_file_arrives(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a").write_bytes(bytes(range(256)) * 500)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path / "served"))  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server,
        disk(tmp_path / "small", "size=64k") as place,
    ):
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            with pytest.raises(DataError) as error:
                fetch(f"http://127.0.0.1:{server.server_port}/a", place / "a", None, limit=10**6)
        finally:
            server.shutdown()
            thread.join()
        line = str(error.value)
        assert f"No space left on device: the disk at {place} has 0.0 of 0.1 MB free" in line and "OGM_DATA" in line
        assert "\n" not in line and str(place) in line
