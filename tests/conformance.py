"""Runs conformance vectors through the project's own functions: python -m tests.conformance FILE.json ...

A file maps a method to its vectors, each with inputs, hyperparams, expected numbers and a tolerance. Every vector is
printed as passed, failed or unsupported (a method or a number this project does not have). Exit code 1 if any failed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.fusion import Fusion
from models.fusions.concat import Concat
from models.fusions.film import FiLM
from models.fusions.gated import Gated
from models.fusions.sum import Sum
from ogm.coalitions import coalitions, responses, shapley
from ogm.context import Context
from ogm.scores import discrepancy_ratios, true_class_scores
from ogm.strategies.equal_weight_multiloss import EqualWeightMultiloss
from ogm.strategies.modality_dropout import patterns
from ogm.strategies.ogm import coefficients
from ogm.strategies.ogm_ge import add_noise, deviation
from ogm.strategies.ume import ensemble
from ogm.strategies.vanilla import Vanilla
from ogm.strategies.weak_boost import boosts, bounded, lag_ratios
from ogm.strategy import scaled_update
from ogm.types import Batch, Output

Vector = Mapping[str, Any]
Checker = Callable[[Vector], dict[str, Any]]


class Unsupported(Exception):
    """This project has nothing that the vector could be put to."""


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def batch(labels: Any) -> Batch:
    label = torch.tensor(labels)
    return Batch({}, label, torch.arange(len(label)))


def given(vector: Vector, *names: str) -> dict[str, Any]:
    """Those hyperparameters that the vector sets; for the others the method's own defaults count."""
    return {name: vector["hyperparams"][name] for name in names if name in vector.get("hyperparams", {})}


# ---- scores and coefficients
def scores(vector: Vector) -> dict[str, Tensor]:
    """modality -> score sum, from whichever of the three kinds of input a vector has."""
    inputs = vector["inputs"]
    if "score_sum" in inputs:
        return {m: tensor(s) for m, s in inputs["score_sum"].items()}
    if "unimodal_logits" in inputs:
        logits = {m: tensor(z) for m, z in inputs["unimodal_logits"].items()}
        return true_class_scores(logits, batch(inputs["labels"]), Context())
    if "true_class_prob_per_rank" in inputs:
        ranks = [of_probabilities(said) for said in inputs["true_class_prob_per_rank"]]
        return {m: torch.stack([rank[m] for rank in ranks]).sum() for m in ranks[0]}
    if "true_class_prob" in inputs:
        return of_probabilities(inputs["true_class_prob"])
    raise Unsupported("no scores among the inputs")


def of_probabilities(said: Mapping[str, list[float | None]]) -> dict[str, Tensor]:
    """Two-class logits with these true-class probabilities, through the function that makes scores of logits."""
    logits = {
        m: torch.stack(
            [torch.logit(tensor([0.5 if p is None else p for p in ps])), torch.zeros(len(ps), dtype=torch.float64)], 1
        )
        for m, ps in said.items()
    }
    some = batch([0] * len(next(iter(said.values()))))
    some.present = {m: torch.tensor([p is not None for p in ps]) for m, ps in said.items()}
    return true_class_scores(logits, some, Context())


def ogm(vector: Vector) -> dict[str, Any]:
    sums = scores(vector)
    rule = given(vector, "multi").get("multi", "pairwise_mean")
    rho = discrepancy_ratios(sums, rule)
    return {
        "score_sum": sums,
        "rho": rho,
        "k": coefficients(rho, vector["hyperparams"]["alpha"], **given(vector, "variant")),
    }


def ogm_ge(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    grad = tensor(inputs["grad"]).view(inputs["grad_shape"])
    drawn, sigma = Context(), deviation(grad)
    drawn.noise_like = lambda x, number: tensor(inputs["standard_normal"]).view_as(x)  # type: ignore[method-assign]
    factors = {"dominant": "k_dominant", "weak": "k_weak", "result": "k"}

    def edited(k: float) -> Tensor:
        std = sigma * (k if vector["hyperparams"].get("noise") == "scaled_std" else 1.0)
        changed = grad * k
        add_noise(changed, std, 0, batch([0]), (), drawn)
        return changed

    return {"sigma": sigma, **{name: edited(inputs[k]) for name, k in factors.items() if k in inputs}}


def weak_boost(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    if "grad_weak" in inputs:
        norms = {m: tensor(inputs[f"grad_{m}"]).norm() for m in ("weak", "strong")}
        k = bounded({"weak": tensor(inputs["k"]), "strong": tensor(1.0)}, norms, vector["hyperparams"]["parity"])
        return {"k_effective": k["weak"], "grad_weak_new": k["weak"] * tensor(inputs["grad_weak"])}
    hyper = vector["hyperparams"]
    sums = scores(vector)
    rho = lag_ratios(sums, hyper.get("rho_max", 10.0))
    extra = given(vector, "dead_band")
    k = boosts(rho, hyper.get("alpha", 0.3), hyper.get("form", "step"), hyper.get("k_max", 2.0), **extra)
    return {"score_sum": sums, "rho": rho, "k": k}


def modulation_target(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    return {
        "theta": scaled_update(tensor(inputs["theta_before"]), tensor(inputs["theta_after_optimizer"]), inputs["k"])
    }


# ---- losses and predictions
def joint_loss(vector: Vector) -> dict[str, Any]:
    """``vanilla`` and ``unimodal``: one cross-entropy."""
    some = batch(vector["inputs"]["labels"])
    return {"loss": Vanilla().losses(Output(tensor(vector["inputs"]["logits"])), some, Context())["fused"]}


def equal_weight_multiloss(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    heads = {
        name.removeprefix("head_").removesuffix("_logits"): tensor(z)
        for name, z in inputs.items()
        if name.startswith("head_")
    }
    output = Output(tensor(inputs["joint_logits"]), heads)
    losses = EqualWeightMultiloss(heads="shared").losses(output, batch(inputs["labels"]), Context())
    own = {f"ce_{m}": losses[f"unimodal/{m}"] for m in heads}
    return {"ce_joint": losses["fused"], **own, "total": torch.stack(list(losses.values())).sum()}


def ume(vector: Vector) -> dict[str, Any]:
    logits = {
        name.removeprefix("logits_"): tensor(z) for name, z in vector["inputs"].items() if name.startswith("logits_")
    }
    if len(set(vector.get("hyperparams", {}).get("weights", [1]))) > 1:
        raise Unsupported("weights other than equal ones")
    there = {m: torch.ones(len(z), dtype=torch.bool) for m, z in logits.items()}
    means = {rule: ensemble(logits, there, rule) for rule in ("prob_mean", "logit_mean")}
    return {
        "prob_mean": means["prob_mean"].exp(),
        "logit_mean": means["logit_mean"],
        **{f"pred_{rule}": z.argmax(1).double() for rule, z in means.items()},
    }


def modality_dropout(vector: Vector) -> dict[str, Any]:
    if "p" not in vector["inputs"]:
        raise Unsupported("not the probabilities of patterns")
    kept, chance = patterns(vector["inputs"]["p"])
    share = {tuple(row): float(c) for row, c in zip(kept.tolist(), chance / chance.sum(), strict=True)}
    m = kept.shape[1]
    alone = {f"prob_keep_only_{'avt'[i]}": share[tuple(j == i for j in range(m))] for i in range(m)}
    return {
        "prob_keep_both": share[(True,) * m],
        "prob_keep_all": share[(True,) * m],
        **alone,
        "prob_none": share.get((False,) * m, 0.0),
    }


# ---- fusions
def filled(fusion: Fusion, weights: Mapping[nn.Linear, tuple[Any, Any]]) -> Fusion:
    """A fusion with the vector's weights in its own layers."""
    fusion.double()
    with torch.no_grad():
        for layer, (weight, bias) in weights.items():
            layer.weight.copy_(tensor(weight))
            layer.bias.copy_(tensor(bias))
    return fusion


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
    raise Unsupported("a fusion that this project does not have")


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
    said, joint = fusion.unimodal_logits(features), fusion(features)
    found: dict[str, Any] = {**said, **{f"u_{m}": z for m, z in said.items()}, "joint": joint, "fused": joint}
    for m, z in by_subsets(fusion, features).items():
        torch.testing.assert_close(z, said[m], msg="a concat's Shapley responses are not its parts")
    if "labels" in inputs:
        some = batch(inputs["labels"])
        found["joint_ce"] = Vanilla().losses(Output(joint), some, Context())["fused"]
        found |= {f"true_class_prob_sum_{m}": s for m, s in true_class_scores(said, some, Context()).items()}
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
    worth = {some: fusion(features, drop=set(players) - some) for some in coalitions(players)}
    worth[frozenset()] = empty
    return {m: shapley(worth, m, players) + empty / len(players) for m in players}


def data_parallel(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    if "true_class_prob_per_rank" in inputs:
        return ogm(vector)
    if "shards" not in inputs:
        raise Unsupported("a method that this project does not have")
    label, logits = torch.tensor(inputs["labels"]), tensor(inputs["joint_logits"])
    said = {name.removeprefix("u_"): tensor(z) for name, z in inputs.items() if name.startswith("u_")}
    shards, everyone = inputs["shards"], len(label)
    contexts = [Context(share=len(rows) * len(shards) / everyone) for rows in shards]
    parts = [batch(label[rows].tolist()) for rows in shards]
    local = [
        true_class_scores({m: z[rows] for m, z in said.items()}, part, Context())
        for rows, part in zip(shards, parts, strict=True)
    ]
    total = {m: torch.stack([s[m] for s in local]).sum() for m in said}
    losses = [
        Vanilla().losses(Output(logits[rows]), part, Context())["fused"]
        for rows, part in zip(shards, parts, strict=True)
    ]
    first = next(iter(said))
    return {
        "local_scores": [[float(s[m]) for m in said] for s in local],
        f"global_rho_{first}": discrepancy_ratios(total)[first],
        "local_ce": torch.stack(losses),
        "global_ce": Vanilla().losses(Output(logits), batch(inputs["labels"]), Context())["fused"],
        "per_rank_loss_for_mean_allreduce": torch.stack([c.scale(x) for c, x in zip(contexts, losses, strict=True)]),
    }


CHECKERS: dict[str, Checker] = {
    "unimodal_logits": unimodal_logits,
    "vanilla": joint_loss,
    "unimodal": joint_loss,
    "ogm": ogm,
    "ogm_ge": ogm_ge,
    "weak_boost": weak_boost,
    "modulation_target": modulation_target,
    "equal_weight_multiloss": equal_weight_multiloss,
    "ume": ume,
    "modality_dropout": modality_dropout,
    "fusion": fusion_logits,
    "data_parallel": data_parallel,
}


# ---- running them
def differences(found: Any, expected: Any, tolerance: float, where: str = "") -> Iterator[str]:
    """What of ``expected`` is not found, or is off by more than the tolerance; what is found besides is ignored."""
    if isinstance(expected, Mapping):
        for name, value in expected.items():
            if name.startswith(("wrong", "naive")):  # what a faulty implementation would give
                continue
            if name not in found:
                yield f"{where}{name}: nothing here computes it"
            else:
                yield from differences(found[name], value, tolerance, f"{where}{name}.")
        return
    a, b = torch.as_tensor(found, dtype=torch.float64), tensor(expected)
    if a.numel() != b.numel() or not torch.isclose(a.flatten(), b.flatten(), rtol=0, atol=tolerance).all():
        yield f"{where.rstrip('.')}: found {a.tolist()}, expected {b.tolist()}"


def check(method: str, vector: Vector) -> tuple[str, str]:
    """("passed" | "failed" | "unsupported", why)."""
    if method not in CHECKERS:
        return "unsupported", f"no {method} here"
    try:
        found = CHECKERS[method](vector)
    except Unsupported as error:
        return "unsupported", str(error)
    except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        return "failed", f"{type(error).__name__}: {error}"
    off = list(differences(found, vector["expected"], vector.get("tolerance", 1e-6)))
    return ("failed", "; ".join(off)) if off else ("passed", "")


def vectors(path: Path) -> Iterator[tuple[str, str, Vector]]:
    """(method, id, vector) of a file."""
    for method, some in json.loads(path.read_text()).items():
        if not method.startswith("_"):
            for number, vector in enumerate(some):
                yield method, str(vector.get("id") or vector.get("name") or number), vector


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.conformance", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json")
    parser.add_argument("--strict", action="store_true", help="unsupported vectors count as failures")
    args = parser.parse_args()
    count = {"passed": 0, "failed": 0, "unsupported": 0}
    for path in args.files:
        try:
            found = list(vectors(path))
        except (OSError, ValueError, AttributeError) as error:
            print(f"error: {path} is not a file of conformance vectors: {error}", file=sys.stderr)
            return 2
        for method, name, vector in found:
            verdict, why = check(method, vector)
            count[verdict] += 1
            print(f"{verdict:<12} {method}/{name}{': ' + why if why else ''}")
    print(", ".join(f"{n} {verdict}" for verdict, n in count.items()))
    return 1 if count["failed"] or (args.strict and count["unsupported"]) else 0


if __name__ == "__main__":
    sys.exit(main())
