"""AGM: what its paper and its docstring claim, and its edges."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.engine import Engine
from ogm.parts.stages import evaluation_mode
from ogm.strategies.agm import AGM, lead_ratios, modulation_factors, scale_backward, shapley_responses
from ogm.types import Batch, Output
from tests.helpers.engines import THREE, TWO, build, strategy
from tests.helpers.methods import D, build64, close, one_step


class Normed(nn.Module):
    """An encoder that behaves otherwise in training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(64, 8)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


def with_norms(modalities: tuple[str, ...], fusion: str, **options: Any) -> Engine:
    torch.manual_seed(0)
    engine = build64("agm", fusion, modalities, options=options)
    for i, m in enumerate(modalities):
        engine.model.encoders[m] = Normed(i + 1).to(D)
    plan = AGM(**options).attach(engine.model.encoders, dims=engine.model.fusion.dims, fusion=engine.model.fusion).to(D)
    optimizer = torch.optim.SGD(engine.model.parameters(), lr=0.1)
    return Engine(engine.model, plan, optimizer, loaders=engine.loaders)


@pytest.mark.parametrize("fusion", ["concat", "film"])
@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_zero_inputs_are_encoded_once_but_count_as_in_the_official_passes(
    modalities: tuple[str, ...], fusion: str
) -> None:
    """The naive way: the whole model in evaluation mode for every subset, on whole batches of zeros."""
    engine = with_norms(modalities, fusion, clip=None)
    model, plan = engine.model, engine.strategy
    plan.running.copy_(torch.arange(len(modalities)))
    running = plan.running.clone()
    batch: Batch = engine.loaders["train"].epoch(0)[0]
    model.train()
    statistics = {n: b.clone() for n, b in model.named_buffers()}
    worth = {frozenset(modalities): model.fuse(model.encode(batch.inputs)).logits}
    with evaluation_mode(*model.modules()):
        for size in range(1, len(modalities)):
            for some in itertools.combinations(modalities, size):
                inputs = {m: x * (m in some) for m, x in batch.inputs.items()}
                worth[frozenset(some)] = model.fuse(model.encode(inputs)).logits
    phi = shapley_responses(worth, modalities)
    prob = torch.stack([p.detach().softmax(1)[torch.arange(len(batch)), batch.label] for p in phi.values()])
    ce = -prob.clamp_min(1e-8).log().mean(1)
    kappa = dict(
        zip(modalities, modulation_factors(ce, running, 1.0, 10.0 if len(modalities) == 2 else 7.0), strict=True)
    )
    loss = nn.functional.cross_entropy(scale_backward(worth[frozenset(modalities)], phi, kappa), batch.label)
    names, parameters = zip(*model.named_parameters(), strict=True)
    expected = dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))
    model.load_state_dict(model.state_dict() | statistics)
    found = one_step(engine)
    for m in modalities:
        close(engine.logs[f"coefficient/{m}"], kappa[m])
    for name, grad in expected.items():
        close(found[name], grad)
    assert all(x.training for x in model.modules())


def test_ablated_passes_leave_running_statistics_alone() -> None:
    engine = with_norms(TWO, "concat")
    one_step(engine)
    assert all(int(x.num_batches_tracked) == 1 for x in engine.model.modules() if isinstance(x, nn.BatchNorm2d))


@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_with_features_set_to_zero_kappa_scales_encoders_and_columns(modalities: tuple[str, ...]) -> None:
    plain = one_step(build64("vanilla", modalities=modalities))
    engine = build64("agm", modalities=modalities, options={"ablation": "feature", "clip": None})
    found = one_step(engine)
    kappa = {m: engine.logs[f"coefficient/{m}"] for m in modalities}
    assert len(set(map(float, kappa.values()))) > 1
    for name, grad in plain.items():
        if name.startswith("encoders."):
            close(found[name], kappa[name.split(".")[1]] * grad)
    for m, columns in zip(modalities, plain["fusion.head.weight"].split(8, 1), strict=True):
        at = 8 * modalities.index(m)
        close(found["fusion.head.weight"][:, at : at + 8], kappa[m] * columns)
    close(found["fusion.head.bias"], sum(kappa.values()) / len(kappa) * plain["fusion.head.bias"])


def test_leading_by_more_than_usual_slows_down() -> None:
    usual = torch.tensor([1.0, 1.5], dtype=D)
    more, same = (
        modulation_factors(usual - torch.tensor([0.5, 0.0]), usual, 1.0, 10.0),
        modulation_factors(usual, usual, 1.0, 10.0),
    )
    assert more[0] < 1 < more[1] and torch.equal(same, torch.ones(2, dtype=D))
    assert lead_ratios(usual)[0] > 1 > lead_ratios(usual)[1]
    assert float(
        modulation_factors(torch.tensor([90.0, 0.0], dtype=D), torch.tensor([0.0, 90.0], dtype=D), 0.5, 7.0)[0]
    ) == (pytest.approx(np.exp(0.5 * 7.0)))


def test_equal_kappas_are_a_scale_and_the_logits_stay_what_they_are() -> None:
    engine = build64("agm", "gated")
    batch = engine.loaders["train"].epoch(0)[0]
    output = engine.model.fuse(engine.model.encode(batch.inputs))
    phi = shapley_responses(engine.strategy.subset_logits(output, batch), TWO)
    close(torch.stack(list(phi.values())).sum(0), output.logits)
    loud = scale_backward(output.logits, phi, {m: torch.tensor(3.0, dtype=D) for m in TWO})
    assert torch.equal(loud, output.logits)
    parameters = list(engine.model.fusion.parameters())
    ours = torch.autograd.grad(loud.square().sum(), parameters, retain_graph=True)
    for one, other in zip(ours, torch.autograd.grad(output.logits.square().sum(), parameters), strict=True):
        close(one, 3 * other)


def test_a_steep_head_clips_everything_and_a_flat_one_nothing() -> None:
    free, held = build64("agm", options={"clip": None}), build64("agm", options={"clip": 0.01})
    before, after = one_step(free), one_step(held)
    assert before["fusion.head.weight"].abs().max() < 1  # flat
    assert all(torch.equal(g, after[name]) for name, g in before.items())
    for engine in (free, held):
        with torch.no_grad():
            engine.model.fusion.head.weight.mul_(40)
            for m in TWO:
                engine.loaders["train"].data.inputs[m] *= 40
    before, after = one_step(free), one_step(held)
    if before["fusion.head.weight"].abs().max() > 1:
        assert torch.cat([g.flatten() for g in after.values()]).norm() < 0.0101
    else:
        pytest.fail("this batch was to be steep")


def test_agm_says_what_it_needs() -> None:
    encoders = {m: nn.Linear(2, 3) for m in TWO}
    fusion = build("vanilla").model.fusion
    output = Output(torch.zeros(2, 4, requires_grad=True))
    with pytest.raises(ValueError, match="pass fusion="):
        AGM().attach(encoders).backward(output, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="agm needs the inputs of every modality"):
        AGM().attach(encoders, fusion=fusion).backward(output, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="agm needs the features of every modality"):
        AGM(ablation="feature").attach(encoders, fusion=fusion).backward(output, torch.tensor([0, 1]))


def test_scores_that_are_no_numbers_change_nothing_and_are_not_remembered() -> None:
    plan = strategy("agm").attach({m: nn.Linear(2, 3) for m in TWO}, fusion=build("vanilla").model.fusion)
    phi = {m: torch.full((3, 4), torch.nan) for m in TWO}
    ctx = Context()
    batch = Batch({}, torch.zeros(3, dtype=torch.long), torch.arange(3))
    kappa = plan.factors(phi, batch, ctx)
    assert all(float(k) == 1 for k in kappa.values()) and int(ctx.logs["coefficients_not_finite"]) == 2
    assert not plan.running.any() and int(plan.count) == 0
