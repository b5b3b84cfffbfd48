"""Raw files before they are decoded: what is there, what is missing, what only pretends to be media."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasets.errors import DataError, MissingMediaError


def refuse_pointer(path: Path, kind: type[DataError]) -> None:
    """Raises ``kind`` for an empty file, and for the three lines of text that git lfs leaves where a file should be."""
    try:
        with path.open("rb") as file:
            head = file.read(200)
    except OSError as error:
        raise kind(f"{path}: cannot be read ({error.strerror}); get the file again") from error
    if not head:
        raise kind(f"{path}: the file has 0 bytes; get it again")
    if head.startswith(b"version https://git-lfs"):
        raise kind(f"{path}: a git-lfs pointer, not the file itself; run `git lfs pull` in the clone it came from")


def refuse_missing(names: Sequence[Path | str], listed: int, allowed: int, how: str) -> None:
    """Raises MissingMediaError, with counts and the first ten names, for more than ``allowed`` missing files."""
    if len(names) > allowed:
        shown = ", ".join(map(str, names[:10])) + (", ..." if len(names) > 10 else "")
        raise MissingMediaError(f"{len(names)} of {listed} are missing: {shown}; {how}")
