"""Methods of 2025 and 2026 that act on learning rates, mixtures, wrong classes, coefficients and batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.strategies.miles import MILES
from ogm.types import Output
from tests.conformance.common import Checker, Unsupported, Vector, batch, given, tensor

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


KINDS: dict[str, Callable[[Vector], dict[str, Any]]] = {
    "miles_rule": miles_rule,
    "miles_rates": miles_rates,
    "miles_loss": miles_loss,
}


def of_kind(vector: Vector) -> dict[str, Any]:
    """What the kind of a vector asks for."""
    kind = vector.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise Unsupported(f"no kind {kind!r} here")
    return KINDS[kind](vector)


CHECKERS: dict[str, Checker] = {
    "miles": of_kind,
}
