"""SSLPretrain: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.helpers.engines import build, flat, train
from tests.helpers.methods import Q64, weights


@pytest.mark.parametrize(
    ("method", "options"),
    [("unimodal_pretrain_finetune", {}), ("ssl_pretrain", {}), ("ssl_pretrain", {"objective": "avid"})],
)
def test_encoders_start_where_the_earlier_runs_ended(method: str, options: dict[str, Any]) -> None:
    engine, fresh = build(method, options=options), build("vanilla")
    trained = engine.strategy._trained
    for m, encoder in engine.model.encoders.items():
        before = trained[m].encoder if m in trained else trained["encoders"].encoders[m]  # type: ignore[union-attr, index]
        assert torch.equal(weights(encoder), weights(before))  # type: ignore[arg-type]
        assert not torch.equal(weights(encoder), weights(fresh.model.encoders[m]))
    assert torch.equal(weights(engine.model.fusion), weights(fresh.model.fusion))


def test_slow_epochs_are_a_smaller_learning_rate_for_encoders() -> None:
    slow = build("ssl_pretrain", options={"warmup": 1}, max_norm=None, **Q64)
    plain = build("vanilla", max_norm=None, **Q64)
    plain.model.load_state_dict(slow.model.state_dict())
    encoders, rest = list(plain.model.encoders.parameters()), list(plain.model.fusion.parameters())
    plain.optimizer = torch.optim.SGD(
        [{"params": encoders, "lr": 0.01}, {"params": rest}], lr=0.1, momentum=0.9, weight_decay=1e-4
    )
    plain.scheduler = None
    train(slow), train(plain)
    torch.testing.assert_close(flat(slow), torch.cat([p.detach().reshape(-1) for p in plain.model.parameters()]))
    done = [flat(train(build("ssl_pretrain", options=o, **Q64), 2)) for o in ({"warmup": 0}, {"slow": 1.0})]
    torch.testing.assert_close(*done)
