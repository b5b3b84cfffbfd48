"""Which build of torch ``make setup`` installs: the one for CPUs alone is a fraction of the one with CUDA.

``python benchmarks/torch_build.py auto`` prints ``cpu`` (requirements-cpu.txt) or ``cuda`` (requirements.txt), and one
line with the reason on the standard error stream. It runs before there is an environment: it needs nothing but Python.
"""

from __future__ import annotations

import platform
import queue
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILDS = ("cpu", "cuda")
SECONDS = 5.0  # for the server to answer


def main(wish: str) -> int:
    """Print the build and the reason. Returns the exit code."""
    if wish not in ("auto", *BUILDS):
        print(f"error: TORCH_BUILD={wish}: give cpu, cuda or auto", file=sys.stderr)
        return 2
    wheels = re.findall(r"^--find-links (\S+)", (ROOT / "requirements-cpu.txt").read_text("utf-8"), re.MULTILINE)
    build, reason = choose(wish, installed(ROOT / ".venv"), wheels[0])
    other = "cuda" if build == "cpu" else "cpu"
    name = {"cpu": "for CPUs alone", "cuda": "with CUDA"}[build]
    print(f"torch {name}: {reason} (the other one: make setup TORCH_BUILD={other})", file=sys.stderr)
    print(build)
    return 0


def choose(wish: str, present: str | None, wheels: str) -> tuple[str, str]:
    """The build, and why.

    Args:
        wish: ``cpu``, ``cuda``, or ``auto``: by what the machine has.
        present: The build of the environment that is there, which is kept; None without one.
        wheels: The address of the wheels for CPUs.
    """
    if wish != "auto":
        return wish, f"TORCH_BUILD={wish}"
    if present:
        return present, "the environment has it"
    if platform.system() != "Linux":
        return "cuda", f"on {platform.system()} there is one build for all machines"
    if has_gpu():
        return "cuda", "this machine has an NVIDIA GPU"
    if error := unreachable(wheels):
        return "cuda", f"this machine has no NVIDIA GPU, but {wheels} cannot be reached: {error}"
    return "cpu", "this machine has no NVIDIA GPU"


def installed(environment: Path) -> str | None:
    """The build that an environment was made with (before there was a choice: CUDA), or None where none is."""
    if not (environment / "bin" / "python").exists():
        return None
    note = environment / ".torch_build"
    return note.read_text("utf-8").strip() if note.exists() else "cuda"


def has_gpu() -> bool:
    """Whether an NVIDIA GPU is visible, as a device or (under Windows' Linux) to nvidia-smi."""
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return True
    query = shutil.which("nvidia-smi")
    return query is not None and subprocess.run([query, "-L"], capture_output=True, check=False).returncode == 0


def unreachable(address: str, seconds: float = SECONDS) -> str:
    """Why a server does not answer, or "" where it does. A look-up of its name that hangs is given up, too."""
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=seconds):
                answers.put("")
        except urllib.error.HTTPError as error:
            answers.put(f"{error.code} {error.reason}")
        except OSError as error:  # refused, unknown name, certificate
            answers.put(str(getattr(error, "reason", error)))

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=seconds)
    except queue.Empty:
        return f"no answer within {seconds:g} s"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
