"""Greedy: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ogm.strategies import greedy
from tests.helpers.engines import THREE, TWO, build, flat, train
from tests.helpers.methods import Q64


def test_the_branch_that_learns_fastest_from_others_is_held() -> None:
    main, bypass = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([1.0, 100.0, 10.0])
    lead = greedy.speed_leads(main, bypass)
    torch.testing.assert_close(lead, torch.tensor([-1.5, 1.5, 0.0]))
    regular, zero = torch.tensor(-1), torch.tensor(0)
    assert int(greedy.next_rebalanced(regular, zero, lead, 0.01, 5)[0]) == 1
    assert int(greedy.next_rebalanced(regular, zero, lead, 1.5, 5)[0]) == -1
    still = greedy.speed_leads(main, torch.tensor([0.0, 1.0, 1.0]))
    assert int(greedy.next_rebalanced(regular, zero, still, 0.01, 5)[0]) == -1
    nan = torch.full((3,), torch.nan)
    assert int(greedy.next_rebalanced(regular, zero, nan, 0.01, 5)[0]) == -1


def test_speed_is_of_all_parameters_together() -> None:
    a, b = nn.Parameter(torch.tensor([3.0, 4.0])), nn.Parameter(torch.tensor([5.0]))
    a.grad = torch.tensor([1.0, 2.0])
    assert greedy.speeds([[a, b], [b]]).tolist() == pytest.approx([5 / 50, 0])


@pytest.mark.parametrize("fusion", ["concat", "mmtm", "mmtm_concat"])
def test_held_gates_are_the_running_means_and_stand_still(fusion: str) -> None:
    engine = train(build("greedy", fusion, **Q64))
    plan, batch = engine.strategy, engine.loaders["train"].epoch(1)[0]
    assert (plan.unit is None) == (fusion != "concat")
    let_through: dict[str, Tensor] = {}
    layers = {}
    for name, i, gate in plan.gates():
        layers[name] = (i, [p.detach().clone() for p in gate.parameters()], list(gate.parameters()))
    before = {name: buffer.clone() for name, buffer in plan.named_buffers()}
    plan.held.fill_(1)
    plan.held_steps.fill_(0)
    real = plan._replace_gate

    def hear(name: str, *args: object) -> Tensor:
        let_through[name] = real(name, *args)
        return let_through[name]

    plan._replace_gate = hear
    engine.logs = {}
    plan.step(batch, engine)
    for name, (i, old, new) in layers.items():
        mean = plan.get_buffer(f"gate_mean_{name}")
        assert torch.equal(mean, before[f"gate_mean_{name}"])
        assert i != 1 or torch.equal(let_through[name], mean.expand(len(batch), -1))
        assert i == 1 or not torch.allclose(let_through[name], mean.expand(len(batch), -1))
        assert all(torch.equal(a, b) for a, b in zip(old, new, strict=True)) == (i == 1)
    assert torch.equal(plan.main, before["main"]) and torch.equal(plan.bypass, before["bypass"])
    assert float(engine.logs["rebalancing"]) == 1 and int(plan.held_steps) == 1


@pytest.mark.parametrize("fusion", ["concat", "mmtm"])
def test_evaluation_is_regular_and_moves_nothing(fusion: str) -> None:
    engine = train(build("greedy", fusion))
    said = []
    for held in (-1, 0, 1):
        engine.strategy.held.fill_(held)
        before = {name: x.clone() for name, x in engine.strategy.state_dict().items() if isinstance(x, Tensor)}
        said.append(torch.cat([o.logits for o, _ in engine.predict("val")]))
        assert all(torch.equal(x, engine.strategy.state_dict()[name]) for name, x in before.items())
    assert torch.equal(said[0], said[1]) and torch.equal(said[0], said[2])
    assert {"main", "bypass", "held", "held_steps", "regular_steps"} <= before.keys()


def test_a_run_takes_turns() -> None:
    engine = train(build("greedy", options={"warmup": 1, "window": 2}), 3)
    rebalancing = engine.curves["rebalancing"]
    assert rebalancing[0] == 0 and all(0 < x < 1 for x in rebalancing[1:])


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_greedy_with_units_of_the_fusion(modalities: tuple[str, ...], missing: bool) -> None:
    engine = train(build("greedy", "mmtm", modalities, missing=missing), 2)
    assert torch.isfinite(flat(engine)).all()
    for output, batch in engine.predict("val"):
        own = torch.stack([output.unimodal_logits[m] for m in modalities])
        here = torch.stack([batch.has_all([m]) for m in modalities])[..., None]
        torch.testing.assert_close(output.logits, (own * here).sum(0) / here.sum(0))
    assert all(unit is not None for unit in engine.strategy._units) and engine.strategy.unit is None


def test_without_gates_greedy_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="use mmtm, or auto_mmtm=true"):
        build("greedy", options={"auto_mmtm": False})
    train(build("greedy", "mmtm", options={"auto_mmtm": False}))
