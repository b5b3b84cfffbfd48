"""What every audio-visual set is put through: a bad server, preparing, verifying, an epoch, kills, damage."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.config.run_config import RunConfig, configure
from benchmarks.runner.build import build
from benchmarks.runner.experiment import resolve
from datasets.__main__ import main
from datasets.core.errors import CacheError
from datasets.registry import DATASETS
from datasets.storage import download
from datasets.storage.clip_dataset import ClipDataset
from datasets.storage.prepared import Prepared
from ogm.registry import find

ROOT = Path(__file__).parents[2]
BAD = {"wrong": "expected", "cut": "body ended after", "500": "HTTP 500", "404": "HTTP 404"}


@contextmanager
def server(files: Mapping[str, bytes]) -> Iterator[str]:
    """An address below which /good/NAME is a file, and /wrong, /cut, /500, /404 what a bad server makes of it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, name = self.path.strip("/").split("/", 1)
            if kind in ("404", "500"):
                return self.send_error(int(kind))
            body = files[name] if kind != "wrong" else files[name][:-1] + b"?"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if kind == "cut" else body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def command(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command that works prints."""
    assert main(words) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line of a command that does not."""
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and err.startswith("error: ") and not out
    return err


def downloads(
    kind: type[ClipDataset],
    files: Mapping[str, bytes],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lists come from a server only if it is good, and what is left to do is said."""
    monkeypatch.setattr(download, "PAUSE", 0.001)
    splits = Path(os.environ["OGM_DATA"]) / kind.name / "splits"
    with server(files) as base:
        for bad, says in BAD.items():
            assert says in refusal(capsys, "download", kind.name, "--base", f"{base}/{bad}")
            assert not [path for path in splits.glob("*") if path.suffix != ".part"]
            for path in splits.glob("*.part"):
                path.unlink()
        out = command(capsys, "download", kind.name, "--base", f"{base}/good")
    assert f"now run `python -m datasets prepare {kind.name}`" in out or out.strip() == kind.card.how_to_get


def trains(name: str, args: Mapping[str, Any], classes: int) -> None:
    """One epoch with OGM-GE; logits come for every class, and the loss is a number."""
    engine = build(resolve(one_epoch(name, args)))
    engine.train_epoch()
    assert engine.curves and all(math.isfinite(x) for values in engine.curves.values() for x in values)
    engine.model.eval()
    for part in engine.loaders.values():
        logits = torch.cat([engine.model(batch.inputs).logits for batch in part.all()])
        assert logits.shape == (part.num_samples, classes) and logits.isfinite().all()


def one_epoch(name: str, args: Mapping[str, Any]) -> RunConfig:
    """Networks of two small convolutions each, and OGM-GE."""
    encoders = dict.fromkeys(find(name, DATASETS, "dataset").modalities, "cnn")
    return configure(
        {
            "dataset": name,
            "dataset_args": dict(args),
            "method": "ogm_ge",
            "encoders": encoders,
            "encoder_args": {m: {"widths": [4, 8]} for m in encoders},
            "batch_size": 4,
            "epochs": 1,
            "schedule": "constant",
            "method_args": {"alpha": 0.8},
        }
    )


KILLED = """
import ast, os, signal, sys
from datasets.storage import build
from datasets.registry import DATASETS
from ogm.registry import find
build.CHUNK, build.BRIEF, calls, kind = int(sys.argv[5]), 0, [], find(sys.argv[1], DATASETS, 'dataset')
real = kind.decode.__func__
def counted(cls, *args):
    calls.append(1)
    if len(calls) > int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(cls, *args)
kind.decode = classmethod(counted)
for _ in range(int(sys.argv[4])):  # each in a process of its own; what is imported already is not imported again
    if not (child := os.fork()):
        kind.prepare(progress=False, **ast.literal_eval(sys.argv[3]))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
"""


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def survives_kills(
    kind: type[ClipDataset],
    args: Mapping[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    patches: str = "",
    column: str = "visual",
    kills: int = 3,
    chunk: int = 2,
) -> None:
    """Killed in each of its first chunks, a preparation ends in the bytes of an undisturbed one.

    A changed byte is refused by name.
    """
    whole = files_of(kind.prepare(progress=False, **args))
    monkeypatch.setenv("OGM_CACHE", str(tmp_path / "killed"))
    after = str(2 * chunk - 1)  # calls: one chunk is kept, the next is lost
    words = [sys.executable, "-c", patches + KILLED, kind.name, after, repr(dict(args)), str(kills), str(chunk)]
    subprocess.run(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120, check=True)
    (part,) = (tmp_path / "killed" / kind.name).glob("*.part")
    assert (part / "journal.jsonl").read_text().count('"key"') >= kills * chunk
    folder = kind.prepare(progress=False, **args)
    assert files_of(folder) == whole
    path = folder / f"{column}.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    said = refusal(capsys, "verify", kind.name, *(f"{k}={v}" for k, v in args.items()))
    assert f"error: {path} has other bytes than were written" in said


def notices_changed_files(kind: type[Prepared], args: Mapping[str, Any], path: Path) -> None:
    """A raw file with another content of the same size is refused by a run, and another set once it is prepared."""
    kind.prepare(progress=False, **args)
    before = kind.module(**args).splits()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        CacheError, match=rf"{kind.name}: the raw files of .* have changed.*prepare {kind.name} "
    ) as error:
        kind.module(**args)
    assert "\n" not in str(error.value)
    kind.prepare(progress=False, **args)
    after = kind.module(**args).splits()
    assert all(before[part].fingerprint != after[part].fingerprint for part in before)
    if path.suffix == ".jpg":
        shutil.rmtree(path.parent)
    else:
        path.unlink()
    assert kind.module(**args).train is after["train"]  # files that are gone change nothing


def counted(out: str, kind: str) -> int:
    """What a report says after the name of an oddity, summed over the splits."""
    return sum(int(number) for number in re.findall(rf"\b{kind} (\d+)", out))
