"""StaticLR: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import torch

from tests.helpers.engines import (
    build,
    train,
)
from tests.helpers.methods import Q64


def test_static_lr_is_a_smaller_learning_rate() -> None:
    slow = build("static_lr", options={"factors": {"audio": 0.25}}, max_norm=None, **Q64)
    plain = build("vanilla", max_norm=None, **Q64)
    audio = list(plain.model.encoders["audio"].parameters())
    rest = [p for p in plain.parameters if all(p is not q for q in audio)]
    plain.optimizer = torch.optim.SGD(
        [{"params": audio, "lr": 0.025}, {"params": rest}], lr=0.1, momentum=0.9, weight_decay=1e-4
    )
    plain.scheduler = None
    train(slow), train(plain)
    for (name, p), q in zip(slow.model.named_parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12, msg=name)
