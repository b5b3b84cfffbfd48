"""What listens to runs: progress displays, dashboards, logs. None of them can change a run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Protocol

from benchmarks.runner.events import Event


class Callback(Protocol):
    """Anything that wants to know what happens in runs.

    A callback may fail: the failure is reported once, the callback gets no further event, and the runs go on.
    """

    def on(self, event: Event) -> None:
        """Handle one event."""

    def close(self) -> None:
        """Finish writing; no further event comes."""


class Callbacks:
    """Passes every event on to several callbacks, in their order.

    Args:
        callbacks: Those to pass events to.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = list(callbacks)

    def on(self, event: Event) -> None:
        for callback in list(self._callbacks):
            try:
                callback.on(event)
            except Exception as error:  # whatever a dashboard raises must not end a run
                self._callbacks.remove(callback)
                _report(callback, error)

    def close(self) -> None:
        for callback in self._callbacks:
            try:
                callback.close()
            except Exception as error:  # as above
                _report(callback, error)


def _report(callback: Callback, error: Exception) -> None:
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    print(f"warning: {type(callback).__name__} failed and is switched off: {text}", file=sys.stderr, flush=True)
