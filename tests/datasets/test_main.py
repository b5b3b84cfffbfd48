"""python -m datasets as a user types it: real processes, and downloads from a server on this machine."""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from datasets.__main__ import main
from datasets.core.split_lists import Pin
from datasets.crema_d import CremaD
from datasets.registry import DATASETS, card
from datasets.storage import download
from datasets.storage.cache import sha256
from datasets.storage.digit_files import FSDD_ARCHIVE, MNIST
from ogm.registry import find
from tests.datasets.test_crema_d import TEST, TRAIN
from tests.helpers.media import tone, write_flv, write_lists, write_wav
from tests.helpers.shared_media import shared

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("OGM_DATA", str(tmp_path / "raw"))
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "PAUSE", 0.01)
    return tmp_path


def serve(handler):
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    return httpd, thread, f"http://127.0.0.1:{httpd.server_port}"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path):
    """(folder, its address): what lies in the folder is served."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    httpd, thread, base = serve(partial(Quiet, directory=str(folder)))
    yield folder, base
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def run(capsys, *words: str) -> tuple[int, str, str]:
    try:
        code = main(words)
    except SystemExit as end:  # argparse
        code = int(end.code or 0)
    return code, *capsys.readouterr()


# ---- help and lists


@pytest.mark.parametrize("words", [["--help"], ["prepare", "--help"], ["list"]])
def test_help_and_list_are_quick_and_need_no_torch(words):
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", "datasets", *words], cwd=ROOT, capture_output=True,
                          text=True, timeout=60)  # fmt: skip
    assert done.returncode == 0 and time.perf_counter() - start < 5  # a busy machine; idle it takes 0.2 s
    assert " torch" not in done.stderr and " numpy" not in done.stderr
    assert ("examples:" in done.stdout) == (words != ["list"])


def test_every_dataset_has_a_card_that_tells_the_truth():
    for name in DATASETS:
        kind = find(name, DATASETS, "dataset")
        assert kind.name == name and "card" in vars(kind)
        if hasattr(kind, "prepare"):
            assert (kind.modalities, len(kind.classes)) == (kind.card.modalities, kind.card.classes)


def write_clips(folder: Path) -> None:
    for number, clip in enumerate(TRAIN[:12] + TEST):
        write_wav(folder / "AudioWAV" / f"{clip}.wav", tone(1.3, 16_000, 200 + 20 * number))
        write_flv(folder / "VideoFlash" / f"{clip}.flv", 8 + number)
    write_lists(folder / "splits", {"train.csv": TRAIN[:12], "test.csv": TEST})


def test_list_shows_where_each_stands(capsys, folders):
    def states() -> dict[str, str]:
        code, out, _ = run(capsys, "list")
        assert code == 0
        return dict(line.split(maxsplit=1) for line in out.splitlines() if line and not line.startswith(" "))

    assert states() == {name: "not there" if card(name).raw_files else "embedded" for name in DATASETS}
    write_clips(folders / "raw" / "crema_d")
    assert states()["crema_d"] == "raw files there"
    assert run(capsys, "prepare", "crema_d", "allow_unpinned=true")[0] == 0
    assert states()["crema_d"] == "prepared"


@pytest.mark.parametrize(("words", "says"), [
    (["info", "avmnst"], "error: no dataset is called 'avmnst'; did you mean 'avmnist'?"),
    (["prepare", "avmnist", "presett=mel32"], "avmnist: no argument is called 'presett'; did you mean 'preset'?"),
    (["prepare", "avmnist", "k=0"], "error: avmnist: k=0: input should be greater than or equal to 1"),
    (["prepare", "avmnist", "k"], "error: 'k': settings are written name=value, such as preset=mel32"),
    (["prepare", "avmnist", "k=[1"], "error: 'k=[1': the value is not readable as YAML"),
    (["info", "synthav", "presett=x"], "error: synthav: no knob is called 'presett'"),
    (["verify", "avmnist"], "error: avmnist is not prepared ("),
    (["prepare", "avmnist"], "run `python -m datasets download avmnist`"),
    (["verify", "crema_d", "preset=bb"], "run `python -m datasets download crema_d`"),
    (["download", "crema_d", "--base", "ftp://x"], "error: ftp://x/train.csv: not an http or https address"),
    (["fetch", "avmnist"], "invalid choice: 'fetch'"),
    ([], "the following arguments are required: COMMAND"),
])  # fmt: skip
def test_mistakes_are_one_line_and_exit_2(capsys, words, says):
    code, out, err = run(capsys, *words)
    assert code == 2 and says in err and out == ""
    assert err.count("\n") == 1 or err.startswith("usage:")


def test_info_before_and_after_preparing(capsys, folders):
    code, out, _ = run(capsys, "info", "crema_d", "allow_unpinned=true")
    assert (
        code == 0 and "not prepared this way; `python -m datasets prepare crema_d allow_unpinned=true` does it" in out
    )
    for fact in (
        "Open Database License",
        "doi 10.1109/TAFFC.2014.2336244",
        "gitlab.com/cs-cooper-lab",
        "all 91 actors",
    ):
        assert fact in out
    write_clips(folders / "raw" / "crema_d")
    (folders / "raw" / "crema_d" / "AudioWAV" / f"{TRAIN[0]}.wav").unlink()
    code, out, _ = run(capsys, "prepare", "crema_d", "allow_unpinned=true", "max_missing=1")
    assert code == 0 and "prepared in" in out and "; missing 1" in out
    code, out, _ = run(capsys, "info", "crema_d", "allow_unpinned=true", "max_missing=1")
    assert code == 0 and "test: 6 of 6 (NEU 1, HAP 1, SAD 1, FEA 1, DIS 1, ANG 1)\n" in out


def test_what_is_generated_needs_nothing(capsys):
    for verb in ("download", "prepare", "verify"):
        code, out, _ = run(capsys, verb, "synthav")
        assert code == 0 and out == f"synthav is generated: there is nothing to {verb}\n"
    code, out, _ = run(capsys, "info", "synthav", "num_train=64")
    assert code == 0 and "train: 64 of 64 (disk 8" in out


def test_verify_names_the_damaged_file(capsys, folders):
    write_clips(folders / "raw" / "crema_d")
    run(capsys, "prepare", "crema_d", "allow_unpinned=true")
    code, out, _ = run(capsys, "verify", "crema_d", "allow_unpinned=true")
    assert code == 0 and "4 files" not in out and "3 files" in out and "all as they were written" in out
    path = next((folders / "cache" / "crema_d").glob("*/frames.npy"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    code, out, err = run(capsys, "verify", "crema_d", "allow_unpinned=true")
    assert code == 2 and err.count("\n") == 1 and f"error: {path} has other bytes than were written" in err
    path.unlink()
    code, _, err = run(capsys, "info", "crema_d", "allow_unpinned=true")
    assert code == 2 and f"error: {path} is missing" in err and err.count("\n") == 1


# ---- downloads


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The published files of AV-MNIST as a mirror holds them."""
    folder = tmp_path_factory.mktemp("published")
    for name in MNIST:
        shutil.copy(shared("data", "avmnist", "mnist", f"{name}.gz"), folder)
    with tarfile.open(folder / FSDD_ARCHIVE, "w:gz", compresslevel=1) as tar:
        tar.add(shared("data", "avmnist", "fsdd", "recordings"), "free-spoken-digit-dataset-26eb9aa/recordings")
    return folder


def test_download_avmnist(capsys, mirror, published, folders):
    folder, base = mirror
    for path in published.iterdir():
        (folder / path.name).symlink_to(path)
    code, out, err = run(capsys, "download", "avmnist", "--base", base)
    assert code == 0 and "now run `python -m datasets prepare avmnist`" in out and err == ""
    raw = folders / "raw" / "avmnist"
    assert sorted(p.name for p in raw.iterdir()) == ["fsdd", "mnist"]
    assert [p.name for p in (raw / "fsdd").iterdir()] == ["recordings"]
    assert sorted(p.name for p in (raw / "mnist").iterdir()) == sorted(f"{name}.gz" for name in MNIST)
    for path in folder.iterdir():
        path.unlink()
    assert run(capsys, "download", "avmnist", "--base", base)[0] == 0  # all is there: nothing is asked for
    (raw / "fsdd" / "recordings" / "3_theo_7.wav").unlink()
    code, _, err = run(capsys, "download", "avmnist", "--base", base)
    assert code == 2 and "1 of 3000 are missing" in err and "3_theo_7.wav" in err and err.count("\n") == 1


def test_an_archive_of_other_recordings_is_not_taken(capsys, mirror, published, folders):
    folder, base = mirror
    for name in MNIST:
        (folder / f"{name}.gz").symlink_to(published / f"{name}.gz")
    with tarfile.open(folder / FSDD_ARCHIVE, "w:gz") as tar:
        tar.add(write_wav(folders / "x.wav", tone(0.3, 8000), 8000), "x/recordings/0_theo_0.wav")
    code, _, err = run(capsys, "download", "avmnist", "--base", base)
    assert code == 2 and "2999 of 3000 are missing" in err and err.count("\n") == 1
    assert not list((folders / "raw" / "avmnist" / "fsdd").iterdir())


def test_download_crema_d_takes_no_other_lists(capsys, mirror, folders, monkeypatch):
    folder, base = mirror
    code, _, err = run(capsys, "download", "crema_d", "--base", base)
    assert code == 2 and f"error: {base}/train.csv: HTTP 404" in err and err.count("\n") == 1
    (folder / "train.csv").write_text("not the list")
    code, _, err = run(capsys, "download", "crema_d", "--base", base)
    assert code == 2 and "expected 140658 with 68d0d3fd" in err
    for name in ("train", "test"):
        shutil.copy(shared("data", "splits", "ogm", f"crema_d_{name}.csv"), folder / f"{name}.csv")
    write_lists(folder, {"my_train.csv": TRAIN[:18], "val.csv": TRAIN[18:]}, "\n")  # not the published ones
    code, _, err = run(capsys, "download", "crema_d", "--base", base)
    assert code == 2 and "expected 119080 with eaf4d933" in err
    own = {n: Pin(p.stat().st_size, 0, sha256(p), "") for n in ("my_train.csv", "val.csv") for p in [folder / n]}
    files = tuple(replace(file, pin=own.get(file.name, file.pin)) for file in CremaD.list_files)
    monkeypatch.setattr(CremaD, "list_files", files)
    code, _, err = run(capsys, "download", "crema_d", "--base", base)
    assert code == 2 and f"error: {base}: not the address of a git repository; 0 of 14884 files are there" in err
    splits = folders / "raw" / "crema_d" / "splits"
    assert sorted(p.name for p in splits.iterdir()) == ["my_train.csv", "test.csv", "train.csv", "val.csv"]


class Endless(BaseHTTPRequestHandler):
    """Sends a little and then waits."""

    asked = threading.Event()
    stop = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "140658")
        self.end_headers()
        self.wfile.write(b"1088_IOM_NEU_XX,NEU\r\n" * 100)
        self.asked.set()
        self.stop.wait(30)

    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(number, marks=pytest.mark.long) for number in (signal.SIGINT, signal.SIGHUP))],
)
def test_interrupting_is_one_line_and_128_with_the_signal(folders, number):
    Endless.asked.clear()
    Endless.stop.clear()
    httpd, thread, base = serve(Endless)
    try:
        process = subprocess.Popen([sys.executable, "-m", "datasets", "download", "crema_d", "--base", base], cwd=ROOT,
                                   stderr=subprocess.PIPE, text=True, env=dict(os.environ),
                                   # a shell's background jobs start with ctrl-C ignored
                                   preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # fmt: skip
        assert Endless.asked.wait(60)
        time.sleep(0.2)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    finally:
        Endless.stop.set()
        httpd.shutdown()
        thread.join()
        httpd.server_close()
    assert process.returncode == 128 + number and err == "interrupted; the same command goes on from here\n"
    assert [p.name for p in (folders / "raw" / "crema_d" / "splits").iterdir()] == ["train.csv.part"]


def test_a_cache_that_cannot_be_written_is_one_line(capsys, folders, monkeypatch):
    write_clips(folders / "raw" / "crema_d")
    (folders / "file").write_text("")
    monkeypatch.setenv("OGM_CACHE", str(folders / "file"))
    code, _, err = run(capsys, "prepare", "crema_d", "allow_unpinned=true")
    assert code == 2 and "cannot write" in err and err.count("\n") == 1
