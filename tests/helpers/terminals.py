"""Commands on a terminal: a pseudo-terminal of the system, of a size that the test chooses."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120  # after which a command is ended


def on_terminal(words: Sequence[str], rows: int, columns: int, keys: bytes = b"", **env: str) -> tuple[int, str]:
    """Carry out ``python -m WORDS`` on a terminal.

    Args:
        words: The module and its arguments.
        rows: Of the terminal.
        columns: Of the terminal.
        keys: What is typed as soon as anything is shown.
        env: Further variables of the environment; COLUMNS, LINES and the pagers of this process are not passed on.

    Returns:
        The exit code, and what the terminal was sent, with line ends as in a file.
    """
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    inherited = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "PAGER", "MANPAGER", "LESS")}
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env={**inherited, "TERM": "xterm", **env},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    shown, end = b"", time.monotonic() + SECONDS
    try:
        while time.monotonic() < end:
            try:
                part = os.read(screen, 65536)
            except OSError:  # Linux: the last process has closed the terminal
                break
            if not shown and keys:
                os.write(screen, keys)
            shown += part
            if not part:
                break
        code = process.wait(max(1.0, end - time.monotonic()))
    finally:
        process.kill()
        process.wait()
        os.close(screen)
    return code, shown.decode().replace("\r\n", "\n")
