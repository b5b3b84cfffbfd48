"""Methods that take turns, keep prototypes, or act between epochs."""

from __future__ import annotations

from typing import Any

import torch

from ogm.context import Context
from ogm.strategies import diagnosing_relearning as relearning
from ogm.strategies import gblend, greedy, mla, modality_valuation, pmr, reconboost
from tests.conformance.common import Checker, Unsupported, Vector, batch, given, scores, tensor


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
        found["fresh"] = pmr.blend_prototypes(old, nobody, sums, 0.0)
        found["blended"] = pmr.blend_prototypes(old, everybody, sums, vector["hyperparams"].get("momentum", 0.0))
        return found
    sums_of = scores(vector)
    rule = vector["hyperparams"].get("coef", "binary")
    beta = pmr.prototype_loss_weights(sums_of, rule)
    return {"score_sum": sums_of, "beta": beta, **{f"beta_{m}": b for m, b in beta.items()}}


def near_prototypes(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    features, centres = tensor(inputs["features"]).requires_grad_(), tensor(inputs["prototypes"])
    near = pmr.negative_distances(features, centres, torch.ones(len(centres), dtype=torch.bool))
    samples = batch(inputs["labels"])
    method = pmr.PMR(**given(vector, "alpha", "momentum"))
    loss = Context().mean(method.criterion(near, samples.label))
    loss.backward()
    probability = near.detach().softmax(1)
    return {
        "finite_gradient": torch.isfinite(features.grad).all() if features.grad is not None else False,
        "gradient": features.grad,
        "distance": -near.detach(),
        "q": probability,
        "score": probability.gather(1, samples.label[:, None]).sum(),
        "loss": loss.detach(),
    }


def alternation(vector: Vector) -> dict[str, Any]:
    """MLA's projection of the head's gradient, or its fusion at test time."""
    inputs, hyper = vector["inputs"], vector["hyperparams"]
    if "logits" in inputs:
        logits = {m: tensor(z) for m, z in inputs["logits"].items()}
        present = torch.ones(len(logits), len(next(iter(logits.values()))), dtype=torch.bool)
        for i, m in enumerate(logits):
            present[i] = torch.tensor(inputs.get("present", {}).get(m, [True] * present.shape[1]), dtype=torch.bool)
        weight = dict(zip(logits, mla.confidence_weights(logits, present), strict=True))
        return {
            "entropy": {m: mla.entropy(z) for m, z in logits.items()},
            "weight": weight,
            "fused": mla.confidence_weighted_sum(logits, present),
        }
    if "P" not in inputs:
        raise Unsupported("no projection and no logits among the inputs")
    before, mean, grad = tensor(inputs["P"]), tensor(inputs["mean_feature"]), tensor(inputs["head_grad"])
    ridge = inputs.get("alpha", hyper.get("alpha"))
    free, fro = (mla.update_projection(before, mean, ridge, how) for how in ("none", "fro"))  # type: ignore[arg-type]
    return {
        "P_rls": free,
        "P_fro": fro,
        "grad_unnormalised": mla.project_gradient(grad, free),
        "grad_fro": mla.project_gradient(grad, fro),
    }


def boosting(vector: Vector) -> dict[str, Any]:
    inputs, hyper = vector["inputs"], vector["hyperparams"]
    if "current_logits" in inputs:
        current, rest = tensor(inputs["current_logits"]), tensor(inputs["rest_logits"])
        samples, rate = batch(inputs["labels"]), hyper.get("boost_rate", inputs.get("boost_rate", 1.0))
        everybody = torch.ones(1, len(rest), dtype=torch.bool)
        others_probability = reconboost.true_probability(
            reconboost.boosted_sum({"rest": rest}, everybody, rate), samples.label
        )
        method = reconboost.ReconBoost(**given(vector, "weight1", "weight2"))
        weight = reconboost.boosting_weights(others_probability, method.weight1, method.weight2, current.shape[1])
        loss = Context().mean(weight * method.criterion(current, samples.label))
        return {"loss": loss, "rest_true_prob": others_probability, "weight": weight}
    logits = {m: tensor(z) for m, z in inputs["logits"].items()}
    present = torch.ones(len(logits), len(next(iter(logits.values()))), dtype=torch.bool)
    rate = inputs.get("boost_rate", hyper.get("boost_rate", 1.0))
    return {"fused": reconboost.boosted_sum(logits, present, rate)}


def turns(vector: Vector) -> dict[str, Any]:
    """Greedy's sequence of modes, the running means of its gates, and what its speeds lead to."""
    inputs = vector["inputs"]
    if "batches" in inputs:
        mean, found = torch.zeros(len(inputs["batches"][0][0]), dtype=torch.float64), dict[str, Any]()
        for steps, gates in enumerate(inputs["batches"]):
            greedy.move_means([mean], [tensor(gates).mean(0)], torch.tensor(steps + 1))
            found[f"after_{steps + 1}"] = mean.clone()
        return found
    if "steps" not in inputs:
        raise Unsupported("no steps and no gates among the inputs")
    method = greedy.Greedy(**given(vector, "epsilon", "window"))
    d = inputs["d_when_evaluated"]
    each = d if isinstance(d, list) else [d] * inputs["steps"]
    held, count, modes = torch.tensor(-1), torch.tensor(0), []
    for now in each:
        modes.append(int(held))
        held, count = greedy.next_rebalanced(held, count, tensor([now, -now]), method.epsilon, method.window)
    return {"curated_forward": [mode >= 0 for mode in modes], "caring": modes}


def valuation(vector: Vector) -> dict[str, Any]:
    """Shapley values and copies from what each subset got right; how many samples come back at the modality level."""
    inputs = vector["inputs"]
    if "correct" in inputs:
        phi, number = valued({frozenset(subset): float(right) for subset, right in inputs["correct"].items()})
        return {"phi": phi, "copies": number}
    if "n_train" in inputs:
        return returns(inputs, vector["hyperparams"])
    found = []
    for row in vector["expected"].get("rows", []):  # a truth table: its left half is the input
        correct = {name.removeprefix("correct_"): right for name, right in row.items() if name.startswith("correct_")}
        phi, number = valued({frozenset(subset): float(right) for subset, right in correct.items()})
        found.append(
            {**row, **{f"phi_{m}": float(x) for m, x in phi.items()}, **{f"copies_{m}": n for m, n in number.items()}}
        )
    if not found:
        raise Unsupported("no subsets and no means among the inputs")
    return {"rows": found}


def valued(correct: dict[frozenset[str], float]) -> tuple[dict[str, Any], dict[str, int]]:
    modalities = tuple(sorted(max(correct, key=len)))
    worth = {subset: tensor([len(subset) * right]) for subset, right in correct.items()} | {
        frozenset[str](): tensor([0.0])
    }
    phi = modality_valuation.contributions(worth, modalities)
    return phi, {m: int(modality_valuation.repetitions(x)) for m, x in phi.items()}


def returns(inputs: Any, hyper: Any) -> dict[str, Any]:
    mean = {name.removeprefix("mean_phi_"): x for name, x in inputs.items() if name.startswith("mean_phi_")}
    alpha, form = hyper.get("alpha", 1.0), hyper.get("func", "linear")
    values = tensor(list(mean.values()))
    p = {how: modality_valuation.resampled_share(values, alpha, how) for how in ("linear", "tanh", "square")}
    method = modality_valuation.ModalityValuation("modality", alpha=alpha, form=form)
    method.modalities = tuple(mean)
    repeated = method.repeated_samples(values.expand(inputs["n_train"], -1), Context())
    kept = [m for m, index in zip(mean, repeated, strict=True) if len(index)]
    return {
        "p": p[form],
        "p_tanh": p["tanh"],
        "p_square": p["square"],
        "resample_count": sum(map(len, repeated)),
        "kept_modality": kept[0] if kept else None,
    }


def relearn(vector: Vector) -> dict[str, Any]:
    """Purities, when encoders are pulled back, how far, and where to: whichever the inputs allow."""
    inputs, hyper = vector["inputs"], vector["hyperparams"]
    lam, found = hyper.get("lambda", hyper.get("lam", 3.0)), dict[str, Any]()
    if "clusters" in inputs:
        found["purity"] = relearning.purity(torch.tensor(inputs["labels"]), torch.tensor(inputs["clusters"]))
    if "epochs" in inputs:
        method = relearning.DiagnosingRelearning(
            period=hyper.get("reinit_epoch", 20), number=hyper.get("reinit_num", 3)
        )
        epochs = range(inputs["epochs"])
        found["reinit_after_epochs"] = [e for e in epochs if relearning.relearns_after(e, method.period, method.number)]
    if "purity_train" in inputs:
        gap = (tensor(inputs["purity_train"]) - tensor(inputs["purity_val"])).abs()
        found |= {"gap": gap, "strength": relearning.strength(gap, lam), "alpha": relearning.strength(gap, lam)}
    if "theta_init" in inputs:
        pull = tensor(inputs["alpha"]) if "alpha" in inputs else found["strength"]
        found["theta"] = relearning.mix_with_initial(tensor(inputs["theta"]), tensor(inputs["theta_init"]), pull)
    if not found:
        raise Unsupported("no clusters, epochs, purities or weights among the inputs")
    return found


def blending(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    if "ce" in inputs:
        losses = gblend.blend({k: tensor(x) for k, x in inputs["ce"].items()}, inputs["weights"])
        return {"loss": torch.stack(list(losses.values())).sum(), "terms": losses}
    gains = {k: gblend.gain_and_overfitting(gblend.Losses(**x)) for k, x in inputs["losses"].items()}
    info = {k: {"G": g, "O": o} for k, (g, o) in gains.items()}
    return {"info": info, "weights": gblend.blending_weights(gains, **given(vector, "eps"))}


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
    return {"prototype": pmr.blend_prototypes(old, torch.zeros(len(old), dtype=torch.bool), sums, 0.0)}


CHECKERS: dict[str, Checker] = {
    "pmr": prototypes,
    "mla": alternation,
    "greedy": turns,
    "gblend": blending,
    "diagnosing_relearning": relearn,
    "modality_valuation": valuation,
    "reconboost": boosting,
}
