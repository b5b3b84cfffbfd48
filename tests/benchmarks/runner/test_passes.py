"""Encoder passes are counted where they happen: one for each sample and modality, evaluation left out."""

from __future__ import annotations

import copy

import pytest
import torch

from benchmarks.runner.passes import PassCounter
from tests.helpers.engines import SAMPLES, build, train

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("method", "fusion", "forwards", "backwards"),  # in passes over the training set
    [
        ("vanilla", "concat", 2, 2),
        ("vanilla", "mmtm", 2, 2),  # goes through the encoders stage by stage
        ("vanilla", "mbt", 2, 2),
        ("ogm_ge", "film", 2, 2),
        ("unimodal", "concat", 1, 1),
        ("mmpareto", "concat", 2, 4),  # a gradient for each loss
        ("mla", "concat", 2, 2),  # one modality at a time
        ("umt", "concat", 4, 2),  # teachers are encoded, too
        ("reconboost", "concat", 2, 1),  # the other encoder is frozen
    ],
)
def test_passes_of_an_epoch(method: str, fusion: str, forwards: int, backwards: int) -> None:
    engine = build(method, fusion)
    counter = PassCounter([engine.model, *engine.strategy._trained.values()])
    with counter.counting(CPU):
        train(engine)
    assert (counter.forwards, counter.backwards) == (forwards * SAMPLES, backwards * SAMPLES)
    list(engine.predict("val"))
    assert counter.forwards == forwards * SAMPLES


def test_counting_changes_no_bit() -> None:
    engine, plain = build("mmpareto"), build("mmpareto")
    with PassCounter([engine.model]).counting(CPU):
        train(engine)
    train(plain)
    for p, q in zip(engine.parameters, plain.parameters, strict=True):
        assert torch.equal(p, q)


def test_micro_batches_and_copies_count_alike() -> None:
    engine = build(micro_batch=5)
    counter = PassCounter([engine.model])
    with counter.counting(CPU):
        train(engine)
    assert (counter.forwards, counter.backwards) == (2 * SAMPLES, 2 * SAMPLES)
    twin, batch = copy.deepcopy(engine.model), next(iter(engine.loaders["val"].all()))
    with counter.counting(CPU):
        twin.encode(batch.inputs)
    assert counter.forwards == 2 * SAMPLES + 2 * len(batch)
