"""Methods of 2025 and 2026: PDMP, UDI, BSS, AMSS, AUG. Every vector names its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ogm.context import Context
from ogm.parts.ensembles import summed_logits
from ogm.parts.teachers import best_modality
from ogm.strategies import amss, aug, bss, pdmp, udi
from ogm.types import Output
from tests.conformance.common import Checker, Unsupported, Vector, batch, given, tensor


def best_of(vector: Vector) -> str:
    """The modality that is best alone; entropies may be left out."""
    accuracy = vector["inputs"]["accuracy"]
    return best_modality(accuracy, vector["inputs"].get("entropy") or dict.fromkeys(accuracy, 0.0))


def pdmp_factors(vector: Vector) -> dict[str, Any]:
    dominant, modalities = best_of(vector), list(vector["inputs"]["accuracy"])
    return {"dominant": dominant, "factor": pdmp.prioritise(modalities, dominant, vector["hyperparams"]["kappa"])}


def with_gradient(values: Any) -> Tensor:
    return tensor(values).requires_grad_()


def udi_consistency(vector: Vector) -> dict[str, Any]:
    follower = with_gradient(vector["inputs"]["follower_logits"])
    loss = Context().mean(udi.consistency(tensor(vector["inputs"]["anchor_logits"]), follower))
    loss.backward()
    return {"loss": loss.detach(), "grad_follower": follower.grad}


def udi_complement(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    follower = with_gradient(inputs["follower"])
    mean, log_variance = with_gradient(inputs["mean"]), with_gradient(inputs["log_variance"])
    bound = udi.complement(follower, mean.detach(), log_variance.detach()).mean()
    fit = udi.estimator_loss(follower.detach(), mean, log_variance).mean()
    bound.backward(), fit.backward()
    return {
        "mutual_information": bound.detach(),
        "grad_follower": follower.grad,
        "estimator_loss": fit.detach(),
        "grad_mean": mean.grad,
        "grad_log_variance": log_variance.grad,
    }


def udi_weights(vector: Vector) -> dict[str, Any]:
    gradients = ([tensor(g) for g in vector["inputs"][f"grad_{x}"]] for x in ("cls", "con", "com"))
    return dict(zip(("con", "com"), udi.interaction_weights(*gradients), strict=True))


def udi_anchor(vector: Vector) -> dict[str, Any]:
    return {"anchor": best_of(vector)}


def logits_of(inputs: Mapping[str, Any]) -> Output:
    """The logits of a vector, as an output that may be differentiated."""
    unimodal = {m: with_gradient(z) for m, z in inputs["unimodal_logits"].items()}
    fused = with_gradient(inputs["logits"])
    return Output(fused, unimodal, extra={"fused": fused})


def bss_difficulty(vector: Vector) -> dict[str, Any]:
    output, samples = logits_of(vector["inputs"]), batch(vector["inputs"]["label"])
    method = bss.BSS(**given(vector, "fused_weight"))
    similarity = bss.mean_cosine(output.unimodal_logits, samples.presence(list(output.unimodal_logits)))
    difficulty = bss.sequence_difficulty(similarity, method.sample_losses(output, samples)).detach()
    return {"difficulty": difficulty, "order": bss.difficulty_order(difficulty)}


def bss_share(vector: Vector) -> dict[str, Any]:
    options = vector["hyperparams"]
    shares = [bss.share_of_epoch(e, options["lam0"], options["grow"]) for e in vector["inputs"]["epochs"]]
    return {"share": shares, "count": [bss.share_count(vector["inputs"]["num_samples"], share) for share in shares]}


def bss_loss(vector: Vector) -> dict[str, Any]:
    output, samples = logits_of(vector["inputs"]), batch(vector["inputs"]["label"])
    method = bss.BSS(**given(vector, "fused_weight"))
    loss = torch.stack(list(method.losses(output, samples, Context()).values())).sum()
    loss.backward()
    counted = samples.presence(list(output.unimodal_logits))
    return {
        "loss": loss.detach(),
        "grad_logits": output.logits.grad,
        "grad_unimodal": {m: z.grad for m, z in output.unimodal_logits.items()},
        "prediction": summed_logits(output.unimodal_logits, counted).detach(),
    }


def amss_keep(vector: Vector) -> dict[str, Any]:
    inputs, options = vector["inputs"], vector["hyperparams"]
    features, logits = ({m: tensor(x) for m, x in inputs[what].items()} for what in ("features", "unimodal_logits"))
    method, samples = amss.AMSS(temperature=options["T"]), batch(inputs["label"])
    method.modalities = tuple(features)
    fused = torch.zeros(len(samples), options["num_classes"], dtype=torch.float64)
    information, entropy = method.information(Output(fused, logits, features), samples, Context())
    keep = amss.keep_shares(information, entropy, method.temperature, method.multi)
    found = {"information": information, "feature_entropy": entropy, "keep": keep}
    counts = amss.label_counts(samples.label, options["num_classes"])
    return {"label_entropy": amss.label_entropy(counts)} | {
        name: dict(zip(features, x, strict=True)) for name, x in found.items()
    }


def amss_mask(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    grad, filters = tensor(inputs["grad"]), torch.tensor([len(inputs["grad"])])
    real = torch.ones(1, len(grad), dtype=torch.bool)
    probability = amss.filter_probabilities(torch.linalg.vector_norm(grad.flatten(1), dim=1)[None], real)
    kept = torch.zeros_like(real)
    kept[0, inputs["picked"]] = True
    factor = amss.filter_factors(kept, probability, filters, vector["hyperparams"]["unbiased"])[0]
    return {
        "count": amss.kept_count(filters, tensor([inputs["keep"]])),
        "probability": probability[0],
        "grad": grad * factor.view(-1, *[1] * (grad.ndim - 1)),
    }


def aug_loss(vector: Vector) -> dict[str, Any]:
    each = [with_gradient(z) for z in vector["inputs"]["classifier_logits"]]
    method, samples = aug.AUG(**given(vector, "lam", "variant")), batch(vector["inputs"]["label"])
    loss = Context().mean(method.boosting(each, samples.label))
    loss.backward()
    return {
        "loss": loss.detach(),
        "output": torch.stack(each).sum(0).detach(),
        "grad": torch.stack([z.grad for z in each if z.grad is not None]),
    }


def aug_assign(vector: Vector) -> dict[str, Any]:
    method = aug.AUG(**given(vector, "sigma", "margin", "variant"))
    scores = vector["inputs"]["scores"]
    return {"add": [aug.modality_to_boost(s, method.sigma, method.margin, method.variant) for s in scores]}


def aug_schedule(vector: Vector) -> dict[str, Any]:
    epochs = vector["inputs"]["epochs"]
    period = aug.check_period(epochs, vector["hyperparams"].get("every"))
    return {"period": period, "checks": [e for e in range(epochs) if aug.is_checked(e, period)]}


def linear(weight: Any, bias: Any) -> torch.nn.Linear:
    layer = torch.nn.Linear(len(weight[0]), len(weight), dtype=torch.float64)
    layer.load_state_dict({"weight": tensor(weight), "bias": tensor(bias)})
    return layer.requires_grad_(False)


def aug_forward(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    layer2, each = linear(inputs["layer2_weight"], inputs["layer2_bias"]), {}
    for m, feature in inputs["features"].items():
        first = map(linear, inputs["layer1_weight"][m], inputs["layer1_bias"][m])
        each[m] = torch.stack(aug.classifier_logits(tensor(feature), first, layer2))
    output = {m: z.sum(0) for m, z in each.items()}
    present = {m: torch.ones(len(z), dtype=torch.bool) for m, z in output.items()}
    return {
        "output": output,
        "previous": {m: z[: max(len(z) - 1, 1)].sum(0) for m, z in each.items()},
        "prediction": aug.merged_prediction(output, present, aug.AUG(**given(vector, "merge")).merge),
    }


KINDS: dict[str, Callable[[Vector], dict[str, Any]]] = {
    "pdmp_factors": pdmp_factors,
    "udi_consistency": udi_consistency,
    "udi_complement": udi_complement,
    "udi_weights": udi_weights,
    "udi_anchor": udi_anchor,
    "bss_difficulty": bss_difficulty,
    "bss_share": bss_share,
    "bss_loss": bss_loss,
    "amss_keep": amss_keep,
    "amss_mask": amss_mask,
    "aug_loss": aug_loss,
    "aug_assign": aug_assign,
    "aug_schedule": aug_schedule,
    "aug_forward": aug_forward,
}


def by_kind(vector: Vector) -> dict[str, Any]:
    kind = vector.get("kind", "")
    if kind not in KINDS:
        raise Unsupported(f"no vectors of the kind {kind!r} here")
    return KINDS[kind](vector)


CHECKERS: dict[str, Checker] = dict.fromkeys(("pdmp", "udi", "bss", "amss", "aug"), by_kind)
