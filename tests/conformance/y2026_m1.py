"""Methods of 2025 and 2026 that change losses: MCR, DGL, MIDAS, TCMax, MIMO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.fusions.concat import Concat
from models.fusions.sum import Sum
from ogm.context import Context
from ogm.losses import supervised_contrast
from ogm.strategies import mcr
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


# ---- MCR
def mcr_game(vector: Vector) -> Found:
    inputs, hyper = vector["inputs"], vector["hyperparams"]
    parts, label = leaves(inputs["parts"]), torch.tensor(inputs["label"])
    drawn = dict(zip(parts, torch.tensor(inputs["permutations"]).unbind(1), strict=True))
    permutations = {x: {m: drawn[m] for m in parts if m in x} for x in mcr.proper_subsets(list(parts))}
    counted = {x: mcr.counted_positions(p, label, None, hyper["pairs"]) for x, p in permutations.items()}
    loss, divergence = mcr.game_loss(parts, mcr.add_up(parts), permutations, counted, hyper["game"], mcr.add_up)
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
    biases = [tensor(b) for b in inputs["bias"]]
    fusion: Any = {"concat": Concat, "sum": Sum}[hyper["fusion"]](dims, len(biases[0])).double()
    weight = {m: tensor(w) for m, w in inputs["weight"].items()}
    with torch.no_grad():
        if hyper["fusion"] == "concat":
            (bias,) = biases
            fusion.head.weight.copy_(torch.cat([weight[m] for m in names], 1)), fusion.head.bias.copy_(bias)
        else:
            for m, bias in zip(names, biases, strict=True):
                fusion.head[m].weight.copy_(weight[m]), fusion.head[m].bias.copy_(bias)
    method = DGL(**given(vector, "alpha"))
    method.attach({m: nn.Identity() for m in names}, dims=dims, num_classes=len(biases[0]), fusion=fusion)
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


CHECKERS: dict[str, Checker] = {
    "dgl": by_kind(dgl_step=dgl_step),
    "mcr": by_kind(mcr_game=mcr_game, mcr_contrast=mcr_contrast, mcr_bottleneck=mcr_bottleneck, mcr_pairs=mcr_pairs),
}
