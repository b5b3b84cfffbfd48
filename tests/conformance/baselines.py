"""Joint and unimodal training, the sum of losses, the ensemble, modality dropout."""

from __future__ import annotations

from typing import Any

import torch

from ogm.context import Context
from ogm.parts.ensembles import average_predictions
from ogm.strategies.equal_weight_multiloss import EqualWeightMultiloss
from ogm.strategies.modality_dropout import keep_patterns
from ogm.strategies.vanilla import Vanilla
from ogm.types import Output
from tests.conformance.common import Checker, Unsupported, Vector, batch, tensor


def joint_loss(vector: Vector) -> dict[str, Any]:
    """``vanilla`` and ``unimodal``: one cross-entropy."""
    samples = batch(vector["inputs"]["labels"])
    return {"loss": Vanilla().losses(Output(tensor(vector["inputs"]["logits"])), samples, Context())["fused"]}


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
    given = vector.get("hyperparams", {}).get("weights")
    weights = None if given is None else dict(zip(logits, given, strict=True))
    present = {m: torch.ones(len(z), dtype=torch.bool) for m, z in logits.items()}
    means = {rule: average_predictions(logits, present, rule, weights) for rule in ("prob_mean", "logit_mean")}
    return {
        "prob_mean": means["prob_mean"].exp(),
        "logit_mean": means["logit_mean"],
        **{f"pred_{rule}": z.argmax(1).double() for rule, z in means.items()},
    }


def modality_dropout(vector: Vector) -> dict[str, Any]:
    if "p" not in vector["inputs"]:
        raise Unsupported("not the probabilities of patterns")
    kept, chance = keep_patterns(vector["inputs"]["p"])
    share = {tuple(row): float(c) for row, c in zip(kept.tolist(), chance / chance.sum(), strict=True)}
    m = kept.shape[1]
    alone = {f"prob_keep_only_{'avt'[i]}": share[tuple(j == i for j in range(m))] for i in range(m)}
    return {
        "prob_keep_both": share[(True,) * m],
        "prob_keep_all": share[(True,) * m],
        **alone,
        "prob_none": share.get((False,) * m, 0.0),
    }


CHECKERS: dict[str, Checker] = {
    "vanilla": joint_loss,
    "unimodal": joint_loss,
    "equal_weight_multiloss": equal_weight_multiloss,
    "ume": ume,
    "modality_dropout": modality_dropout,
}
