"""Linear heads over concatenated features."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import ogm
from tests.helpers.engines import CLASSES, THREE, TWO, build, digest
from tests.helpers.own_loop import engines, hand_written, three_batches


def test_a_linear_head_splits_as_the_fusion_does() -> None:
    fusion = build("vanilla", modalities=THREE).model.fusion
    with torch.no_grad():
        fusion.head.bias.normal_()
    features = {m: torch.randn(5, d) for m, d in fusion.dims.items()}
    own = ogm.split_linear(fusion.head, features)
    expected = fusion.unimodal_logits(features)
    assert all(torch.equal(own[m], expected[m]) for m in THREE)
    torch.testing.assert_close(torch.stack(list(own.values())).sum(0), fusion(features))
    bare = nn.Linear(fusion.head.in_features, 4, bias=False)
    own = ogm.split_linear(bare, features)
    torch.testing.assert_close(torch.stack(list(own.values())).sum(0), bare(torch.cat(list(features.values()), 1)))


def test_what_does_not_split_is_refused_in_a_line() -> None:
    features = {m: torch.randn(5, 3) for m in TWO}
    with pytest.raises(ValueError, match="the head reads 7 numbers, the features have 6"):
        ogm.split_linear(nn.Linear(7, 4), features)
    with pytest.raises(ValueError, match=r"splits one torch.nn.Linear over all features, got Sequential"):
        ogm.split_linear(nn.Sequential(nn.Linear(6, 4)), features)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["opm", "cml", "mmcosine", "mlb", "cggm", "agm"])
def test_a_plain_linear_head_serves_as_fusion(method: str) -> None:
    ours, theirs = build(method), build(method)
    fusion = theirs.model.fusion
    theirs.strategy.attach(theirs.model.encoders, dims=fusion.dims, num_classes=CLASSES, fusion=fusion.head)
    theirs.strategy.load_state_dict(ours.strategy.state_dict())
    groups = [{"params": list(theirs.model.parameters())}, *(g for g in theirs.strategy.param_groups() if g["params"])]
    theirs.optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=1e-4)
    theirs.parameters = [p for g in groups for p in g["params"]]
    engines(ours, three_batches(ours)), hand_written(theirs, three_batches(theirs))
    assert digest(ours) == digest(theirs)
