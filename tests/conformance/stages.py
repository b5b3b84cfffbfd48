"""Methods in stages: teachers, distillation, pre-training."""

from __future__ import annotations

from tests.conformance.vectors import Checker

CHECKERS: dict[str, Checker] = {}
