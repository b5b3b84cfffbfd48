"""One progress bar for everything that takes long: downloads, preparation, verification."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]  # what is being done, how much of it is done, how much there is


@contextmanager
def bar(show: bool = True) -> Iterator[Progress | None]:
    """A bar on standard error, while that is a terminal. ``show=False``: None, and silence."""
    if not show or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Rich

    with Rich(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as rich:
        task = rich.add_task("", total=None)

        def update(what: str, done: int, total: int) -> None:
            rich.update(task, description=what, completed=done, total=total or None)

        yield update
