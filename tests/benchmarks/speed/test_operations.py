"""How many operations a step of each method may ask of torch, over those of vanilla: two ResNet-18s, small inputs."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

from benchmarks.config.run_config import configure
from benchmarks.speed import steps
from benchmarks.speed.operations import CountedOperations, count_operations

SHAPES = {"audio": (1, 33, 33), "visual": (3, 1, 33, 33)}  # the count does not depend on them
AT_MOST = {
    "ogm": 20,
    "weak_boost": 20,
    "ge_noise": 45,
    "ogm_ge": 45,
    "inforeg": 120,
    "cggm": 120,
    "greedy": 120,
    "mmpareto": 260,
    "agm": 500,
}


@cache
def operations(row: str) -> int:
    data = steps.batch(2, "cpu", SHAPES)
    engine = steps.engine(*steps.methods()[row], configure({"dataset": "crema_d"}), "cpu", data)
    steps.seconds(engine, data, 1)
    return count_operations(engine, data)


@pytest.mark.parametrize("method", AT_MOST)
def test_a_method_adds_few_operations(method: str) -> None:
    assert operations(method) - operations("vanilla") <= AT_MOST[method]


def test_operations_are_counted_forward_backward_and_on_lists() -> None:
    layer, x = nn.Linear(3, 2, bias=False), torch.ones(4, 3)
    with CountedOperations() as counted:
        layer(x.view(2, 2, 3)[0]).sum().backward()
        torch._foreach_mul_([torch.empty(5), torch.empty(6)], 0.5)
    assert counted.counts == {"aten::mm": 2, "aten::sum": 1, "aten::ones_like": 1, "aten::_foreach_mul_.Scalar": 1}
