"""Methods that edit gradients or weigh losses at every step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.fusions.concat import Concat
from ogm.context import Context
from ogm.imbalance import lag_ratios
from ogm.strategies.agm import (
    cumulative_mean,
    floored_ce,
    lead_ratios,
    modulation_factors,
    scale_backward,
    shapley_responses,
)
from ogm.strategies.cggm import direction_term, others_share
from ogm.strategies.equal_weight_multiloss import EqualWeightMultiloss
from ogm.strategies.inforeg import pull_strengths, relative_growth
from ogm.strategies.mlb import pace_factors
from ogm.strategies.mmpareto import combine_gradients
from ogm.strategies.mses import initial_stopping_state, smooth_losses, update_stopping_state
from ogm.strategies.mslr import accuracy_quotients
from ogm.strategies.uncertainty_weighting import weighted_loss
from ogm.strategies.vanilla import Vanilla
from ogm.types import Output
from tests.conformance.common import Checker, Unsupported, Vector, batch, given, scores, tensor
from tests.conformance.fusions import filled


def row(by_modality: dict[str, Any]) -> Tensor:
    """(M,) the numbers of {modality: number}."""
    return tensor(list(by_modality.values()))


def named(values: Tensor, like: Any) -> dict[str, float]:
    return dict(zip(like, values.tolist(), strict=True))


def mmpareto(vector: Vector) -> dict[str, Any]:
    joint, own = ([tensor(g) for g in vector["inputs"][f"grad_{side}"]] for side in ("multimodal", "unimodal"))
    (final,), cosine, weight = combine_gradients([joint], [own], vector["hyperparams"]["gamma"])
    found = {"cosine": cosine[0], "weight_multimodal": weight[0], "weight_unimodal": 1 - weight[0]}
    return {**found, "final": [x for g in final for x in g.flatten().tolist()]}


def mlb(vector: Vector) -> dict[str, Any]:
    inputs, hyper = vector["inputs"], vector.get("hyperparams", {})
    if "fused" in inputs:
        if set(hyper.get("weights", {"fused": 1}).values()) != {1}:
            raise Unsupported("losses of unequal weight")
        heads = {m: tensor(z) for m, z in inputs["unimodal"].items()}
        plan = EqualWeightMultiloss(heads="shared")
        losses = plan.losses(Output(tensor(inputs["fused"]), heads), batch(inputs["labels"]), Context())
        return {"loss": torch.stack(list(losses.values())).sum()}
    means = inputs.get("score_mean")
    sums = scores(vector) if means is None else {m: tensor(s) for m, s in means.items()}
    rho = lag_ratios(sums, torch.inf)
    k = pace_factors(rho, hyper.get("alpha", 0.8), hyper.get("beta", 2.0))
    return {"rho": rho, "k": dict(zip(rho, k, strict=True))}


def agm(vector: Vector) -> dict[str, Any]:
    inputs, hyper = vector["inputs"], vector.get("hyperparams", {})
    if "ce_scores" in inputs:
        return {"steps": agm_steps(inputs["ce_scores"], hyper["alpha"], hyper.get("cap", torch.inf))}
    if "true_class_prob" in inputs:
        logits = torch.stack([torch.logit(tensor([inputs["true_class_prob"]])), tensor([0.0])], 1)
        return {"ce": floored_ce(logits, torch.tensor([0]), **given(vector, "floor"))}
    kappa = {m: tensor(k) for m, k in hyper["kappa"].items()} if "kappa" in hyper else {}
    if "coalition_logits" in inputs and kappa:
        worth = {frozenset(s): tensor(z).requires_grad_() for s, z in inputs["coalition_logits"].items()}
        agm_loss(worth, kappa, inputs["labels"]).backward()  # type: ignore[no-untyped-call]
        grads = {"".join(m for m in kappa if m in s): z.grad for s, z in worth.items()}
        return {"grad": grads, **{f"grad_{s}": g for s, g in grads.items()}}
    if "features" in inputs and kappa:
        features = {m: tensor(f).requires_grad_() for m, f in inputs["features"].items()}
        fusion = Concat({m: f.shape[1] for m, f in features.items()}, len(inputs["bias"]))
        filled(fusion, {fusion.head: (inputs["weight"], inputs["bias"])})
        subsets = [frozenset(kappa), *(frozenset({m}) for m in kappa)]
        if len(kappa) != 2 or hyper.get("ablation", "feature") != "feature":
            raise Unsupported("other than two features set to zero")
        worth = {s: fusion(features, drop=set(kappa) - s) for s in subsets}
        agm_loss(worth, kappa, inputs["labels"]).backward()  # type: ignore[no-untyped-call]
        grads = {f"grad_feature_{m}": f.grad for m, f in features.items()}
        return {**grads, "grad_weight": fusion.head.weight.grad, "grad_bias": fusion.head.bias.grad}
    raise Unsupported("neither scores nor responses")


def agm_steps(ce_scores: list[dict[str, float]], alpha: float, cap: float) -> list[dict[str, Any]]:
    steps, running = [], torch.zeros(len(ce_scores[0]), dtype=torch.float64)
    for t, by_modality in enumerate(ce_scores, 1):
        ce = row(by_modality)
        found = {
            "r": lead_ratios(ce),
            "tau": lead_ratios(running),
            "kappa": modulation_factors(ce, running, alpha, cap),
        }
        running = cumulative_mean(running, ce, t)
        steps.append({name: named(x, by_modality) for name, x in (found | {"running": running}).items()})
    return steps


def agm_loss(worth: dict[frozenset[str], Tensor], kappa: dict[str, Tensor], labels: Any) -> Tensor:
    logits = scale_backward(worth[frozenset(kappa)], shapley_responses(worth, tuple(kappa)), kappa)
    return Vanilla().losses(Output(logits), batch(labels), Context())["fused"]


def mslr(vector: Vector) -> dict[str, Any]:
    by_modality, hyper = vector["inputs"]["val_acc_per_epoch"], vector["hyperparams"]
    init = row({m: hyper.get("init", {}).get(m, 1.0) for m in by_modality})
    past = torch.full((len(by_modality), hyper.get("memory", 5)), torch.nan, dtype=torch.float64)
    factors = [init]
    for now in torch.stack([tensor(x) for x in by_modality.values()], 1):
        factors.append(init * accuracy_quotients(past, now))
        past = torch.cat([past[:, 1:], now[:, None]], 1)
    during = torch.stack(factors[:-1], 1)
    return {
        "multiplier_during_epoch": dict(zip(by_modality, during.tolist(), strict=True)),
        "multiplier_next": named(factors[-1], by_modality),
    }


def mses(vector: Vector) -> dict[str, Any]:
    by_modality, hyper = vector["inputs"]["val_loss_per_epoch"], vector["hyperparams"]
    weight = hyper.get("previous_weight", 0.6)
    state, smooth = initial_stopping_state(len(by_modality)).double(), {m: [] for m in by_modality}  # type: ignore[var-annotated]
    for epoch, loss in enumerate(torch.stack([tensor(x) for x in by_modality.values()], 1)):
        for m, x, stopped in zip(
            by_modality, smooth_losses(state[0], loss, weight).tolist(), state[3].tolist(), strict=True
        ):
            smooth[m] += [x] if stopped < 0 else []  # who has stopped is not looked at any more
        state = update_stopping_state(state, loss, epoch, hyper["patience"], weight)
    ends = {m: None if x < 0 else x for m, x in named(state[3], by_modality).items()}
    best = named(state[2], by_modality)
    return {
        "result": {m: {"smoothed": smooth[m], "best_epoch": best[m], "stop_after_epoch": ends[m]} for m in by_modality}
    }


def cggm(vector: Vector) -> dict[str, Any]:
    inputs, hyper = vector["inputs"], vector.get("hyperparams", {})
    if "B" in inputs:
        return {"l_gm": direction_term(row(inputs["B"]), row(inputs["cosine"]))}
    now = row(inputs["acc_now"] if "acc_now" in inputs else inputs["delta"])
    gains = now - row(inputs["acc_prev"]) if "acc_prev" in inputs else now
    names = inputs["acc_now"] if "acc_now" in inputs else inputs["delta"]
    b = others_share(gains, **given(vector, "safe"))
    found = {"delta": gains, "B": b, "grad_scale": hyper.get("rho", 1.3) * b}
    return {name: named(x, names) for name, x in found.items()}


def inforeg(vector: Vector) -> dict[str, Any]:
    inputs, hyper = vector["inputs"], vector["hyperparams"]
    if "fisher_traces" in inputs:
        window = hyper.get("window", 10)
        traces = torch.cat([torch.zeros(window + 1, dtype=torch.float64), tensor(inputs["fisher_traces"])])
        ends = range(window + 2, len(traces) + 1)
        return {"k_after": torch.stack([relative_growth(traces[end - window - 1 : end]) for end in ends])}
    is_open = inputs.get("k", 1.0) > hyper.get("threshold", 0.05)
    by_modality = {m: tensor(s) for m, s in inputs["score"].items()}
    pull = pull_strengths(by_modality, hyper.get("beta0", hyper.get("beta")))
    strength = {m: x if is_open else tensor(0.0) for m, x in pull.items()}
    found: dict[str, Any] = {"strength": strength}
    for m, x in strength.items():
        if f"theta_{m}" in inputs:
            pulled = x * (tensor(inputs[f"theta_{m}"]) - tensor(inputs[f"theta0_{m}"]))
            found[f"grad_{m}"] = tensor(inputs[f"grad_{m}"]) + pulled
    return found


def uncertainty_weighting(vector: Vector) -> dict[str, Any]:
    losses = tensor(vector["inputs"]["losses_joint_a_v"]).requires_grad_()
    kind = vector.get("hyperparams", {}).get("kind", "classification")
    found: dict[str, Any] = {}
    if "s_log_var" in vector["inputs"]:
        s = tensor(vector["inputs"]["s_log_var"]).requires_grad_()
        total = weighted_loss(losses, s, kind).sum()
        weights, grad = torch.autograd.grad(total, [losses, s])
        found = {"total": total.detach(), "effective_weights": weights, "grad_s": grad}
        for other in ("classification", "regression_half", "unit"):
            found[f"total_{other}"] = weighted_loss(losses, s, other).sum().detach()
    low, high = torch.full_like(losses, -30.0).detach(), torch.full_like(losses, 30.0).detach()
    for _ in range(100):  # halve towards where the slope in s is none
        s = ((low + high) / 2).requires_grad_()
        (slope,) = torch.autograd.grad(weighted_loss(losses, s, kind).sum(), [s])
        low, high = torch.where(slope < 0, s.detach(), low), torch.where(slope < 0, high, s.detach())
    (weights,) = torch.autograd.grad(weighted_loss(losses, low, kind).sum(), [losses])
    best = weighted_loss(losses, low, kind).sum().detach()
    return {**found, "s_star": low, "weights_at_s_star": weights, "total_at_s_star": best}


CHECKERS: dict[str, Checker] = {
    "mmpareto": mmpareto,
    "mlb": mlb,
    "agm": agm,
    "mslr": mslr,
    "mses": mses,
    "cggm": cggm,
    "inforeg": inforeg,
    "uncertainty_weighting": uncertainty_weighting,
}
