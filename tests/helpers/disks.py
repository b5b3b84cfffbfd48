"""Small disks that a test fills or may not write to."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def disk(folder: Path, options: str) -> Iterator[Path]:
    """A disk in memory within this context; where this process may not mount anything, the test is skipped.

    It is taken away even while a process still has a file on it open: pytest cannot remove a folder in which a disk was
    left behind, and a later session would fail for that.

    Args:
        folder: Where; it must not exist.
        options: Of the mount, such as ``size=8k`` or ``ro``.
    """
    folder.mkdir(parents=True)
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
