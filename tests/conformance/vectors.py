"""What every checker needs: the form of a vector, and its numbers as tensors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ogm.context import Context
from ogm.scores import true_class_scores
from ogm.types import Batch

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


def vectors(path: Path) -> Iterator[tuple[str, str, Vector]]:
    """(method, id, vector) of a file."""
    for method, some in json.loads(path.read_text()).items():
        if not method.startswith("_"):
            for number, vector in enumerate(some):
                yield method, str(vector.get("id") or vector.get("name") or number), vector
