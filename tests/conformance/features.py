"""Methods that act on features, logits and data."""

from __future__ import annotations

from tests.conformance.vectors import Checker

CHECKERS: dict[str, Checker] = {}
