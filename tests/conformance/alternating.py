"""Methods that take turns, keep prototypes, or act between epochs."""

from __future__ import annotations

from tests.conformance.vectors import Checker

CHECKERS: dict[str, Checker] = {}
