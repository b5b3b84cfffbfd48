"""Commands over data so small that a test can carry out many of them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.__main__ import main
from benchmarks.config.run_config import FILES
from benchmarks.config.user_files import KINDS
from benchmarks.executors import local

FORKSERVER = local.FORKSERVER  # one per process of pytest: it has imported torch
ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "dataset_args.num_train=128",
    "dataset_args.num_val=64",
    "dataset_args.num_test=64",
    "batch_size=32",
    "encoder_args.audio.widths=[8, 8]",
    "encoder_args.visual.widths=[8, 8]",
]


def command(verb: str, *settings: str, folder: Path, more: tuple[str, ...] = ()) -> list[str]:
    """A command line over small data, with its results and checkpoints below ``folder``."""
    small = [s.replace("=[", "=[[").replace("]", "]]") if verb == "grid" else s for s in SMALL]  # a list is an axis
    places = ["--results", str(folder / "results"), "--work", str(folder / "work")]
    return [sys.executable, *more, "-m", "benchmarks", verb, *small, *settings, *places]


def run_process(words: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    """Carry out a command line in a process of its own, which costs some seconds of imports."""
    environment = {**os.environ, "WANDB_MODE": "disabled", **env}
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=240, env=environment)


def run_program(text: str, folder: Path, seconds: float) -> str:
    """Run the Python of a page in a process that has the repository on its path and nothing else of this one.

    Args:
        text: The program.
        folder: Where it is written and run.
        seconds: After how long it is ended.

    Returns:
        What it prints.
    """
    (folder / "page.py").write_text(text, "utf-8")
    done = subprocess.run(
        [sys.executable, "page.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=seconds,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_here(words: list[str]) -> subprocess.CompletedProcess[str]:
    """Carry out a command line of the benchmarks in this process, where everything is imported already.

    Args:
        words: As ``command`` makes them, starting with Python.

    Returns:
        Its exit code and what it printed. Its workers are processes as ever.
    """
    assert words[1:3] == ["-m", "benchmarks"], words
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err, forgotten_files():
        try:
            code = main(words[3:])
        except SystemExit as stop:  # argparse's
            code = int(stop.code or 0)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def workers(pid: int) -> list[int]:
    """The processes that make the runs of a command, which is process ``pid``: children of its fork server."""
    servers = [child for child in _children(pid) if b"forkserver" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return [child for server in servers for child in _children(server)]


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"PPid:\t{pid}\n" in (entry / "status").read_text():
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            continue
    return found


@contextmanager
def forgotten_files() -> Iterator[None]:
    """What is registered from a file within this context is forgotten at its end."""
    with ExitStack() as restored:
        for names in (FILES, *(registry for registry, _, _ in KINDS.values())):
            restored.enter_context(patch.dict(names))
        yield


def records(folder: Path) -> list[dict[str, Any]]:
    """What is recorded below ``folder``, without what two runs of one configuration may differ in."""
    found = [json.loads(path.read_text()) for path in sorted((folder / "results" / "records").rglob("*.json"))]
    return [{k: v for k, v in record.items() if k not in ("cost", "provenance", "digest")} for record in found]
