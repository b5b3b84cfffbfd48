"""CGGM: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ogm.strategies.cggm import CGGM, others_share
from tests.helpers.engines import TWO
from tests.helpers.methods import D, build64, close, one_step


def test_shares_are_of_the_others_gains() -> None:
    gains = torch.tensor([0.3, 0.1, 0.0], dtype=D)
    b = others_share(gains)
    assert b[0] < b[1] < b[2] and float(b.sum()) == pytest.approx(2)
    wild = torch.tensor([0.2, -0.1999], dtype=D)
    assert others_share(wild, safe=False).abs().max() > 1000 and others_share(wild).tolist() == [0.5, 0.5]
    assert others_share(torch.tensor([0.5, -0.3], dtype=D)).tolist() == [0, 2]


def test_cggm_scales_encoders_and_its_classifiers_leave_them_alone() -> None:
    plain = one_step(build64("vanilla"))
    engine = build64("cggm", options={"clip": None})
    found = one_step(engine)
    for name, grad in plain.items():
        part, m = name.split(".")[:2]
        close(found[name], grad * (engine.logs[f"coefficient/{m}"] if part == "encoders" else 1.0))
    assert all(found[n].any() for n in found if n.startswith("classifiers."))
    again = one_step(engine, 1)  # now there is a last batch, which pulls the head to the classifiers, not them to it
    other = build64("cggm", options={"clip": None, "lam": 0.0})
    one_step(other)
    alone = one_step(other, 1)
    changed = {name for name in alone if not torch.equal(alone[name], again[name])}
    assert changed == {"fusion.head.weight"}


def test_cggm_clips_the_network_alone() -> None:
    free, held = one_step(build64("cggm", options={"clip": None})), one_step(build64("cggm", options={"clip": 1e-3}))
    own = [n for n in free if n.startswith("classifiers.")]
    assert own and all(torch.equal(free[n], held[n]) for n in own)
    assert torch.cat([g.flatten() for n, g in held.items() if n not in own]).norm() < 1.0001e-3


def test_cggms_classifiers_have_a_learning_rate_of_their_own() -> None:
    plan = CGGM(classifier_lr=5e-4).attach({m: nn.Linear(2, 3) for m in TWO}, dims=dict.fromkeys(TWO, 3), num_classes=4)
    (group,) = plan.param_groups()
    assert group["lr"] == 5e-4 and group["clip"] is False and plan.last_layer() is None
    assert "lr" not in CGGM().param_groups()[0]
