"""The bottleneck transformer: one layer of exchange, and how it starts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.encoders.cnn import CNN
from models.fusions.mbt import MBT, exchange
from models.model import MultimodalModel
from ogm.context import Context
from ogm.imbalance import discrepancy_ratios, true_class_scores
from ogm.types import Batch
from tests.helpers.models import SHAPES, inputs, perturbed


def test_bottlenecks_of_a_layer_are_read_by_all_streams_alike_and_averaged_over_those_present() -> None:
    streams = {"a": torch.rand(2, 3, 4), "v": torch.rand(2, 5, 4)}
    shared, seen = torch.rand(2, 2, 4), {}

    def block(m: str, factor: float) -> Any:
        def call(both: Tensor) -> Tensor:
            seen[m] = both
            return factor * both

        return call

    weight = torch.tensor([[1.0, 0.0], [1.0, 1.0]])  # the second sample has no a
    out, after = exchange(streams, shared, {"a": block("a", 2.0), "v": block("v", 4.0)}, weight)
    for m, factor in (("a", 2.0), ("v", 4.0)):
        assert torch.equal(seen[m][:, -2:], shared) and torch.equal(out[m], factor * streams[m])
    torch.testing.assert_close(after, torch.stack([3 * shared[0], 4 * shared[1]]))


def test_a_bottleneck_transformer_starts_undecided_and_averages_what_its_streams_say() -> None:
    torch.manual_seed(0)
    encoders = {m: CNN(shape, widths=(4, 8)) for m, shape in SHAPES.items()}
    net = MultimodalModel(encoders, MBT(dict.fromkeys(SHAPES, 8), 3, width=8, heads=2)).double()
    output = net(inputs())
    assert not output.logits.any() and not any(z.any() for z in output.unimodal_logits.values())
    rho = discrepancy_ratios(
        true_class_scores(output.unimodal_logits, Batch({}, torch.arange(5) % 3, torch.arange(5)), Context())
    )
    assert all(float(r) == 1 for r in rho.values())
    output = perturbed(net)(inputs())
    torch.testing.assert_close(output.logits, torch.stack(list(output.unimodal_logits.values())).mean(0))
    assert torch.equal(net.fusion.head(output.features["text"]), output.unimodal_logits["text"])
