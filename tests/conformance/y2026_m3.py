"""Methods of 2025 and 2026: PDMP, UDI, BSS, AMSS, AUG. Every vector names its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ogm.context import Context
from ogm.parts.teachers import best_modality
from ogm.strategies import pdmp, udi
from tests.conformance.common import Checker, Unsupported, Vector, tensor


def pdmp_factors(vector: Vector) -> dict[str, Any]:
    accuracy = vector["inputs"]["accuracy"]
    dominant = best_modality(accuracy, vector["inputs"].get("entropy") or dict.fromkeys(accuracy, 0.0))
    kappa = vector["hyperparams"]["kappa"]
    return {"dominant": dominant, "factor": pdmp.prioritise(list(accuracy), dominant, kappa)}


def with_gradient(values: Any) -> Tensor:
    return tensor(values).requires_grad_()


def udi_consistency(vector: Vector) -> dict[str, Any]:
    follower = with_gradient(vector["inputs"]["follower_logits"])
    loss = Context().mean(udi.consistency(tensor(vector["inputs"]["anchor_logits"]), follower))
    loss.backward()
    return {"loss": loss.detach(), "grad_follower": follower.grad}


def udi_complement(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    follower = with_gradient(inputs["follower"])
    mean, log_variance = with_gradient(inputs["mean"]), with_gradient(inputs["log_variance"])
    bound = udi.complement(follower, mean.detach(), log_variance.detach()).mean()
    fit = udi.estimator_loss(follower.detach(), mean, log_variance).mean()
    bound.backward(), fit.backward()
    return {
        "mutual_information": bound.detach(),
        "grad_follower": follower.grad,
        "estimator_loss": fit.detach(),
        "grad_mean": mean.grad,
        "grad_log_variance": log_variance.grad,
    }


def udi_weights(vector: Vector) -> dict[str, Any]:
    gradients = ([tensor(g) for g in vector["inputs"][f"grad_{x}"]] for x in ("cls", "con", "com"))
    return dict(zip(("con", "com"), udi.interaction_weights(*gradients), strict=True))


def udi_anchor(vector: Vector) -> dict[str, Any]:
    return {"anchor": best_modality(vector["inputs"]["accuracy"], vector["inputs"]["entropy"])}


KINDS: dict[str, Callable[[Vector], dict[str, Any]]] = {
    "pdmp_factors": pdmp_factors,
    "udi_consistency": udi_consistency,
    "udi_complement": udi_complement,
    "udi_weights": udi_weights,
    "udi_anchor": udi_anchor,
}


def by_kind(vector: Vector) -> dict[str, Any]:
    kind = vector.get("kind", "")
    if kind not in KINDS:
        raise Unsupported(f"no vectors of the kind {kind!r} here")
    return KINDS[kind](vector)


CHECKERS: dict[str, Checker] = dict.fromkeys(("pdmp", "udi"), by_kind)
