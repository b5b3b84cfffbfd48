"""Methods of 2025 and 2026 that act on learning rates, mixtures, wrong classes, coefficients and batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.fusions.concat import Concat
from models.model import MultimodalModel
from ogm.context import Context
from ogm.strategies.arl import ARL, asymmetry, printed_weights, statistics
from ogm.strategies.iprm import IPRM, great_circle, turned_weights
from ogm.strategies.miles import MILES
from ogm.strategies.mnl import MNL, certainties, guides, margins, rivals
from ogm.strategies.remix import Remix, bits_from_uniform, weakest
from ogm.types import Batch, Output
from tests.conformance.common import Checker, Unsupported, Vector, batch, given, tensor
from tests.conformance.fusions import filled

Named = dict[str, Tensor]


def leaves(values: Mapping[str, Any]) -> Named:
    """name -> tensor that gradients are asked of."""
    return {name: tensor(x).requires_grad_() for name, x in values.items()}


def gradients(values: Mapping[str, Tensor]) -> Named:
    """name -> gradient; zero for what no loss has reached."""
    return {name: torch.zeros_like(x) if x.grad is None else x.grad for name, x in values.items()}


def of_logits(plan: Any, vector: Vector) -> dict[str, Any]:
    """The loss of a method on given logits, and its gradients."""
    inputs = vector["inputs"]
    logits, unimodal_logits = tensor(inputs["logits"]).requires_grad_(), leaves(inputs["unimodal_logits"])
    plan.modalities = tuple(unimodal_logits)
    losses = plan.losses(Output(logits, dict(unimodal_logits)), batch(inputs["label"]), Context())
    loss = torch.stack(list(losses.values())).sum()
    loss.backward()
    return {"loss": loss.detach(), "grad_logits": logits.grad, "grad_unimodal": gradients(unimodal_logits)}


def set_concat(fusion: Concat, weight: Mapping[str, Any], bias: Any) -> None:
    """Put the columns of each modality side by side."""
    filled(fusion, {fusion.head: (torch.cat([tensor(w) for w in weight.values()], 1).tolist(), bias)})


# ---- miles
def accuracies(metrics: Mapping[str, float]) -> Tensor:
    return tensor([metrics["fused"], *(x for m, x in metrics.items() if m != "fused")])


def miles_rule(vector: Vector) -> dict[str, Any]:
    plan, epochs = MILES(**given(vector, "tau", "mu")), []
    for metrics in vector["inputs"]["metrics"]:
        names = [m for m in metrics if m != "fused"]
        found = plan.rates_after(accuracies(metrics))
        per_modality = {
            name: dict(zip(names, x, strict=True))
            for name, x in (("utilization", found.utilization), ("factor", found.factor))
        }
        epochs.append({"delta": found.delta, **per_modality})
    return {"epochs": epochs}


def miles_rates(vector: Vector) -> dict[str, Any]:
    """The learning rates that SGD has in each epoch: what it makes of a gradient of 1."""
    inputs, rates = vector["inputs"], []
    names = [m for m in inputs["metrics"][0] if m != "fused"]
    encoders = {m: nn.Linear(1, 1, dtype=torch.float64) for m in names}
    plan = MILES(**given(vector, "tau", "mu")).attach(encoders, dims=dict.fromkeys(names, 1), num_classes=2).double()
    optimizer = torch.optim.SGD([p for e in encoders.values() for p in e.parameters()], lr=1.0)
    output = Output(tensor([[0.0, 1.0]]), {m: tensor([[0.0, 1.0]]) for m in names})
    for metrics, base in zip(inputs["metrics"], inputs["base"], strict=True):
        plan.on_epoch_start(None)  # type: ignore[arg-type]
        optimizer.param_groups[0]["lr"] = base
        before = {m: e.weight.detach().clone() for m, e in encoders.items()}
        for encoder in encoders.values():
            encoder.weight.grad = torch.ones_like(encoder.weight)
        plan.on_gradients(output, batch([1]), Context())
        optimizer.step()
        plan.on_update(output, batch([1]), Context())
        rates.append({m: (before[m] - e.weight.detach()).sum() for m, e in encoders.items()})
        plan.factor.copy_(plan.rates_after(accuracies(metrics)).factor)
    return {"rates": rates}


def miles_loss(vector: Vector) -> dict[str, Any]:
    return of_logits(MILES(), vector)


# ---- iprm
def iprm_weights(vector: Vector) -> Tensor:
    lam = vector["hyperparams"]["lam"]
    return tensor([lam[m] for m in vector["inputs"]["features"]])


def iprm_mix(vector: Vector) -> dict[str, Any]:
    """The mixture, and the gradient of its product with the probe."""
    features = leaves(vector["inputs"]["features"])
    mixed = great_circle(*features.values(), iprm_weights(vector))
    (mixed * tensor(vector["inputs"]["probe"])).sum().backward()
    return {"mixed": mixed.detach(), "grad": gradients(features)}


def iprm_edges(vector: Vector) -> dict[str, Any]:
    """Also in float32, where opposite features have a mixture that is no longer than 1 and a finite gradient."""
    found = iprm_mix(vector)
    features = {m: tensor(x).float().requires_grad_() for m, x in vector["inputs"]["features"].items()}
    mixed = great_circle(*features.values(), iprm_weights(vector).float())
    (mixed * tensor(vector["inputs"]["probe"]).float()).sum().backward()
    every = [*found["grad"].values(), *gradients(features).values(), mixed.detach()]
    short = (mixed.detach().norm(dim=1) <= 1 + 1e-4).all()
    return {**found, "finite_gradient": bool(short and all(torch.isfinite(x).all() for x in every))}


def iprm_hat(vector: Vector) -> dict[str, Any]:
    divergence = vector["inputs"]["kl"]
    return {"lam_hat": dict(zip(divergence, turned_weights(tensor(list(divergence.values()))), strict=True))}


def attached(plan: Any, features: Mapping[str, Any], classes: int) -> Any:
    """A method that knows encoders which are not asked for, and widths and classes."""
    dims = {m: tensor(f).shape[1] for m, f in features.items()}
    return plan.attach({m: nn.Identity() for m in features}, dims=dims, num_classes=classes).double()


def iprm_probe(vector: Vector) -> dict[str, Any]:
    first, steps = vector["inputs"]["steps"][0], []
    plan = attached(IPRM(**given(vector, "alpha")), first["features"], len(first["mix_bias"]))
    (head,) = plan.mix_heads.values()
    for step in vector["inputs"]["steps"]:
        filled(plan, {head: (step["mix_weight"], step["mix_bias"])})
        features, logits = ({m: tensor(x) for m, x in step[k].items()} for k in ("features", "unimodal_logits"))
        samples = batch([0] * len(next(iter(features.values()))))
        divergence = plan.probe([0], features, logits, samples, Context())
        both = {"lam": plan.lam[0].clone(), "kl": divergence[0], "lam_hat": plan.lam_hat[0].clone()}
        steps.append({name: dict(zip(features, x, strict=True)) for name, x in both.items()})
    return {"steps": steps}


def iprm_step(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    features, samples = leaves(inputs["features"]), batch(inputs["label"])
    plan = attached(IPRM(), inputs["features"], len(next(iter(inputs["head_bias"].values()))))
    names = ["".join(pair) for pair in plan.modality_pairs]
    heads = {head: (inputs["head_weight"][m], inputs["head_bias"][m]) for m, head in plan.heads.items()}
    for name, head in zip(names, plan.mix_heads.values(), strict=True):
        heads[head] = inputs["mix_weight"][name], inputs["mix_bias"][name]
    filled(plan, heads)
    for weights in (plan.lam, plan.lam_hat):  # so that the average of both is the one given
        weights.copy_(tensor([inputs["lam"][name] for name in names]))
    output = Output(torch.zeros(len(samples), plan.num_classes, dtype=torch.float64), {}, dict(features))
    output = plan.replace_unimodal_logits(output)
    loss = torch.stack(list(plan.losses(output, samples, Context()).values())).sum()
    loss.backward()
    return {
        "loss": loss.detach(),
        "lam_hat": dict(zip(names, plan.lam_hat, strict=True)),
        "grad_features": gradients(features),
        "prediction": output.logits,
    }


# ---- mnl
def mnl_loss(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    label, names = torch.tensor(inputs["label"]), list(inputs["unimodal_logits"])
    logits = torch.stack([tensor(z) for z in inputs["unimodal_logits"].values()])
    rival = rivals(tensor(inputs["logits"]), label)
    margin = margins(logits, label, rival)
    guide = guides(margin, certainties(logits, label), torch.ones_like(margin, dtype=torch.bool))
    guided_by = [next((m for m, x in zip(names, column, strict=True) if x), None) for column in guide.T.tolist()]
    decided = {"rival": rival, "margin": dict(zip(names, margin, strict=True)), "guide": guided_by}
    return {**of_logits(MNL(**given(vector, "lam")), vector), **decided}


# ---- arl
def arl_coefficients(vector: Vector) -> dict[str, Any]:
    inputs, temperature = vector["inputs"], vector["hyperparams"]["T"]
    logits = {m: tensor(z) for m, z in inputs["unimodal_logits"].items()}
    plan = ARL(temperature=temperature)
    plan.modalities = tuple(logits)
    found = statistics(logits, batch(inputs["label"]), Context())
    decided = asymmetry(found, temperature)
    return {
        **found._asdict(),
        **decided._asdict(),
        "factor": plan.factors(found, Context()),
        "printed": printed_weights(found, temperature)._asdict(),
    }


class Held(nn.Module):
    """An encoder whose only parameter is the feature that it gives, so that a gradient of it is one of the feature."""

    def __init__(self, feature: Any) -> None:
        super().__init__()
        self.feature = nn.Parameter(tensor(feature))

    def forward(self, x: Tensor) -> Tensor:
        return self.feature


def arl_step(vector: Vector) -> dict[str, Any]:
    inputs, hyper = vector["inputs"], vector["hyperparams"]
    encoders = {m: Held(f) for m, f in inputs["features"].items()}
    features = {m: encoder.feature for m, encoder in encoders.items()}
    fusion = Concat({m: f.shape[1] for m, f in features.items()}, len(inputs["bias"]))
    set_concat(fusion, inputs["weight"], inputs["bias"])
    plan = ARL(hyper["gamma"], hyper["T"], variant=hyper["variant"], warmup=hyper["start"] + 1)
    plan.attach(encoders, fusion=fusion)
    samples, ctx = batch(inputs["label"]), Context(epoch=inputs["epoch"])
    output = plan.replace_unimodal_logits(Output(fusion(features), {}, dict(features)))
    losses = plan.losses(output, samples, ctx)
    plan.differentiate(losses, ctx)
    plain = {m: g.clone() for m, g in gradients(features).items()}
    plan.on_gradients(output.detach(), samples, ctx)
    assert fusion.head.weight.grad is not None
    columns = torch.split(fusion.head.weight.grad, list(fusion.dims.values()), dim=1)
    return {
        "loss": torch.stack(list(losses.values())).sum().detach(),
        "factor": {m: ctx.logs.get(f"coefficient/{m}", 1.0) for m in features},
        "unimodal_logits": {m: z.detach() for m, z in output.unimodal_logits.items()},
        "grad_features_plain": plain,
        "grad_features": gradients(features),
        "grad_weight": dict(zip(features, columns, strict=True)),
        "grad_bias": fusion.head.bias.grad,
    }


# ---- remix
def remix_select(vector: Vector) -> dict[str, Any]:
    inputs = vector["inputs"]
    bits = {m: bits_from_uniform(tensor(z)) for m, z in inputs["unimodal_logits"].items()}
    values, there = torch.stack(list(bits.values())), inputs.get("present")
    present = torch.ones_like(values, dtype=torch.bool) if there is None else torch.tensor([there[m] for m in bits])
    return {"kl_bits": bits, "kept": [list(bits)[k] for k in weakest(values, present).tolist()]}


def remix_batches(vector: Vector) -> dict[str, Any]:
    plan, inputs = Remix(), vector["inputs"]
    plan.modalities = tuple(inputs["modalities"])
    plan._kept = torch.tensor([plan.modalities.index(m) for m in inputs["kept"]])
    sampling = plan.epoch_sampling(len(plan._kept), Context())
    assert sampling is not None
    cut = sampling.cut(torch.arange(len(plan._kept)), vector["hyperparams"]["batch_size"])
    batches = [Batch({}, rows, rows, group=sampling.group_of(rows)) for rows in cut]
    return {"batches": [[plan.shown(x), len(x)] for x in batches]}


def remix_loss(vector: Vector) -> dict[str, Any]:
    inputs, hyper = vector["inputs"], vector["hyperparams"]
    encoders = nn.ModuleDict({m: Held(f) for m, f in inputs["features"].items()})
    names, features = list(encoders), {m: encoder.feature for m, encoder in encoders.items()}
    dims = {m: f.shape[1] for m, f in features.items()}
    fusion = Concat(dims, len(inputs["bias"]))
    set_concat(fusion, inputs["weight"], inputs["bias"])
    plan = Remix(w=hyper["warm"], gamma=hyper["gamma"])
    plan.attach(encoders, fusion=fusion, dims=dims, num_classes=len(inputs["bias"]))
    filled(plan, {head: (inputs["head_weight"][m], inputs["head_bias"][m]) for m, head in plan.heads.items()})
    samples, keep = batch(inputs["label"]), inputs["keep"]
    samples.inputs = {m: f.detach() for m, f in features.items()}
    if keep is not None:
        samples.group = len(names) - 1 - names.index(keep)
        samples.present = {m: torch.full_like(samples.label, m == keep, dtype=torch.bool) for m in names}
    model = MultimodalModel(encoders, fusion)
    seen = model.encode(samples.inputs) if keep is None else plan.encode(keep, samples, model)
    output = plan.replace_unimodal_logits(model.fuse(seen, samples.present))
    loss = torch.stack(list(plan.losses(output, samples, Context()).values())).sum()
    loss.backward()
    return {"loss": loss.detach(), "grad_features": gradients(features)}


KINDS: dict[str, Callable[[Vector], dict[str, Any]]] = {
    "miles_rule": miles_rule,
    "miles_rates": miles_rates,
    "miles_loss": miles_loss,
    "iprm_mix": iprm_mix,
    "iprm_edges": iprm_edges,
    "iprm_hat": iprm_hat,
    "iprm_probe": iprm_probe,
    "iprm_step": iprm_step,
    "mnl_loss": mnl_loss,
    "arl_coefficients": arl_coefficients,
    "arl_step": arl_step,
    "remix_select": remix_select,
    "remix_batches": remix_batches,
    "remix_loss": remix_loss,
}


def of_kind(vector: Vector) -> dict[str, Any]:
    """What the kind of a vector asks for."""
    kind = vector.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise Unsupported(f"no kind {kind!r} here")
    return KINDS[kind](vector)


CHECKERS: dict[str, Checker] = {
    "miles": of_kind,
    "iprm": of_kind,
    "mnl": of_kind,
    "arl": of_kind,
    "remix": of_kind,
}
