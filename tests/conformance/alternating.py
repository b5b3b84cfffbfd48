"""Methods that take turns, keep prototypes, or act between epochs."""

from __future__ import annotations

from typing import Any

import torch

from ogm.context import Context
from ogm.strategies import greedy, mla, pmr, reconboost
from tests.conformance.vectors import Checker, Unsupported, Vector, batch, given, scores, tensor


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


def alternation(vector: Vector) -> dict[str, Any]:
    """MLA's projection of the head's gradient, or its fusion at test time."""
    inputs, hyper = vector["inputs"], vector["hyperparams"]
    if "logits" in inputs:
        logits = {m: tensor(z) for m, z in inputs["logits"].items()}
        there = torch.ones(len(logits), len(next(iter(logits.values()))), dtype=torch.bool)
        for i, m in enumerate(logits):
            there[i] = torch.tensor(inputs.get("present", {}).get(m, [True] * there.shape[1]), dtype=torch.bool)
        weight = dict(zip(logits, mla.trust(logits, there), strict=True))
        return {
            "entropy": {m: mla.entropy(z) for m, z in logits.items()},
            "weight": weight,
            "fused": mla.fused(logits, there),
        }
    if "P" not in inputs:
        raise Unsupported("no projection and no logits among the inputs")
    before, mean, grad = tensor(inputs["P"]), tensor(inputs["mean_feature"]), tensor(inputs["head_grad"])
    ridge = inputs.get("alpha", hyper.get("alpha"))
    free, fro = (mla.without(before, mean, ridge, how) for how in ("none", "fro"))  # type: ignore[arg-type]
    return {
        "P_rls": free,
        "P_fro": fro,
        "grad_unnormalised": mla.projected(grad, free),
        "grad_fro": mla.projected(grad, fro),
    }


def boosting(vector: Vector) -> dict[str, Any]:
    inputs, hyper = vector["inputs"], vector["hyperparams"]
    if "current_logits" in inputs:
        current, rest = tensor(inputs["current_logits"]), tensor(inputs["rest_logits"])
        some, rate = batch(inputs["labels"]), hyper.get("boost_rate", inputs.get("boost_rate", 1.0))
        everybody = torch.ones(1, len(rest), dtype=torch.bool)
        right = reconboost.true_probability(reconboost.ensemble({"rest": rest}, everybody, rate), some.label)
        method = reconboost.ReconBoost(**given(vector, "weight1", "weight2"))
        weight = reconboost.boosting_weights(right, method.weight1, method.weight2, current.shape[1])
        loss = Context().mean(weight * method.criterion(current, some.label))
        return {"loss": loss, "rest_true_prob": right, "weight": weight}
    logits = {m: tensor(z) for m, z in inputs["logits"].items()}
    there = torch.ones(len(logits), len(next(iter(logits.values()))), dtype=torch.bool)
    rate = inputs.get("boost_rate", hyper.get("boost_rate", 1.0))
    return {"fused": reconboost.ensemble(logits, there, rate)}


def turns(vector: Vector) -> dict[str, Any]:
    """Greedy's sequence of modes, the running means of its gates, and what its speeds lead to."""
    inputs = vector["inputs"]
    if "batches" in inputs:
        mean, found = torch.zeros(len(inputs["batches"][0][0]), dtype=torch.float64), dict[str, Any]()
        for steps, gates in enumerate(inputs["batches"]):
            mean = greedy.running_mean(mean, steps, tensor(gates).mean(0))
            found[f"after_{steps + 1}"] = mean
        return found
    if "steps" not in inputs:
        raise Unsupported("no steps and no gates among the inputs")
    method = greedy.Greedy(**given(vector, "epsilon", "window"))
    d = inputs["d_when_evaluated"]
    each = d if isinstance(d, list) else [d] * inputs["steps"]
    held, count, modes = torch.tensor(-1), torch.tensor(0), []
    for now in each:
        modes.append(int(held))
        held, count = greedy.turn(held, count, tensor([now, -now]), method.epsilon, method.window)
    return {"curated_forward": [mode >= 0 for mode in modes], "caring": modes}


def over_ranks(vector: Vector) -> dict[str, Any]:
    """Prototypes and mean features from the sums and counts of several ranks."""
    inputs = vector["inputs"]
    if "feature_sum_per_rank" in inputs:
        counts = tensor(inputs["count_per_rank"])
        sums = torch.cat([tensor(inputs["feature_sum_per_rank"]), counts[:, None]], 1)
        return {"mean_feature": mla.mean_feature(sums.sum(0))}
    ranks = [inputs[name] for name in sorted(inputs) if name.startswith("rank")]
    sums = torch.stack([torch.cat([tensor(r["sum"]), tensor(r["count"])[:, None]], 1) for r in ranks]).sum(0)
    old = torch.zeros_like(sums[:, :-1])
    return {"prototype": pmr.blended(old, torch.zeros(len(old), dtype=torch.bool), sums, 0.0)}


CHECKERS: dict[str, Checker] = {
    "pmr": prototypes,
    "mla": alternation,
    "greedy": turns,
    "reconboost": boosting,
}
