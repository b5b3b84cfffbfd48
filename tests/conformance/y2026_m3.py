"""Methods of 2025 and 2026: PDMP, UDI, BSS, AMSS, AUG. Every vector names its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ogm.parts.teachers import best_modality
from ogm.strategies import pdmp
from tests.conformance.common import Checker, Unsupported, Vector


def pdmp_factors(vector: Vector) -> dict[str, Any]:
    accuracy = vector["inputs"]["accuracy"]
    dominant = best_modality(accuracy, vector["inputs"].get("entropy") or dict.fromkeys(accuracy, 0.0))
    kappa = vector["hyperparams"]["kappa"]
    return {"dominant": dominant, "factor": pdmp.prioritise(list(accuracy), dominant, kappa)}


KINDS: dict[str, Callable[[Vector], dict[str, Any]]] = {
    "pdmp_factors": pdmp_factors,
}


def by_kind(vector: Vector) -> dict[str, Any]:
    kind = vector.get("kind", "")
    if kind not in KINDS:
        raise Unsupported(f"no vectors of the kind {kind!r} here")
    return KINDS[kind](vector)


CHECKERS: dict[str, Checker] = dict.fromkeys(("pdmp",), by_kind)
