"""Methods of 2025 and 2026 that change losses: MCR, DGL, MIDAS, TCMax, MIMO."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.fusions.concat import Concat
from models.fusions.sum import Sum
from ogm.context import Context
from ogm.losses import supervised_contrast
from ogm.parts.heads import add_parts
from ogm.strategies import mcr, midas, mimo, tcmax
from ogm.strategies.dgl import DGL, logits_through_constants
from ogm.types import Output
from tests.conformance.common import Checker, Unsupported, Vector, batch, given, tensor

Found = dict[str, Any]


def leaves(values: Mapping[str, Any]) -> dict[str, Tensor]:
    """modality -> a tensor whose gradient is asked for."""
    return {m: tensor(x).requires_grad_() for m, x in values.items()}


def gradients(loss: Tensor, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """modality -> gradient of a loss; zero where it does not depend on the input."""
    grads = torch.autograd.grad(loss, list(inputs.values()), allow_unused=True, retain_graph=True)
    return {m: torch.zeros_like(x) if g is None else g for (m, x), g in zip(inputs.items(), grads, strict=True)}


def by_kind(**checkers: Checker) -> Checker:
    """The checker of a method, from those of its kinds of vectors."""

    def check(vector: Vector) -> Found:
        if vector.get("kind") not in checkers:
            raise Unsupported(f"no kind {vector.get('kind')!r} here")
        return checkers[vector["kind"]](vector)

    return check


def concat(features: Mapping[str, Tensor], weight: Mapping[str, Any], bias: Any) -> Concat:
    """A concat fusion with these weights {m: (C, D_m)} and this bias (C)."""
    fusion = Concat({m: f.shape[1] for m, f in features.items()}, len(bias)).double()
    with torch.no_grad():
        fusion.head.weight.copy_(torch.cat([tensor(weight[m]) for m in features], 1))
        fusion.head.bias.copy_(tensor(bias))
    return fusion


# ---- MCR
def mcr_game(vector: Vector) -> Found:
    inputs, hyper = vector["inputs"], vector["hyperparams"]
    parts, label = leaves(inputs["parts"]), torch.tensor(inputs["label"])
    drawn = dict(zip(parts, torch.tensor(inputs["permutations"]).unbind(1), strict=True))
    permutations = {x: {m: drawn[m] for m in parts if m in x} for x in mcr.proper_subsets(list(parts))}
    counted = {x: mcr.counted_positions(p, label, None, hyper["pairs"]) for x, p in permutations.items()}
    loss, divergence = mcr.game_loss(parts, add_parts(parts), permutations, counted, hyper["game"], add_parts)
    method = mcr.MCR(**given(vector, "weight", "game", "pairs"))
    loss = method.weight * loss
    return {
        "loss": loss.detach(),
        "divergence": {"".join(m for m in parts if m in x): j for x, j in divergence.items()},
        "grad": gradients(loss, parts),
    }


def mcr_contrast(vector: Vector) -> Found:
    features = leaves(vector["inputs"]["features"])
    label = torch.tensor(vector["inputs"]["label"]).repeat(len(features))
    method = mcr.MCR(**given(vector, "temperature"))
    loss = supervised_contrast(torch.cat(list(features.values())), label, method.temperature)
    return {"loss": loss.detach(), "grad": gradients(loss, features)}


def mcr_bottleneck(vector: Vector) -> Found:
    inputs = vector["inputs"]
    features = leaves(inputs["features"])
    others = leaves({name: inputs[name] for name in ("logits", "w1", "w2")})
    loss = mcr.bottleneck_distance(others["logits"], features, others["w1"], others["w2"]).mean()
    found = {f"grad_{name}": g for name, g in gradients(loss, others).items()}
    return {"loss": loss.detach(), "grad_features": gradients(loss, features), **found}


def mcr_pairs(vector: Vector) -> Found:
    inputs = vector["inputs"]
    permutation, label = torch.tensor(inputs["permutation"]), torch.tensor(inputs["label"])
    counted = mcr.counted_positions({"first": permutation}, label, None, vector["hyperparams"]["pairs"])
    return {"rows": counted.nonzero()[:, 0].tolist() if counted.any() else None}


# ---- DGL
def dgl_step(vector: Vector) -> Found:
    """Everything that the method's losses give, through a fusion with the vector's weights."""
    inputs, hyper = vector["inputs"], vector["hyperparams"]
    features, names = leaves(inputs["features"]), list(inputs["features"])
    dims = {m: f.shape[1] for m, f in features.items()}
    biases = inputs["bias"]
    classes = len(biases[0])
    if hyper["fusion"] == "concat":
        fusion: Any = concat(features, inputs["weight"], *biases)
    else:
        fusion = {"sum": Sum}[hyper["fusion"]](dims, classes).double()
        with torch.no_grad():
            for m, bias in zip(names, biases, strict=True):
                fusion.head[m].weight.copy_(tensor(inputs["weight"][m])), fusion.head[m].bias.copy_(tensor(bias))
    method = DGL(**given(vector, "alpha"))
    method.attach({m: nn.Identity() for m in names}, dims=dims, num_classes=classes, fusion=fusion)
    losses = method.losses(Output(fusion(features), {}, features), batch(inputs["label"]), Context())
    torch.stack(list(losses.values())).sum().backward()
    heads = [fusion.head] if hyper["fusion"] == "concat" else [fusion.head[m] for m in names]
    columns = torch.cat([head.weight.grad for head in heads], 1).split(list(dims.values()), 1)
    alone = logits_through_constants(fusion, features, {})
    return {
        "loss_fused": losses["fused"].detach(),
        "loss_unimodal": {m: method.loss(z, batch(inputs["label"]), Context(), m).detach() for m, z in alone.items()},
        "unimodal_logits": {m: z.detach() for m, z in alone.items()},
        "grad_features": {m: f.grad for m, f in features.items()},
        "grad_weight": dict(zip(names, columns, strict=True)),
        "grad_bias": torch.stack([head.bias.grad for head in heads]),
    }


# ---- MIDAS
def midas_partner(vector: Vector) -> Found:
    label, uniform = torch.tensor(vector["inputs"]["label"]), tensor(vector["inputs"]["uniform"])
    return {"partner": midas.draw_partners(label, label, uniform)}


def midas_step(alpha: Mapping[str, Any], confidence: Tensor, answers: Tensor, vector: Vector) -> Found:
    """The step of alpha, from (M, N) confidences and log-probabilities."""
    of_model = midas.relative_confidence(answers).mean(1)
    method = midas.MIDAS(**given(vector, "eta", "update"))
    before = tensor(list(alpha.values()))
    step = midas.next_alpha(before, confidence.mean(1), of_model, method.eta, method.update)
    return {
        "weakest": list(alpha)[int(step.weakest)],
        "model_confidence": dict(zip(alpha, of_model, strict=True)),
        "delta": step.delta,
        "alpha_next": dict(zip(alpha, step.alpha, strict=True)),
    }


def midas_misaligned(vector: Vector) -> Found:
    inputs = vector["inputs"]
    features, label = leaves(inputs["features"]), torch.tensor(inputs["label"])
    names = list(features)
    fusion = concat(features, inputs["weight"], inputs["bias"])
    source = {m: torch.tensor(inputs["source"][m]) for m in names}
    anchor = torch.tensor(inputs["anchor"])
    known = [midas.true_log_probability(tensor(inputs["unimodal_logits"][m]), label) for m in names]
    confidence = midas.relative_confidence(midas.by_source(torch.stack(known, 1), source))
    hard = midas.hardness(features, source, anchor)
    mixed = fusion({m: features[m][source[m]] for m in names})
    answers = torch.stack([midas.true_log_probability(mixed, label[source[m]]) for m in names])
    alpha = {m: inputs["alpha"][m] for m in names}
    loss = midas.misaligned_losses(answers, confidence, hard, tensor(list(alpha.values()))).mean()
    soft = torch.zeros_like(mixed)
    for share, m in zip(confidence, names, strict=True):
        soft = soft.scatter_add(1, label[source[m]][:, None], share[:, None])
    return {
        "loss": loss.detach(),
        "confidence": dict(zip(names, confidence, strict=True)),
        "soft_label": soft.detach(),
        "hardness": hard,
        "mixed_logits": mixed.detach(),
        "grad_features": gradients(loss, features),
        **midas_step(alpha, confidence, answers.detach(), vector),
    }


def midas_alpha(vector: Vector) -> Found:
    inputs = vector["inputs"]
    mixed = tensor(inputs["mixed_logits"])
    answers = [midas.true_log_probability(mixed, torch.tensor(inputs["classes"][m])) for m in inputs["alpha"]]
    confidence = torch.stack([tensor(inputs["confidence"][m]) for m in inputs["alpha"]])
    return midas_step(inputs["alpha"], confidence, torch.stack(answers), vector)


# ---- TCMax
def tcmax_loss(logits: Tensor, labels: Any, partition: Tensor, drawn: int | None = None) -> Tensor:
    """The loss, from the fused logits (B, C) of the samples and the log-sum-exp of combinations."""
    own = logits.gather(1, torch.tensor(labels)[:, None])[:, 0].mean()
    return partition + tcmax.constant(tensor(len(labels)), drawn) - own


def tcmax_additive(vector: Vector) -> Found:
    parts, label = leaves(vector["inputs"]["parts"]), vector["inputs"]["label"]
    everybody = torch.ones(len(label), len(parts), dtype=torch.bool)
    loss = tcmax_loss(add_parts(parts), label, tcmax.additive_partition(parts, everybody))
    samples, classes = next(iter(parts.values())).shape
    in_paper = loss.detach() - math.log(samples ** (len(parts) - 1) * classes)
    return {"loss": loss.detach(), "loss_paper": in_paper, "grad": gradients(loss, parts)}


def tcmax_pairs(vector: Vector) -> Found:
    logits, label = tensor(vector["inputs"]["pair_logits"]).requires_grad_(), vector["inputs"]["label"]
    first, second = tcmax.all_pairs(len(label), logits.device)
    every = tcmax.combination_partition(logits[first, second], torch.ones(len(first), dtype=torch.bool))
    loss = tcmax_loss(logits.diagonal().T, label, every)
    return {"loss": loss.detach(), "grad": gradients(loss, {"all": logits})["all"]}


def tcmax_sampled(vector: Vector) -> Found:
    inputs = vector["inputs"]
    parts = leaves(inputs["parts"])
    chosen = {m: u[torch.tensor(inputs["picks"][m])] for m, u in parts.items()}
    drawn = len(next(iter(chosen.values())))
    every = tcmax.combination_partition(add_parts(chosen), torch.ones(drawn, dtype=torch.bool))
    loss = tcmax_loss(add_parts(parts), inputs["label"], every, drawn)
    return {"loss": loss.detach(), "grad": gradients(loss, parts)}


# ---- MIMO
def mimo_objective(vector: Vector) -> Found:
    inputs, method = vector["inputs"], mimo.MIMO(**given(vector, "lam", "mu"))
    names = list(inputs["loss_unimodal"])
    losses, fused = tensor(list(inputs["loss_unimodal"].values())), tensor(inputs["loss_fused"])
    value, sigma = mimo.penalty(losses, method.lam, method.mu)
    return {
        "loss": fused + value,
        "sigma": dict(zip(names, sigma, strict=True)),
        "weight_unimodal": dict(zip(names, method.lam * sigma, strict=True)),
        "weight_fused": 1.0,
    }


def mimo_logits(vector: Vector) -> Found:
    inputs, method = vector["inputs"], mimo.MIMO(**given(vector, "lam", "mu"))
    unimodal, fused = leaves(inputs["unimodal_logits"]), tensor(inputs["logits"]).requires_grad_()
    method.modalities = tuple(unimodal)
    losses = method.losses(Output(fused, unimodal), batch(inputs["label"]), Context())
    loss = torch.stack(list(losses.values())).sum()
    return {
        "loss": loss.detach(),
        "grad_logits": gradients(loss, {"fused": fused})["fused"],
        "grad_unimodal": gradients(loss, unimodal),
    }


CHECKERS: dict[str, Checker] = {
    "dgl": by_kind(dgl_step=dgl_step),
    "midas": by_kind(midas_partner=midas_partner, midas_misaligned=midas_misaligned, midas_alpha=midas_alpha),
    "mcr": by_kind(mcr_game=mcr_game, mcr_contrast=mcr_contrast, mcr_bottleneck=mcr_bottleneck, mcr_pairs=mcr_pairs),
    "mimo": by_kind(mimo_objective=mimo_objective, mimo_logits=mimo_logits),
    "tcmax": by_kind(tcmax_additive=tcmax_additive, tcmax_pairs=tcmax_pairs, tcmax_sampled=tcmax_sampled),
}
