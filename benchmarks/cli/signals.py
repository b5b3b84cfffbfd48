"""Signals that ask the program to end are handled as ctrl-C is."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


class Terminated(KeyboardInterrupt):
    """The program was asked to end by a signal other than ctrl-C's.

    Args:
        number: The signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def raise_on_signals() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP raise ``Terminated``, unless the program was started to ignore them (nohup)."""

    def stop(number: int, frame: object) -> None:
        raise Terminated(number)

    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)}
    replaced = [n for n, handler in handlers.items() if handler == signal.SIG_DFL]
    for number in replaced:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, signal.SIG_DFL)
