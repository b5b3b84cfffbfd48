"""Parts of a bench: each in a process of its own, with a share of the time, and with a reason for what it left out.

A process of its own, because settings of torch hold for a whole process, because an error on a GPU ends all that the
process could still do there, and because only a process can be ended when its time is up.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.executors.local import FORKSERVER
from datasets.core.files import write_atomic

Number = float | int | bool | str | None  # None: what this device cannot tell
Rows = Mapping[str, Mapping[str, Number]]  # row -> name of a column -> number
Measurements = Mapping[str, Callable[[], Rows]]  # what is measured -> how; in this order
EVERYTHING = "everything"
NO_TIME = "no time was left"
FOLDER = Path("results") / "bench"  # for the files of results


@dataclass(frozen=True)
class Part:
    """A part of a bench.

    Attributes:
        name: What it is called in the file of results.
        title: The heading of its table.
        share: Seconds that it may take. What it leaves over, later parts may use.
        plan: Returns its measurements, given what the bench was asked for. Nothing is measured yet.
    """

    name: str
    title: str
    share: float
    plan: Callable[[Any], Measurements]


@dataclass
class Outcome:
    """What came of a part.

    Attributes:
        rows: Row -> name of a column -> number, of all measurements that were made.
        left_out: Measurement that was not made -> why.
        seconds: How long the part took.
    """

    rows: dict[str, Mapping[str, Number]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def deadlines(parts: Sequence[Part]) -> list[float]:
    """When each part must have ended, in seconds since the first one began."""
    return [sum(part.share for part in parts[: number + 1]) for number in range(len(parts))]


def carry_out(part: Part, asked: Any, limit: float) -> Outcome:
    """Make a part's measurements, one after the other, until all are made or its time is up.

    Args:
        part: The part.
        asked: What its plan is made for. It is sent to another process.
        limit: Seconds after which the process is killed, with all that it has started.

    Returns:
        What was measured until then, and a reason for each measurement that was not.
    """
    began = time.monotonic()
    receiver, sender = FORKSERVER.Pipe(duplex=False)
    process = FORKSERVER.Process(target=_measure, args=(part, asked, sender))
    process.start()
    sender.close()
    outcome, planned, reason = Outcome(), [EVERYTHING], "its process ended"
    try:
        while True:
            if not receiver.poll(max(began + limit - time.monotonic(), 0)):
                reason = NO_TIME
                break
            message = receiver.recv()
            if isinstance(message, list):
                planned = message
            else:
                label, rows, error = message
                planned.remove(label)
                outcome.rows.update(rows)
                outcome.left_out.update({label: error} if error else {})
    except EOFError:  # the process has ended
        process.join()
        reason += f" with code {process.exitcode}"
    finally:
        if process.exitcode != 0:
            _kill(process.pid)
        process.join()
        receiver.close()
    outcome.left_out.update(dict.fromkeys(planned, reason))
    outcome.seconds = time.monotonic() - began
    return outcome


def carry_out_all(
    parts: Sequence[Part], asked: Any, about: Mapping[str, Any], path: Path, console: Console, patience: float = 1
) -> dict[str, dict[str, Any]]:
    """Carry out the parts of a bench, print each and write it.

    Args:
        parts: The parts.
        asked: What their plans are made for.
        about: What the file has beside the measurements.
        path: A JSON file, which is replaced after each part, so that a bench that is ended keeps them.
        console: Where tables are printed.
        patience: By what the shares of the parts are multiplied.

    Returns:
        The outcome of each part by its name, as plain JSON.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    outcomes, began = {}, time.monotonic()
    for part, end in zip(parts, deadlines(parts), strict=True):
        outcome = carry_out(part, asked, began + end * patience - time.monotonic())
        outcomes[part.name] = asdict(outcome)
        show(part, outcome, console)
        found = {**about, "seconds": time.monotonic() - began, "parts": outcomes}
        write_atomic(path, json.dumps(found, indent=1) + "\n")
    return outcomes


def file_name(device: str) -> str:
    """A device's name in letters, digits and hyphens: ``NVIDIA-H200``."""
    return re.sub(r"[^A-Za-z0-9]+", "-", device).strip("-")


def show(part: Part, outcome: Outcome, console: Console) -> None:
    """Print what came of a part: its rows, and what it left out."""
    table = Table(title=f"{part.title} ({outcome.seconds:.0f} s)")
    columns = list(dict.fromkeys(name for row in outcome.rows.values() for name in row))
    table.add_column("")
    for name in columns:
        table.add_column(name.replace("_", " "), justify="right")
    for label, row in outcome.rows.items():
        table.add_row(escape(label), *(escape(text(row.get(name))) for name in columns))
    if outcome.rows:
        console.print(table)
    for label, reason in outcome.left_out.items():
        console.print(f"left out of {part.name}: {escape(label)}: {escape(reason)}")


def text(number: Number) -> str:
    """A number as a table shows it; a hyphen where only CUDA can tell."""
    if number is None:
        return "-"
    if isinstance(number, bool):
        return "yes" if number else "no"
    if isinstance(number, float):
        return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"
    return str(number)


def _measure(part: Part, asked: Any, sender: Connection) -> None:
    """In the part's process: send the names of its measurements, then each one's name, rows and error."""
    os.setsid()  # what it starts belongs to its group, and ends with it
    try:
        plan = part.plan(asked)
    except Exception as error:
        sender.send((EVERYTHING, {}, _one_line(error)))
        return
    sender.send(list(plan))
    for label, measure in plan.items():
        try:
            rows, why = measure(), ""
        except Exception as error:  # of any kind: memory, an operation that a device lacks, a command that failed
            rows, why = {}, _one_line(error)
        sender.send((label, rows, why))
        gc.collect()  # an engine and its hooks hold each other, and with them memory of the device


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _kill(process: int | None) -> None:
    """End a process, which may have ended by itself, and all that it has started."""
    assert process is not None
    for kill in (os.killpg, os.kill):  # the second: it was so young that it led no group yet
        with contextlib.suppress(ProcessLookupError):
            kill(process, signal.SIGKILL)
