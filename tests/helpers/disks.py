"""Small disks that a test fills or may not write to."""

from __future__ import annotations

import subprocess
from pathlib import Path


def mounted(folder: Path, options: str) -> bool:
    """Make a folder and mount a disk in memory there.

    Args:
        folder: Where; it must not exist.
        options: Of the mount, such as ``size=8k`` or ``ro``.

    Returns:
        False where this process may not mount anything.
    """
    folder.mkdir(parents=True)
    try:
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    except FileNotFoundError:
        return False
    return made.returncode == 0
