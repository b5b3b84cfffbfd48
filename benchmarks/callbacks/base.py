"""What listens to runs: progress displays, dashboards, logs. None of them can change a run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Protocol

from benchmarks.runner.events import Event


class Callback(Protocol):
    """Anything that wants to know what happens in runs.

    It gets the events of every run of a grid, those of several runs at a time mixed; each event has its run's key. A
    callback may fail: the failure is reported once, the callback gets no further event, and the runs go on.
    """

    name: str  # what a report of its failure calls it

    def on(self, event: Event) -> None:
        """Handle one event."""

    def close(self) -> None:
        """Finish writing; no further event comes."""


class Callbacks:
    """Passes every event on to several callbacks, in their order.

    Usable as a context, which closes them at its end.

    Args:
        callbacks: Those to pass events to.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = list(callbacks)

    def __enter__(self) -> Callbacks:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def on(self, event: Event) -> None:
        """Let each callback handle an event. One that fails is closed and left out from then on."""
        for callback in list(self._callbacks):
            try:
                callback.on(event)
            except Exception as error:  # whatever a dashboard raises must not end a run
                self._callbacks.remove(callback)
                _report(callback, error)
                with contextlib.suppress(Exception):
                    callback.close()

    def close(self) -> None:
        """Close every callback."""
        while self._callbacks:
            callback = self._callbacks.pop(0)
            try:
                callback.close()
            except Exception as error:  # as above
                _report(callback, error)


def _report(callback: Callback, error: Exception) -> None:
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    line = f"warning: {callback.name}: {text}. Going on without it; our own records are complete."
    print(line, file=sys.stderr, flush=True)
