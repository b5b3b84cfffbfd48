"""Fusions, and what each modality says of their logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.fusion import Fusion
from models.fusions.centralnet import CentralLayer, weighted_sum
from models.fusions.concat import Concat
from models.fusions.film import FiLM
from models.fusions.gated import Gated
from models.fusions.late_prob import mixture
from models.fusions.mmtm import MMTMUnit
from models.fusions.sum import Sum
from models.layers import attention, weighted_mean
from ogm.context import Context
from ogm.imbalance import true_class_scores
from ogm.shapley import coalitions, responses, shapley
from ogm.strategies.vanilla import Vanilla
from ogm.types import Output
from tests.conformance.common import Checker, Unsupported, Vector, batch, tensor


def filled(part: nn.Module, weights: Mapping[nn.Linear, tuple[Any, Any]]) -> None:
    """Put the vector's weights into the layers of a fusion, or of a part of one."""
    part.double()
    with torch.no_grad():
        for layer, (weight, bias) in weights.items():
            layer.weight.copy_(tensor(weight))
            layer.bias.copy_(tensor(bias))


def film(
    conditioner: Any, target: Any, generator: tuple[Any, Any], out: tuple[Any, Any]
) -> tuple[FiLM, dict[str, Tensor]]:
    features = {"conditioner": tensor(conditioner), "target": tensor(target)}
    fusion = FiLM({m: f.shape[1] for m, f in features.items()}, len(out[0]), target="target")
    filled(fusion, {fusion.generator: generator, fusion.head: out})
    return fusion, features


def gated(
    gate: Any, value: Any, p: tuple[Any, Any], q: tuple[Any, Any], out: tuple[Any, Any]
) -> tuple[Gated, dict[str, Tensor]]:
    features = {"gate": tensor(gate), "value": tensor(value)}
    fusion = Gated({m: f.shape[1] for m, f in features.items()}, len(out[0]), value="value", width=len(p[0]))
    filled(fusion, {fusion.project_gate: p, fusion.project_value: q, fusion.head: out})
    return fusion, features


def fusion_logits(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    if "W_film" in inputs:
        fusion, features = film(
            inputs["h_cond"],
            inputs["h_target"],
            (inputs["W_film"], inputs["b_film"]),
            (inputs["W_out"], inputs["b_out"]),
        )
        gamma, beta = fusion.generator(features["conditioner"]).chunk(2, dim=1)
        return {"gamma": gamma, "beta": beta, "fused": gamma * features["target"] + beta, "logits": fusion(features)}
    if "W_gate" in inputs:
        one, features = gated(
            inputs["h_gate"],
            inputs["h_value"],
            (inputs["W_gate"], inputs["b_gate"]),
            (inputs["W_value"], inputs["b_value"]),
            (inputs["W_out"], inputs["b_out"]),
        )
        gate = torch.sigmoid(one.project_gate(features["gate"]))
        return {"gate": gate, "fused": gate * one.project_value(features["value"]), "logits": one(features)}
    if "W_squeeze" in inputs:
        return mmtm(vector)
    if "alpha_mods" in inputs:
        return centralnet(inputs)
    if {"q", "k", "v"} <= {name.lower() for name in inputs}:
        return core(inputs)
    unimodal_logits = {name: z for name, z in inputs.items() if name.startswith("logits_")}
    if unimodal_logits:
        return late(unimodal_logits)
    raise Unsupported("a fusion that this project does not have")


def mmtm(vector: Vector) -> dict[str, Any]:
    """One unit, with the gate of the released code or of the paper, and the paper's gates beside it."""
    inputs = vector["inputs"]
    maps = {name.removeprefix("map_"): tensor(x) for name, x in inputs.items() if name.startswith("map_")}
    scale = 2.0 if vector.get("hyperparams", {}).get("gate") == "paper" else 1.0
    found: dict[str, Any] = {}
    for suffix, factor in (("_paper_2x", 2.0), ("", scale)):
        unit = MMTMUnit({m: x.shape[1] for m, x in maps.items()}, len(inputs["b_squeeze"]), scale=factor)
        weights = {unit.squeeze: (inputs["W_squeeze"], inputs["b_squeeze"])}
        weights |= {unit.gates[m].layer: (inputs[f"W_{m}"], inputs[f"b_{m}"]) for m in maps}
        filled(unit, weights)
        unit.squeeze.register_forward_hook(lambda _, given, result: found.update(squeeze=given[0], joint=result.relu()))
        for m, gate in unit.gates.items():
            gate.register_forward_hook(lambda _, given, result, name=f"gate_{m}{suffix}": found.update({name: result}))
        found.update({f"out_{m}": x for m, x in unit(maps).items()})
    return found


def centralnet(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """One layer of the central network, its inputs projected already."""
    modalities = [tensor(h) for name, h in sorted(inputs.items()) if name.startswith("mod_")]
    alphas, central = tensor(inputs["alpha_mods"]), tensor(inputs["central"]) if "central" in inputs else None
    alpha = tensor(inputs["alpha_central"]) if central is not None else None
    stage = CentralLayer({str(i): h.shape[1] for i, h in enumerate(modalities)}, central is not None, len(inputs["b"]))
    filled(stage, {stage.layer: (inputs["W"], inputs["b"])})
    with torch.no_grad():
        stage.alphas.copy_(alphas)
        if stage.alpha_central is not None and alpha is not None:
            stage.alpha_central.copy_(alpha)
        for projection in stage.projections.values():
            projection.weight.copy_(torch.eye(projection.in_features))
    after = stage(central, {str(i): h for i, h in enumerate(modalities)})
    return {"mixed": weighted_sum(central, modalities, alpha, alphas), "next_central": after}


def core(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """softmax(Q K^T / sqrt(d)) V; its weights are what it makes of values that are one-hot."""
    q, k, v = ({name.lower(): tensor(x) for name, x in inputs.items() if name.lower() in "qkv"}[x] for x in "qkv")
    out = attention(q, k, v)
    weights = attention(q, k, torch.eye(k.shape[-2], dtype=k.dtype).expand(*k.shape[:-1], -1))
    return {
        **dict.fromkeys(("out", "output", "context", "attended"), out),
        **dict.fromkeys(("weights", "attention", "attn", "probs"), weights),
    }


def late(logits: Mapping[str, Any]) -> dict[str, Any]:
    """The mean of logits and, for ``late_prob``, the logarithm of the mean of probabilities."""
    stacked = torch.stack([tensor(z) for z in logits.values()])
    weight = torch.ones(stacked.shape[:2], dtype=stacked.dtype)
    return {"joint": weighted_mean(stacked, weight), "joint_log_prob": mixture(stacked, weight)}


def unimodal_logits(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    if "coalition_logits" in inputs:
        worth = {frozenset(name): tensor(z) for name, z in inputs["coalition_logits"].items()}
        players = max(inputs["coalition_logits"], key=len)
        worth[frozenset()] = torch.zeros_like(worth[frozenset(players)])
        found = {m: shapley(worth, m, players) for m in players}
        return {**found, "sum": torch.stack(list(found.values())).sum(0)}
    if "generator" in inputs or "gate_from" in inputs:
        return ablation(vector)
    if "W_a" in inputs or "W_1" in inputs:
        return sum_parts(inputs)
    return concat_parts(vector)


def concat_parts(vector: Vector) -> dict[str, Any]:
    """Exact parts of a concat, and the Shapley responses that must equal them."""
    inputs = vector["inputs"]
    features = (
        {m: tensor(f) for m, f in inputs["features"].items()}
        if "features" in inputs
        else {name.removeprefix("h_"): tensor(f) for name, f in inputs.items() if name.startswith("h_")}
    )
    features = {m: features[m] for m in inputs.get("order", features)}
    weight, bias = inputs.get("weight", inputs.get("W")), inputs.get("bias", inputs.get("b"))
    fusion = Concat({m: f.shape[1] for m, f in features.items()}, len(bias))
    filled(fusion, {fusion.head: (weight, bias)})
    unimodal_logits, joint = fusion.unimodal_logits(features), fusion(features)
    found: dict[str, Any] = {
        **unimodal_logits,
        **{f"u_{m}": z for m, z in unimodal_logits.items()},
        "joint": joint,
        "fused": joint,
    }
    for m, z in by_subsets(fusion, features).items():
        torch.testing.assert_close(z, unimodal_logits[m], msg="a concat's Shapley responses are not its parts")
    if "labels" in inputs:
        samples = batch(inputs["labels"])
        found["joint_ce"] = Vanilla().losses(Output(joint), samples, Context())["fused"]
        found |= {
            f"true_class_prob_sum_{m}": s for m, s in true_class_scores(unimodal_logits, samples, Context()).items()
        }
    return found


def sum_parts(inputs: Mapping[str, Any]) -> dict[str, Any]:
    names = [name.removeprefix("W_") for name in inputs if name.startswith("W_")]
    features = {m: tensor(inputs[f"h_{m}"]) for m in names}
    fusion = Sum({m: f.shape[1] for m, f in features.items()}, len(inputs[f"b_{names[0]}"]))
    filled(fusion, {fusion.head[m]: (inputs[f"W_{m}"], inputs[f"b_{m}"]) for m in names})  # type: ignore[index, misc]
    return {"joint": fusion(features), **{f"u_{m}": z for m, z in fusion.unimodal_logits(features).items()}}


def ablation(vector: Vector) -> dict[str, Any]:
    """Solo logits, Shapley responses and the empty say of a FiLM or a gated fusion of x and y."""
    inputs = vector["inputs"]

    def layer(name: str) -> tuple[Any, Any]:
        return inputs[name]["weight"], inputs[name]["bias"]

    first = inputs.get("conditioner", inputs.get("gate_from"))
    other = "y" if first == "x" else "x"
    fusion: Fusion
    if "generator" in inputs:
        fusion, features = film(inputs[first], inputs[other], layer("generator"), layer("out"))
    else:
        fusion, features = gated(inputs[first], inputs[other], layer(f"fc_{first}"), layer(f"fc_{other}"), layer("out"))
    name = dict(zip(features, (first, other), strict=True))
    alone, fused = fusion.unimodal_logits(features), fusion(features)
    model = type("Model", (), {"fusion": fusion})
    shared = responses(Output(fused, alone, features), batch([0] * len(fused)), Context(model=model))
    return {
        "fused": fused,
        "empty": fusion(features, drop=set(features)),
        **{f"solo_{name[m]}": z for m, z in alone.items()},
        **{f"phi_{name[m]}": z for m, z in shared.items()},
    }


def by_subsets(fusion: Fusion, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Shapley responses of any fusion by evaluating all of its subsets, the empty one shared equally."""
    players = list(features)
    empty = fusion(features, drop=players)
    worth = {subset: fusion(features, drop=set(players) - subset) for subset in coalitions(players)}
    worth[frozenset()] = empty
    return {m: shapley(worth, m, players) + empty / len(players) for m in players}


CHECKERS: dict[str, Checker] = {
    "fusion": fusion_logits,
    "unimodal_logits": unimodal_logits,
}
