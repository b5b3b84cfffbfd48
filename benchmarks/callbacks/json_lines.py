"""A log of everything that happens, one JSON object per line, for tools that follow a running grid."""

from __future__ import annotations

import json
import time
from pathlib import Path

from benchmarks.runner.events import Event, StepDone, as_json


class JsonLinesLog:
    """Appends every event but single steps to a file.

    Each line holds ``time`` (seconds since 1970), ``event`` (the event's class) and the event's fields. The file is
    opened at once, so that a wrong path is known before anything runs, and each line is flushed, so that ``tail -f``
    shows what happens now.

    Args:
        path: The file; its folder is made.

    Raises:
        OSError: The file cannot be opened.
    """

    name = "log of events"

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")

    def on(self, event: Event) -> None:
        """Append the event."""
        if not isinstance(event, StepDone):
            self._file.write(json.dumps({"time": time.time(), **as_json(event)}, sort_keys=True) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
