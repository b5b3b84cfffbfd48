"""Methods that edit gradients or weigh losses at every step."""

from __future__ import annotations

from typing import Any

from ogm.strategies.mmpareto import integrate
from tests.conformance.vectors import Checker, Vector, tensor


def mmpareto(vector: Vector) -> dict[str, Any]:
    joint, own = ([tensor(g) for g in vector["inputs"][f"grad_{side}"]] for side in ("multimodal", "unimodal"))
    final, cosine, weight = integrate(joint, own, vector["hyperparams"]["gamma"])
    found = {"cosine": cosine, "weight_multimodal": weight, "weight_unimodal": 1 - weight}
    return {**found, "final": [x for g in final for x in g.flatten().tolist()]}


CHECKERS: dict[str, Checker] = {
    "mmpareto": mmpareto,
}
