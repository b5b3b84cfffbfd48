"""OGM, OGM-GE, the weak-modality boost, and what decides about them over several ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.imbalance import discrepancy_ratios, lag_ratios, true_class_scores
from ogm.parts.gradients import ScaledUpdate, gradient_noise, modulation_coefficients
from ogm.strategies.vanilla import Vanilla
from ogm.strategies.weak_boost import boost_factors, limit_norms
from ogm.types import Output
from tests.conformance.alternating import over_ranks
from tests.conformance.common import Checker, Unsupported, Vector, batch, given, scores, tensor


def ogm(vector: Vector) -> dict[str, Any]:
    sums = scores(vector)
    rule = given(vector, "multi").get("multi", "pairwise_mean")
    rho = discrepancy_ratios(sums, rule)
    k = modulation_coefficients(rho, vector["hyperparams"]["alpha"], **given(vector, "variant"))
    return {"score_sum": sums, "rho": rho, "k": dict(zip(rho, k, strict=True))}


def ogm_ge(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    grad, normal = (tensor(inputs[name]).view(inputs["grad_shape"]) for name in ("grad", "standard_normal"))
    factors = {"dominant": "k_dominant", "weak": "k_weak", "result": "k"}
    scaled = vector["hyperparams"].get("noise") == "scaled_std"

    def noise(drawn: Tensor) -> Tensor:
        """The noise of one parameter, where ``drawn`` is what the generator has drawn for it."""
        parameter, ctx = nn.Parameter(torch.zeros_like(grad)), Context()
        parameter.grad = grad.clone()
        ctx.fill_with_noise = lambda x: x.view(-1)[: grad.numel()].copy_(drawn.flatten())  # type: ignore[method-assign]
        return gradient_noise({"audio": [parameter]}, batch([0]), ctx)["audio"][0]

    def edited(k: float) -> Tensor:
        return k * grad + noise(normal) * (k if scaled else 1.0)

    sigma = noise(torch.ones_like(grad)).flatten()[0]
    return {"sigma": sigma, **{name: edited(inputs[k]) for name, k in factors.items() if k in inputs}}


def weak_boost(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    if "grad_weak" in inputs:
        norms = {m: tensor(inputs[f"grad_{m}"]).norm() for m in ("weak", "strong")}
        k = limit_norms({"weak": tensor(inputs["k"]), "strong": tensor(1.0)}, norms, vector["hyperparams"]["parity"])
        return {"k_effective": k["weak"], "grad_weak_new": k["weak"] * tensor(inputs["grad_weak"])}
    hyper = vector["hyperparams"]
    sums = scores(vector)
    rho = lag_ratios(sums, hyper.get("rho_max", 10.0))
    extra = given(vector, "dead_band")
    k = boost_factors(rho, hyper.get("alpha", 0.3), hyper.get("form", "step"), hyper.get("k_max", 2.0), **extra)
    return {"score_sum": sums, "rho": rho, "k": dict(zip(rho, k, strict=True))}


def modulation_target(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    theta = nn.Parameter(tensor(inputs["theta_before"]))
    update = ScaledUpdate([theta], inputs["k"])
    theta.data.copy_(tensor(inputs["theta_after_optimizer"]))
    update.apply()
    return {"theta": theta.detach()}


def data_parallel(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    if "true_class_prob_per_rank" in inputs:
        return ogm(vector)
    if "rank0" in inputs or "feature_sum_per_rank" in inputs:
        return over_ranks(vector)
    if "shards" not in inputs:
        raise Unsupported("a method that this project does not have")
    label, logits = torch.tensor(inputs["labels"]), tensor(inputs["joint_logits"])
    unimodal_logits = {name.removeprefix("u_"): tensor(z) for name, z in inputs.items() if name.startswith("u_")}
    shards, everyone = inputs["shards"], len(label)
    contexts = [Context(share=len(rows) * len(shards) / everyone) for rows in shards]
    parts = [batch(label[rows].tolist()) for rows in shards]
    local = [
        true_class_scores({m: z[rows] for m, z in unimodal_logits.items()}, part, Context())
        for rows, part in zip(shards, parts, strict=True)
    ]
    total = {m: torch.stack([s[m] for s in local]).sum() for m in unimodal_logits}
    losses = [
        Vanilla().losses(Output(logits[rows]), part, Context())["fused"]
        for rows, part in zip(shards, parts, strict=True)
    ]
    first = next(iter(unimodal_logits))
    return {
        "local_scores": [[float(s[m]) for m in unimodal_logits] for s in local],
        f"global_rho_{first}": discrepancy_ratios(total)[first],
        "local_ce": torch.stack(losses),
        "global_ce": Vanilla().losses(Output(logits), batch(inputs["labels"]), Context())["fused"],
        "per_rank_loss_for_mean_allreduce": torch.stack([c.scale(x) for c, x in zip(contexts, losses, strict=True)]),
    }


CHECKERS: dict[str, Checker] = {
    "ogm": ogm,
    "ogm_ge": ogm_ge,
    "weak_boost": weak_boost,
    "modulation_target": modulation_target,
    "data_parallel": data_parallel,
}
