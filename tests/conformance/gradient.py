"""Methods that edit gradients or weigh losses at every step."""

from __future__ import annotations

from tests.conformance.vectors import Checker

CHECKERS: dict[str, Checker] = {}
