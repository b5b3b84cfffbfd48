"""What wandb has on the disk of a run: a log in LevelDB's format, in which each record is a message of wandb's own."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 2**15  # bytes; a piece of a record does not cross the end of one
LONGEST_WAIT = 10.0  # seconds


def records(path: Path) -> Iterator[Any]:
    """The messages that are whole, in their order. What a kill or a full disk has torn off is left out."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    for content in _contents(path.read_bytes()):
        yield Record.FromString(content)


def is_whole(path: Path) -> bool:
    """Whether all of a run is in its file.

    wandb's own process writes the end of a run some milliseconds after it was told of it, and this waits for that.
    After a write that failed wandb writes nothing more to the file, even where there is space again: a file that has
    the end has all that comes before it.
    """
    last = time.monotonic() + LONGEST_WAIT
    while not (path.exists() and any(record.HasField("exit") for record in records(path))):
        if time.monotonic() > last:
            return False
        time.sleep(0.02)
    return True


def _contents(log: bytes) -> Iterator[bytes]:
    """The records of a log: blocks with pieces, each with a checksum, a length and a kind."""
    at, pieces = 7, b""
    while at + 7 <= len(log):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", log[at : at + 7])
        piece = log[at + 7 : at + 7 + length]
        if len(piece) < length or kind == 0:
            return
        at += 7 + length
        pieces = piece if kind in (1, 2) else pieces + piece
        if kind in (1, 4):
            yield pieces
