"""Methods that act on features, logits and data."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.fusions.concat import Concat
from ogm.context import Context
from ogm.imbalance import discrepancy_ratios, true_class_scores
from ogm.parts.gradients import modulation_coefficients
from ogm.strategies.amco import AMCo, hidden_classes, prediction_shares, ramp
from ogm.strategies.cml import CML, confidence_rise
from ogm.strategies.lfm import LFM, hessian_vector_product, hypergradient, lookahead, scheduled_weight, step_weight
from ogm.strategies.mbsd import MBSD, pair_terms
from ogm.strategies.mmcosine import MMCosine, scaled_cosines
from ogm.strategies.opm import drop_features, drop_rates, dropped_share
from ogm.strategies.vanilla import Vanilla
from ogm.types import Output
from tests.conformance.common import Checker, Unsupported, Vector, batch, given, tensor
from tests.conformance.fusions import filled

Named = dict[str, Tensor]


def named(inputs: Mapping[str, Any], prefix: str) -> Named:
    """modality -> tensor, of the inputs called <prefix>_<modality>."""
    return {name.removeprefix(f"{prefix}_"): tensor(x) for name, x in inputs.items() if name.startswith(f"{prefix}_")}


def each(found: Mapping[str, Any], name: str, names: str) -> dict[str, Any]:
    """Both ways in which vectors write one number per modality: rho_a, rho_v, ... and rho or scores: {a, v}."""
    return {names: found, **{f"{name}_{m}": x for m, x in found.items()}}


def concat(inputs: Mapping[str, Any]) -> tuple[Concat, Named]:
    """The fusion of a vector with features h_*, weight W and, if it has one, bias b."""
    features = named(inputs, "h")
    fusion = Concat({m: f.shape[1] for m, f in features.items()}, len(inputs["W"]))
    filled(fusion, {fusion.head: (inputs["W"], inputs.get("b", [0.0] * len(inputs["W"])))})
    return fusion, features


def nothing(modalities: Iterable[str]) -> dict[str, nn.Module]:
    """Encoders for a method that is only asked about features or logits."""
    return {m: nn.Identity() for m in modalities}


def opm(vector: Vector) -> dict[str, Any]:
    inputs, samples = vector["inputs"], batch(vector["inputs"]["labels"])
    if "W" in inputs:
        fusion, features = concat(inputs)
        keep = {m: x > 0 for m, x in named(inputs, "mask").items()}
        theta = inputs["theta"] if "theta" in inputs else dropped_share(named(inputs, "q"), fusion.dims)
        rescale = vector["hyperparams"].get("rescale", True)
        seen = drop_features(features, keep, theta if rescale else 0.0)
        samples.weight = torch.stack(list(keep.values())).any(0).double()
        joint = fusion(seen)
        loss = Vanilla().losses(Output(joint), samples, Context())["fused"]
        shown = {f"h_{m}": h for m, h in seen.items()} | {f"h_{m}_masked": h for m, h in seen.items()}
        return {"kept": samples.weight, "theta": theta, "joint": joint, "logits": joint, "loss": loss, **shown}
    unimodal_logits = named(inputs, "u")
    sums = true_class_scores(unimodal_logits, samples, Context())
    rho = discrepancy_ratios(sums)
    q = drop_rates(rho, **{"q_base": 0.5, "lam": 0.5, **given(vector, "q_base", "lam")})
    found = {**each(sums, "score", "scores"), **each(rho, "rho", "rho"), **each(q, "q", "q")}
    if "dims" in inputs:
        found["theta"] = dropped_share(q, dict(zip(unimodal_logits, inputs["dims"], strict=True)))
        found["rescale"] = 1 / (1 - found["theta"])
    return found


def opm_ogm(vector: Vector) -> dict[str, Any]:
    found, alpha = opm(vector), vector["hyperparams"]["alpha"]
    k = {
        "cvpr": modulation_coefficients(found["rho"], alpha),
        "tpami": modulation_coefficients(found["rho"], alpha, "journal"),
    }
    return found | {f"k_{variant}": x for variant, x in k.items()}


def mmcosine(vector: Vector) -> dict[str, Any]:
    inputs, hyper = vector["inputs"], vector["hyperparams"]
    fusion, features = concat(inputs)
    own = scaled_cosines(features, fusion.head.weight, hyper["s"], **given(vector, "eps"))
    plan = MMCosine(hyper["s"]).attach(nothing(features), dims=fusion.dims, fusion=fusion)
    output = plan.replace_unimodal_logits(Output(fusion(features), features=features))
    losses = plan.losses(output, batch(inputs["labels"]), Context())
    return {**{f"u_{m}": u for m, u in own.items()}, "joint": output.logits, "loss": losses["fused"]}


def mbsd(vector: Vector) -> dict[str, Any]:
    inputs, samples = vector["inputs"], batch(vector["inputs"]["labels"])
    unimodal_logits = {m: u.requires_grad_() for m, u in named(inputs, "u").items()}
    plan = MBSD(**given(vector, "variant", "w_kl", "w_rs", "w_uni"))
    joint = (
        tensor(inputs["joint_logits"])
        if "joint_logits" in inputs
        else torch.stack(list(unimodal_logits.values())).sum(0)
    )
    losses = plan.losses(Output(joint, unimodal_logits), samples, Context())
    parts = {
        part: torch.stack([x for name, x in losses.items() if name.startswith(part)]).sum() for part in ("kl", "rs")
    }
    grads = torch.autograd.grad(parts["kl"] + parts["rs"], list(unimodal_logits.values()))
    pairs = [(m, n) for m, n in itertools.combinations(unimodal_logits, 2)]
    weights = {f"{m}{n}": pair_terms(unimodal_logits[m], unimodal_logits[n], samples.label).weight for m, n in pairs}
    return {
        "weights": next(iter(weights.values())) if len(pairs) == 1 else weights,
        "ce_joint": losses["fused"],
        **{f"ce_{m}": losses[f"unimodal/{m}"] for m in unimodal_logits},
        "loss_kl": parts["kl"],
        "loss_rs": parts["rs"],
        "total": torch.stack(list(losses.values())).sum(),
        **{f"grad_u_{m}": g for m, g in zip(unimodal_logits, grads, strict=True)},
    }


def cml(vector: Vector) -> dict[str, Any]:
    """Through a concat whose features are the vector's unimodal logits, each without its share of the bias."""
    inputs, hyper = vector["inputs"], vector["hyperparams"]
    if hyper.get("reduction", "sum") != "sum":
        raise Unsupported("a penalty other than the batch's sum")
    unimodal_logits, gone, samples = named(inputs, "u"), inputs["removal_order"], batch(inputs["labels"])
    features = {m: u - tensor(inputs["bias"]) / len(unimodal_logits) for m, u in unimodal_logits.items()}
    fusion = Concat({m: u.shape[1] for m, u in unimodal_logits.items()}, len(inputs["bias"]))
    filled(
        fusion,
        {fusion.head: (torch.cat([torch.eye(len(inputs["bias"]))] * len(unimodal_logits), 1).tolist(), inputs["bias"])},
    )
    plan = CML(**given(vector, "lam", "mask")).attach(nothing(unimodal_logits), dims=fusion.dims, fusion=fusion)
    ctx = Context()
    ctx.chance = lambda purpose: [*gone, *unimodal_logits].index(purpose.removeprefix("cml/")) / 99  # type: ignore[method-assign]
    losses = plan.losses(Output(fusion(features), unimodal_logits, features), samples, ctx)
    chain = [fusion(features, drop=gone[:k]) for k in range(len(gone) + 1)]
    ce = [Vanilla().losses(Output(x), samples, Context())["fused"] for x in chain]
    gaps = [confidence_rise(a, b, samples.label, plan.mask) for a, b in itertools.pairwise(chain)]
    hinges = [gap.clamp_min(0).sum() for gap in gaps]
    return {
        "ce_full": ce[0],
        "ce_reduced": ce[1],
        "ce_chain": torch.stack(ce),
        "signed_gaps": gaps[0],
        "rank_loss": hinges[0],
        "rank_losses": torch.stack(hinges),
        "total": torch.stack(list(losses.values())).sum(),
    }


def lfm(vector: Vector) -> dict[str, Any]:
    inputs, hyper = vector["inputs"], vector.get("hyperparams", {})
    if "theta" in inputs:
        return learned_weight(vector)
    if "labels" not in inputs:
        return weight_schedules(vector)
    unimodal_logits, samples = named(inputs, "u"), batch(inputs["labels"])
    joint = torch.stack(list(unimodal_logits.values()))
    joint = tensor(inputs["joint_logits"]) if "joint_logits" in inputs else joint.mean(0)
    gaps = {
        rule: LFM(align=rule).attach(nothing(unimodal_logits)).gap(Output(joint, unimodal_logits), samples, Context())
        for rule in ("mixture_to_branches", "true_js")
    }
    plan = LFM("learned", **given(vector, "align")).attach(nothing(unimodal_logits), num_samples=99)
    plan.w_cls = tensor(hyper["w_cls"])
    losses = plan.losses(Output(joint, unimodal_logits), samples, Context())
    return {
        "align_default": gaps["mixture_to_branches"],
        "align_true_js": gaps["true_js"],
        "ce_joint": Vanilla().losses(Output(joint), samples, Context())["fused"],
        "total": torch.stack(list(losses.values())).sum(),
    }


def weight_schedules(vector: Vector) -> dict[str, Any]:
    """Weights at some epochs of a run; which schedule, and which of the two weights, only the names can say."""
    known = {**vector["inputs"], **vector.get("hyperparams", {})}
    epochs = next((x for x in known.values() if isinstance(x, list)), None)
    length = next((x for x in known.values() if isinstance(x, int)), 200)
    found = {}
    for name, x in vector["expected"].items():
        schedule = "heuristic" if "heur" in name or "exp" in name else "fitted"
        ts = range(len(x)) if epochs is None else epochs
        w_cls = tensor([scheduled_weight(schedule, e, length) for e in ts])
        found[name] = 1 - w_cls if "align" in name else w_cls
    return found


def learned_weight(vector: Vector) -> dict[str, Any]:
    """One parameter, two quadratic losses a (theta - b)^2 written as text."""
    inputs, hyper = vector["inputs"], vector["hyperparams"]
    theta, w_align = tensor([inputs["theta"]]).requires_grad_(), tensor(inputs["w_align"])

    def loss(name: str, at: Tensor) -> Tensor:
        form = re.fullmatch(r"([\d.]+)\*\(?theta(?:-([\d.]+))?\)?\^2", inputs[name].replace(" ", ""))
        if form is None:
            raise Unsupported(f"a loss of the form {inputs[name]}")
        return (float(form[1]) * (at - float(form[2] or 0)).square()).sum()

    def slope(name: str, at: Tensor) -> Tensor:
        return torch.autograd.grad(loss(name, at), at)[0]

    cls, align, rate = slope("L_cls", theta), slope("L_align", theta), hyper["inner_lr"]
    ahead = lookahead([theta.detach()], [cls], [align], 1 - w_align, [rate])[0].requires_grad_()
    gradient = hypergradient([slope("L_cls", ahead)], [cls], [align], [rate])
    total = (1 - w_align) * loss("L_cls", theta) + w_align * loss("L_align", theta)
    return {
        "theta_lookahead": ahead,
        "hypergradient": gradient,
        "w_align_new": 1 - step_weight(1 - w_align, gradient, hyper["lr_alpha"]),
        "released_surrogate_gradient": hessian_vector_product(total, [theta], [cls]).mean(),
    }


def amco(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    if "labels" not in inputs:
        return mask_schedule(vector)
    unimodal_logits, samples = named(inputs, "u"), batch(inputs["labels"])
    share = prediction_shares(unimodal_logits, samples, Context())
    classes = len(inputs["mask"])
    plan = AMCo(**given(vector, "sigma", "eps")).attach(nothing(unimodal_logits), num_classes=classes).double()
    dependent = torch.stack(list(share.values())) > plan.sigma
    plan.dependent = torch.tensor([m == inputs["masked_modality"] for m in unimodal_logits])
    plan.mask = lambda ctx: tensor(inputs["mask"]) > 0  # type: ignore[method-assign]
    losses = plan.losses(plan.replace_unimodal_logits(Output(torch.zeros(()), unimodal_logits)), samples, Context())
    return {
        **{f"dependence_{m}": d for m, d in share.items()},
        "dependent": dependent.double(),
        "ce_joint": losses["fused"],
        **{f"ce_{m}": losses[f"unimodal/{m}"] for m in unimodal_logits},
        "total": torch.stack(list(losses.values())).sum(),
    }


def mask_schedule(vector: Vector) -> dict[str, Any]:
    """p_t and N at some points of a run; only the names can say which is which."""
    known = {**vector["inputs"], **vector.get("hyperparams", {})}
    classes = next(x for name, x in known.items() if name.lower() in ("c", "classes", "num_classes"))
    points = next(x for x in known.values() if isinstance(x, list))
    p = tensor([ramp(at, known.get("eps", 0.3)) for at in points])
    n = tensor([hidden_classes(at, known.get("eps", 0.3), classes) for at in points])
    return {name: p if name.lower() in ("pt", "p_t", "p", "ramp") else n for name in vector["expected"]}


CHECKERS: dict[str, Checker] = {
    "opm": opm,
    "opm_ogm": opm_ogm,
    "mmcosine": mmcosine,
    "mbsd": mbsd,
    "cml": cml,
    "lfm": lfm,
    "amco": amco,
}
