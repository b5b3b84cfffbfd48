"""Runs conformance vectors through the project's own functions: python -m tests.conformance FILE.json ...

A file maps a method to its vectors, each with inputs, hyperparams, expected numbers and a tolerance. Every vector is
printed as passed, failed or unsupported (a method or a number this project does not have). Exit code 1 if any failed,
2 if a file or one of its vectors cannot be used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from tests.conformance import (
    alternating,
    baselines,
    features,
    fusions,
    gradient,
    ogm_family,
    stages,
    y2026_mcr_to_mimo,
    y2026_miles_to_remix,
    y2026_pdmp_to_aug,
)
from tests.conformance.common import Checker, Unsupported, Vector, tensor, vectors

__all__ = ["check", "vectors"]

CHECKERS: dict[str, Checker] = {
    **baselines.CHECKERS,
    **ogm_family.CHECKERS,
    **gradient.CHECKERS,
    **alternating.CHECKERS,
    **features.CHECKERS,
    **stages.CHECKERS,
    **fusions.CHECKERS,
    **y2026_mcr_to_mimo.CHECKERS,
    **y2026_miles_to_remix.CHECKERS,
    **y2026_pdmp_to_aug.CHECKERS,
}


def flat(values: Any) -> Iterator[float]:
    """The numbers of a list of lists, which may differ in length."""
    if isinstance(values, list):
        for value in values:
            yield from flat(value)
    else:
        yield values


def differences(found: Any, expected: Any, tolerance: float, where: str = "") -> Iterator[str]:
    """What of ``expected`` is not found, or is off by more than the tolerance; what is found besides is ignored."""
    if isinstance(expected, list) and any(isinstance(x, Mapping) for x in expected):
        found, expected = dict(enumerate(found)), dict(enumerate(expected))
    if isinstance(expected, Mapping):
        for name, value in expected.items():
            if str(name).startswith(("wrong", "naive")):  # what a faulty implementation would give
                continue
            if name not in found:
                yield f"{where}{name}: nothing here computes it"
            else:
                yield from differences(found[name], value, tolerance, f"{where}{name}.")
        return
    if expected is None or found is None:
        if found is not expected:
            yield f"{where.rstrip('.')}: found {found}, expected {expected}"
        return
    if any(isinstance(x, str) for x in flat(expected)):
        if found != expected:
            yield f"{where.rstrip('.')}: found {found}, expected {expected}"
        return
    a, b = torch.as_tensor(found, dtype=torch.float64), tensor(list(flat(expected)))
    if a.numel() != b.numel() or not torch.isclose(a.flatten(), b.flatten(), rtol=0, atol=tolerance).all():
        yield f"{where.rstrip('.')}: found {a.tolist()}, expected {b.tolist()}"


def check(method: str, vector: Vector) -> tuple[str, str]:
    """("passed" | "failed" | "unsupported" | "unusable", why)."""
    if method not in CHECKERS:
        return "unsupported", f"no {method} here"
    try:
        found = CHECKERS[method](vector)
        off = list(differences(found, vector["expected"], vector.get("tolerance", 1e-6)))
    except Unsupported as error:
        return "unsupported", str(error)
    except Exception as error:  # an input that is missing, or is of another kind, may end a checker in any way
        return "unusable", f"{type(error).__name__}: {error}"
    return ("failed", "; ".join(off)) if off else ("passed", "")
