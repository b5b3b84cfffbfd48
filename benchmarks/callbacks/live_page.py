"""A results folder's page, written anew while its runs are made: a static file that a browser shows."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.runner.events import Event, RunFinished

LEAST_SECONDS = 5.0  # between two pages
MOST_SHARE = 0.05  # of the time that goes into pages: one of many runs takes seconds to write


class LivePage:
    """Writes a page at the start and after runs have ended, but not so often that it takes time from them.

    Args:
        write: Writes the page of what is done so far.
    """

    name = "live page"

    def __init__(self, write: Callable[[], None]) -> None:
        self._write_page = write
        self._outdated, self._next = True, 0.0
        self._write()

    def on(self, event: Event) -> None:
        """Write the page, if a run has ended since it was last written and that is not just now."""
        self._outdated |= isinstance(event, RunFinished)
        if self._outdated and time.monotonic() >= self._next:
            self._write()

    def close(self) -> None:
        """Nothing is open; the command itself writes the last page."""

    def _write(self) -> None:
        start = time.monotonic()
        self._write_page()
        end = time.monotonic()
        self._outdated, self._next = False, end + max(LEAST_SECONDS, (end - start) / MOST_SHARE)
