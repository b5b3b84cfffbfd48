"""Vanilla: plain joint training."""

from __future__ import annotations

import torch
from torch import nn

from tests.helpers.engines import build, flat, train


def test_it_is_the_training_loop_that_one_would_write() -> None:
    engine, other = build("vanilla", max_norm=None), build("vanilla", max_norm=None)
    optimizer = torch.optim.SGD(other.model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    other.model.train()
    for batch in other.loaders["train"].epoch(0):
        optimizer.zero_grad()
        nn.functional.cross_entropy(other.model(batch.inputs).logits, batch.label).backward()
        optimizer.step()
    torch.testing.assert_close(flat(train(engine)), flat(other))
