"""What every checker needs: the form of a vector, and its numbers as tensors."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from ogm.context import Context
from ogm.imbalance import true_class_scores
from ogm.types import Batch

Vector = Mapping[str, Any]
Checker = Callable[[Vector], dict[str, Any]]


LARGEST = 100_000  # of the numbers a vector may give: some of them are sizes, or counts of steps


class Form(BaseModel):
    """The keys of a vector."""

    model_config = ConfigDict(extra="forbid", strict=True)

    inputs: dict[str, Any]
    expected: dict[str, Any]
    hyperparams: dict[str, Any] = {}
    tolerance: float = Field(1e-6, gt=0, allow_inf_nan=False)
    id: str = ""
    name: str = ""
    kind: str = ""
    note: str = ""


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


def scores(vector: Vector) -> dict[str, Tensor]:
    """modality -> score sum, from whichever of the three kinds of input a vector has."""
    inputs = vector["inputs"]
    if "score_sum" in inputs:
        return {m: tensor(s) for m, s in inputs["score_sum"].items()}
    if "unimodal_logits" in inputs:
        logits = {m: tensor(z) for m, z in inputs["unimodal_logits"].items()}
        return true_class_scores(logits, batch(inputs["labels"]), Context())
    if "true_class_prob_per_rank" in inputs:
        ranks = [of_probabilities(probabilities) for probabilities in inputs["true_class_prob_per_rank"]]
        return {m: torch.stack([rank[m] for rank in ranks]).sum() for m in ranks[0]}
    if "true_class_prob" in inputs:
        return of_probabilities(inputs["true_class_prob"])
    raise Unsupported("no scores among the inputs")


def of_probabilities(probabilities: Mapping[str, list[float | None]]) -> dict[str, Tensor]:
    """Two-class logits with these true-class probabilities, through the function that makes scores of logits."""
    logits = {
        m: torch.stack(
            [torch.logit(tensor([0.5 if p is None else p for p in ps])), torch.zeros(len(ps), dtype=torch.float64)], 1
        )
        for m, ps in probabilities.items()
    }
    samples = batch([0] * len(next(iter(probabilities.values()))))
    samples.present = {m: torch.tensor([p is not None for p in ps]) for m, ps in probabilities.items()}
    return true_class_scores(logits, samples, Context())


def vectors(path: Path) -> Iterator[tuple[str, str, Vector]]:
    """(method, id, vector) of a file. Raises OSError, and ValueError in one line for what is no file of vectors."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError("not an object of methods")
    for method, group in found.items():
        if method.startswith("_"):
            continue
        if not isinstance(group, list) or not method.isprintable():
            raise ValueError(f"{method!a} is not a list of vectors")
        for number, vector in enumerate(group):
            name = _checked(vector, f"{method}, vector {number}") or str(number)
            yield method, name, vector


def _checked(vector: Any, where: str) -> str:
    """What a vector calls itself. Raises ValueError for one of another form."""
    try:
        form = Form.model_validate(vector)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {key + ': ' if key else ''}{first['msg'][0].lower()}{first['msg'][1:]}") from None
    name = form.id or form.name
    if not name.isprintable():
        raise ValueError(f"{where}: the name {name!a} cannot be printed")
    given: list[Any] = [form.inputs, form.hyperparams]
    while given:
        one = given.pop()
        if isinstance(one, dict | list):
            given += one.values() if isinstance(one, dict) else one
        elif isinstance(one, int | float) and math.isfinite(one) and abs(one) > LARGEST:
            raise ValueError(f"{where}: a number of more than {LARGEST} among its inputs")
    return name
