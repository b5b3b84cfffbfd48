"""Methods that take turns, keep prototypes, or act between epochs."""

from __future__ import annotations

from typing import Any

import torch

from ogm.context import Context
from ogm.strategies import pmr
from tests.conformance.vectors import Checker, Vector, batch, given, scores, tensor


def prototypes(vector: Vector) -> dict[str, Any]:
    """Class means, their blend with old ones, distances as logits, coefficients, losses: whichever is asked for."""
    inputs, found = vector["inputs"], dict[str, Any]()
    if "prototypes" in inputs:
        return near_prototypes(vector)
    if "features" in inputs:
        features, label = tensor(inputs["features"]), torch.tensor(inputs["labels"])
        classes = inputs.get("n_classes", int(label.max()) + 1)
        sums = pmr.class_sums(features, label, classes, torch.ones_like(label, dtype=torch.bool))
        old = tensor(inputs["old"]) if "old" in inputs else torch.zeros_like(sums[:, :-1])
        nobody, everybody = torch.zeros(classes, dtype=torch.bool), torch.ones(classes, dtype=torch.bool)
        found["fresh"] = pmr.blended(old, nobody, sums, 0.0)
        found["blended"] = pmr.blended(old, everybody, sums, vector["hyperparams"].get("momentum", 0.0))
        return found
    sums_of = scores(vector)
    rule = vector["hyperparams"].get("coef", "binary")
    beta = pmr.coefficients(sums_of, rule)
    return {"score_sum": sums_of, "beta": beta, **{f"beta_{m}": b for m, b in beta.items()}}


def near_prototypes(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    features, centres = tensor(inputs["features"]).requires_grad_(), tensor(inputs["prototypes"])
    near = pmr.nearness(features, centres, torch.ones(len(centres), dtype=torch.bool))
    some = batch(inputs["labels"])
    method = pmr.PMR(**given(vector, "alpha", "momentum"))
    loss = Context().mean(method.criterion(near, some.label))
    loss.backward()
    probability = near.detach().softmax(1)
    return {
        "finite_gradient": torch.isfinite(features.grad).all() if features.grad is not None else False,
        "gradient": features.grad,
        "distance": -near.detach(),
        "q": probability,
        "score": probability.gather(1, some.label[:, None]).sum(),
        "loss": loss.detach(),
    }


CHECKERS: dict[str, Checker] = {
    "pmr": prototypes,
}
