"""Methods that act on features, logits and data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from models.fusions.concat import Concat
from ogm.context import Context
from ogm.scores import discrepancy_ratios, true_class_scores
from ogm.strategies.opm import hidden_share, masked, rates
from ogm.strategies.vanilla import Vanilla
from ogm.types import Output
from tests.conformance.fusions import filled
from tests.conformance.vectors import Checker, Vector, batch, given, tensor

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


def opm(vector: Vector) -> dict[str, Any]:
    inputs, some = vector["inputs"], batch(vector["inputs"]["labels"])
    if "W" in inputs:
        fusion, features = concat(inputs)
        keep = {m: x > 0 for m, x in named(inputs, "mask").items()}
        theta = inputs.get("theta", 0.0)
        if "theta" not in inputs and "q" in inputs:
            theta = hidden_share({m: tensor(q) for m, q in inputs["q"].items()}, fusion.dims)
        rescale = vector["hyperparams"].get("rescale", True)
        seen = masked(features, keep, theta if rescale else 0.0)
        some.weight = torch.stack(list(keep.values())).any(0).double()
        joint = fusion(seen)
        loss = Vanilla().losses(Output(joint), some, Context())["fused"]
        shown = {f"h_{m}": h for m, h in seen.items()} | {f"h_{m}_masked": h for m, h in seen.items()}
        return {"kept": some.weight, "theta": theta, "joint": joint, "logits": joint, "loss": loss, **shown}
    said = named(inputs, "u")
    sums = true_class_scores(said, some, Context())
    rho = discrepancy_ratios(sums)
    q = rates(rho, **{"q_base": 0.5, "lam": 0.5, **given(vector, "q_base", "lam")})
    found = {**each(sums, "score", "scores"), **each(rho, "rho", "rho"), **each(q, "q", "q")}
    if "dims" in inputs:
        found["theta"] = hidden_share(q, dict(zip(said, inputs["dims"], strict=True)))
        found["rescale"] = 1 / (1 - found["theta"])
    return found


CHECKERS: dict[str, Checker] = {
    "opm": opm,
}
