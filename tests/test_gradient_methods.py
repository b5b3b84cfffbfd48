"""Methods that edit gradients or weigh losses at every step: what their papers claim, and their edges."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.engine import Engine
from ogm.parts.gradients import modulation_coefficients
from ogm.parts.heads import unimodal_head_parts
from ogm.strategies.agm import AGM, evaluation_mode, lead_ratios, modulation_factors, scale_backward, shapley_responses
from ogm.strategies.cggm import CGGM, others_share
from ogm.strategies.inforeg import pull_strengths, relative_growth
from ogm.strategies.mlb import pace_factors
from ogm.strategies.mmpareto import combine_gradients
from ogm.strategies.mses import initial_stopping_state, update_stopping_state
from ogm.strategies.mslr import accuracy_quotients
from ogm.strategies.uncertainty_weighting import weighted_loss
from ogm.types import Batch, Output
from tests.small import THREE, TWO, build, digest, flat, strategy, train

MINE = ["mmpareto", "agm", "cggm", "mlb", "mslr", "mses", "inforeg", "uncertainty_weighting"]
D = torch.float64


def one_step(engine: Engine, number: int = 0) -> dict[str, Tensor]:
    """name -> gradient of the model's and the strategy's parameters after a step, which moves nothing."""
    update, engine.update, engine.logs = engine.update, lambda: None, {}
    engine.strategy.step(engine.loaders["train"].epoch(0)[number], engine)
    engine.update = update
    named = (*engine.model.named_parameters(), *engine.strategy.named_parameters())
    found = {n: p.grad.clone() for n, p in named if p.grad is not None}
    engine.optimizer.zero_grad()
    return found


def build64(method: str, fusion: str = "concat", modalities: tuple[str, ...] = TWO, **how: Any) -> Engine:
    return build(method, fusion, modalities, dtype=D, max_norm=None, **how)


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


# ---- all of them
@pytest.mark.parametrize("method", MINE)
def test_a_modality_that_is_nowhere_and_a_batch_of_one(method: str) -> None:
    gone = build(method, missing=True)
    gone.loaders["train"].there[:, 0], gone.loaders["train"].there[:, 1] = False, True
    assert torch.isfinite(flat(train(gone, 2))).all()
    assert torch.isfinite(flat(train(build(method, size=1)))).all()


MISTAKES = [
    ("mmpareto", {"gamma": 0}),
    ("agm", {"alpha": -1}),
    ("agm", {"cap": 0}),
    ("agm", {"clip": 0.0}),
    ("cggm", {"rho": 0}),
    ("cggm", {"classifier_lr": -1.0}),
    ("mlb", {"beta": 0.5}),
    ("mslr", {"memory": 0}),
    ("mslr", {"init": {"audio": 0.0}}),
    ("mslr", {"init": {"odour": 1.0}}),
    ("mses", {"patience": -1}),
    ("inforeg", {"window": 0}),
    ("inforeg", {"beta": {"odour": 1.0}}),
    ("uncertainty_weighting", {"s_init": 9.0}),
]


@pytest.mark.parametrize(("method", "options"), MISTAKES, ids=str)
def test_mistakes_are_said_in_a_line(method: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))) as error:
        build(method, options=options)
    assert "\n" not in str(error.value)


# ---- OGM of the journal
def test_the_journals_coefficient_is_continuous_and_gentler() -> None:
    rho = {"a": torch.tensor(1.0 + 1e-9, dtype=D), "b": torch.tensor(2.0, dtype=D), "c": torch.tensor(0.5, dtype=D)}
    k, paper = modulation_coefficients(rho, 0.8, "journal"), modulation_coefficients(rho, 0.8)
    assert float(k["a"]) == pytest.approx(1) and paper["a"] < 0.5
    assert k["b"] > paper["b"] and k["c"] == 1
    assert modulation_coefficients({"a": torch.tensor(9.0)}, 5.0, "journal")["a"] == 0
    found = {digest(train(build(m, options={"variant": v}))) for m in ("ogm", "ogm_ge") for v in ("paper", "journal")}
    assert len(found) == 4


# ---- MMPareto
def naive(joint: list[np.ndarray], own: list[np.ndarray], gamma: float) -> list[np.ndarray]:
    """The integration as the specification writes it, with the shortest vector searched for on a grid."""
    g, u = (np.concatenate([x.ravel() for x in side]) for side in (joint, own))
    a = 0.5
    if g @ u <= 0:
        grid = np.linspace(0.001, 0.999, 200_001)
        lengths = grid**2 * (g @ g) + 2 * grid * (1 - grid) * (g @ u) + (1 - grid) ** 2 * (u @ u)
        a = grid[lengths.argmin()]
    final = []
    for x, y in zip(joint, own, strict=True):
        v, t = 2 * a * x + 2 * (1 - a) * y, x + y
        short = 1e-6 * np.linalg.norm(t) < np.linalg.norm(v) < np.linalg.norm(t)
        final.append(gamma * v * (np.linalg.norm(t) / np.linalg.norm(v) if short else 1.0))
    return final


@pytest.mark.parametrize("seed", range(8))
def test_integration_is_the_naive_one(seed: int) -> None:
    r = np.random.default_rng(seed)
    joint = [r.normal(size=s) for s in ((3, 4), (5,), (1,))]
    sign, size = (-1) ** seed, 10.0 ** r.integers(-2, 3)
    own = [size * (sign * 0.7 * g + r.normal(size=g.shape)) for g in joint]
    final, cosine, _ = combine_gradients([torch.from_numpy(g) for g in joint], [torch.from_numpy(g) for g in own], 1.5)
    for ours, theirs in zip(final, naive(joint, own, 1.5), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-3, atol=1e-3 * np.linalg.norm(theirs))
    g, u = (np.concatenate([x.ravel() for x in side]) for side in (joint, own))
    assert np.sign(g @ u) == np.sign(float(cosine))


@pytest.mark.parametrize("seed", range(4))
def test_the_direction_serves_both_losses_and_is_as_long_as_the_sum(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    g = torch.randn(50, generator=generator, dtype=D)
    u = torch.randn(50, generator=generator, dtype=D) - 0.8 * g
    assert g @ u < 0
    (v,), _, a = combine_gradients([g], [u], 1.0)
    assert v @ g > 0 and v @ u > 0 and v.norm() >= (g + u).norm() * (1 - 1e-12)
    if 0.001 < a < 0.999:
        assert float(v @ g) == pytest.approx(float(v @ u))  # neither is favoured


def test_without_conflict_it_is_the_sum_of_losses_enlarged() -> None:
    sums, ours = one_step(build64("equal_weight_multiloss")), build64("mmpareto")
    found = one_step(ours)
    assert found.keys() == sums.keys()
    for name, grad in sums.items():
        if not name.startswith("encoders."):
            close(found[name], grad)
        elif ours.logs[f"cosine/{name.split('.')[1]}"] > 0:
            close(found[name], 1.5 * grad)
        else:
            assert found[name].norm() >= 1.5 * grad.norm() * (1 - 1e-9)


def test_frozen_encoders_are_skipped_but_not_all() -> None:
    engine = build("mmpareto")
    before = [p.clone() for p in engine.model.encoders["audio"].parameters()]
    engine.freeze(engine.model.encoders["audio"])
    train(engine)
    assert all(torch.equal(p, q) for p, q in zip(before, engine.model.encoders["audio"].parameters(), strict=True))
    engine.freeze(*engine.model.encoders.values())
    with pytest.raises(ValueError, match="no gradient"):
        train(engine)


@pytest.mark.parametrize("method", MINE[:4])
def test_a_grad_scaler_changes_nothing_but_the_scale(method: str) -> None:
    results = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=1024.0)):
        engine = build64(method)
        optimizer = torch.optim.SGD(engine.parameters, lr=0.1)
        batch = engine.loaders["train"].epoch(0)[0]
        engine.strategy.backward(engine.model(batch.inputs), batch, optimizer=optimizer, scaler=scaler)
        scaler.step(optimizer) if scaler else optimizer.step()
        results.append([p.detach().clone() for p in engine.parameters])
    for one, other in zip(*results, strict=True):
        close(one, other)


# ---- AGM
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


# ---- MLB
def test_paces_vanish_at_balance_and_stay_in_bounds() -> None:
    rho = torch.linspace(0, 40, 2001, dtype=D)
    for beta in (1.0, 2.0, 3.0):
        k = torch.stack([pace_factors({"a": r}, 0.8, beta)["a"] for r in rho])
        assert (k.diff() >= 0).all() and k.min() > 0 and k.max() <= beta and float(k[50]) == 1
    assert k.diff().abs().max() < 0.05  # no jump


@pytest.mark.parametrize("fusion", ["concat", "sum", "film"])
def test_mlb_scales_what_is_a_modalitys_own_and_nothing_else(fusion: str) -> None:
    sums, engine = one_step(build64("equal_weight_multiloss", fusion)), build64("mlb", fusion)
    found = one_step(engine)
    k = {m: engine.logs[f"coefficient/{m}"] for m in TWO}
    assert any(x > 1 for x in k.values()) and any(x < 1 for x in k.values())
    parts = list(unimodal_head_parts(engine.model.fusion, engine.model.fusion.dims))
    assert len(parts) == {"concat": 2, "sum": 4, "film": 0}[fusion]
    for m, p, columns in parts:
        name = next(n for n, q in engine.model.named_parameters() if q is p)
        sums[name][..., columns] *= k[m]
    for name, grad in sums.items():
        part, m = name.split(".")[:2]
        close(found[name], grad * (k[m] if part in ("encoders", "heads") else 1.0))


# ---- CGGM
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


# ---- InfoReg
def test_the_pull_is_to_where_the_epoch_began() -> None:
    engine, plain = build64("inforeg"), build64("equal_weight_multiloss", options={"heads": "shared"})
    for each in (engine, plain):
        each.strategy.on_epoch_start(each)
    start = {n: p.detach().clone() for n, p in engine.model.named_parameters()}
    for name, grad in one_step(plain).items():  # nothing has moved yet
        assert torch.equal(one_step(engine)[name], grad)
    with torch.no_grad():
        for p, q in zip(engine.model.parameters(), plain.model.parameters(), strict=True):
            p.add_(0.01)
            q.add_(0.01)
    found, sums = one_step(engine), one_step(plain)
    pull = {m: engine.logs[f"strength/{m}"] for m in TWO}
    assert sorted(float(x) > 0 for x in pull.values()) == [False, True]
    for name, p in engine.model.named_parameters():
        part, m = name.split(".")[:2]
        close(found[name], sums[name] + (pull[m] * (p.detach() - start[name]) if part == "encoders" else 0.0))


def test_strengths_are_of_who_is_ahead() -> None:
    scores = {m: torch.tensor(s, dtype=D) for m, s in zip(THREE, (3.0, 1.0, 2.0), strict=True)}
    pull = pull_strengths(scores, dict.fromkeys(THREE, 0.95))
    assert float(pull["audio"]) == pytest.approx(0.95 * np.exp(np.tanh(3 - 2))) and pull["visual"] == pull["text"] == 0
    two = pull_strengths({m: scores[m] for m in TWO}, {"audio": 0.95, "visual": 0.1})
    assert float(two["audio"]) == pytest.approx(0.95 * np.exp(np.tanh(3 - 1))) and two["visual"] == 0
    tie = pull_strengths({m: torch.tensor(1.0) for m in TWO}, dict.fromkeys(TWO, 0.95))
    assert not any(x > 0 for x in tie.values())
    none = pull_strengths({"audio": torch.tensor(torch.nan), "visual": torch.tensor(1.0)}, dict.fromkeys(TWO, 0.95))
    assert all(float(x) == 0 for x in none.values())


def test_the_window_closes_when_the_trace_no_longer_grows() -> None:
    assert float(relative_growth(torch.full((11,), 3.0))) == 0 and float(relative_growth(torch.zeros(11))) == 0
    assert float(relative_growth(torch.tensor([0.0] * 10 + [2.0]))) == 1
    engine = train(build("inforeg"))
    assert engine.strategy.traces[:, -1].min() > 0
    assert engine.curves["strength/audio"][0] > 0
    engine.strategy.traces.fill_(1.0)
    train(engine)
    assert engine.curves["strength/audio"][1] == engine.curves["strength/visual"][1] == 0


# ---- MSLR
def test_a_quotient_is_of_the_epochs_before() -> None:
    past = torch.tensor([[0.2, 0.4], [torch.nan, 0.5], [0.0, 0.0], [0.01, 0.01]], dtype=D)
    found = accuracy_quotients(past, torch.tensor([0.6, 0.9, 0.5, 0.9], dtype=D))
    assert found.tolist() == pytest.approx([2.0, 1.0, 1.0, 10.0])


@pytest.mark.parametrize("fusion", ["concat", "sum"])
def test_keeping_a_rate_is_a_learning_rate_of_its_own(fusion: str) -> None:
    slow = build64("mslr", fusion, options={"init": {"audio": 0.25}, "rule": "keep"})
    plain = build64("vanilla", fusion)
    own = list(plain.model.encoders["audio"].parameters())
    own += list(plain.model.fusion.head["audio"].parameters()) if fusion == "sum" else []
    rest = [p for p in plain.parameters if all(p is not q for q in own)]
    groups = [{"params": own, "lr": 0.025}, {"params": rest}]
    plain.optimizer, plain.scheduler = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=1e-4), None
    train(slow), train(plain)
    for p, q in zip(slow.model.parameters(), plain.model.parameters(), strict=True):
        close(p.detach(), q.detach())


def test_a_dynamic_rate_follows_validation_accuracy() -> None:
    engine = train(build("mslr", options={"init": {}, "memory": 1}), 3)
    assert engine.curves["coefficient/audio"][:2] == [1.0, 1.0]  # no epoch before the first
    past, now = engine.strategy.past, engine.strategy.quotient.clone()
    assert (past > 0).all() and engine.curves["coefficient/audio"][2] != 1.0
    train(engine)
    assert engine.curves["coefficient/audio"][3] == pytest.approx(float(now[0]))


# ---- MSES
def test_a_modality_stops_after_its_patience() -> None:
    known = initial_stopping_state(2)
    for epoch, losses in enumerate([(1.0, 1.0), (2.0, 0.9), (2.0, 0.8), (0.1, 0.7), (0.1, torch.nan)]):
        known = update_stopping_state(known, torch.tensor(losses), epoch, 1)
    assert known[3].tolist() == [2, -1] and known[2].tolist() == [0, 3]  # what comes later no longer matters
    assert known[0, 1] == pytest.approx(0.7)  # nothing seen, nothing changed


def astray(modalities: tuple[str, ...] = TWO, fusion: str = "concat", seed: int = 0) -> Engine:
    """A run whose validation set is labelled so that audio gets worse on it by learning."""
    engine = build("mses", fusion, modalities, seed=seed)
    engine.seed = 0
    other = build("vanilla", fusion, modalities).loaders["val"]
    other.data.inputs["audio"] = -other.data.inputs["audio"]
    engine.loaders["val"] = other
    return engine


@pytest.mark.parametrize("fusion", ["concat", "sum"])
def test_who_stops_goes_back_to_its_best_and_stands_still_alone(fusion: str) -> None:
    engine = astray(fusion=fusion)
    encoders = engine.model.encoders
    history = []
    for _ in range(6):
        train(engine)
        history.append({m: torch.cat([p.detach().flatten() for p in encoders[m].parameters()]) for m in TWO})
    _, _, best, stopped = engine.strategy.watched.tolist()
    at, back = int(stopped[0]), int(best[0])
    assert 0 <= back < at < 5 and stopped[1] == -1
    for epoch in range(at, 6):
        assert torch.equal(history[epoch]["audio"], history[back]["audio"])
        assert not torch.equal(history[epoch]["visual"], history[epoch - 1]["visual"])
    own = engine.model.fusion.head["audio"] if fusion == "sum" else None
    assert own is None or not any(p.requires_grad for p in own.parameters())
    assert not any(p.requires_grad for p in encoders["audio"].parameters())


def test_when_all_have_stopped_nothing_moves_and_the_curves_go_on() -> None:
    engine = train(build("mses", "sum"))
    engine.strategy.watched[3] = 0.0
    before = digest(engine)
    train(engine, 2)
    assert digest(engine) == before and engine.step == 3 * len(engine.loaders["train"].epoch(0))
    assert all(len(curve) == 3 and None not in curve for curve in engine.curves.values())


def test_a_run_with_a_stopped_modality_resumes(tmp_path: Path) -> None:
    whole, half = train(astray(), 6), train(astray(), 4)
    assert half.strategy.watched[3].max() >= 0
    torch.save(half.state_dict(), tmp_path / "checkpoint.pt")
    resumed = astray(seed=7)
    resumed.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    assert digest(train(resumed, 2)) == digest(whole)


# ---- uncertainty weighting
def test_weights_are_trained_apart() -> None:
    engine = build64("uncertainty_weighting")
    _, _, group = engine.optimizer.param_groups
    assert group["weight_decay"] == 0 and group["clip"] is False and len(group["params"]) == 3
    grads = one_step(engine)
    sums = build64("equal_weight_multiloss")
    one_step(sums)
    for name, s in engine.strategy.log_variance.items():
        ce = sums.logs["loss/fused" if name == "fused" else f"loss/unimodal/{name}"]
        close(grads[f"log_variance.{name}"], 0.5 - torch.exp(-s.detach()) * ce)


def test_the_lowest_loss_is_at_log_of_twice_it() -> None:
    loss, s = torch.tensor(0.7, dtype=D), torch.linspace(-3, 3, 6001, dtype=D)
    assert float(s[weighted_loss(loss, s).argmin()]) == pytest.approx(np.log(1.4), abs=1e-3)
    assert float(s[weighted_loss(loss, s, "unit").argmin()]) == pytest.approx(np.log(0.7), abs=1e-3)


def test_a_weight_stays_within_its_bound() -> None:
    engine = build("uncertainty_weighting", options={"bound": 0.01})
    train(engine)
    assert engine.curves["bounded"][0] > 0
    one_step(engine)
    assert all(float(s.detach().abs()) <= 0.0101 for s in engine.strategy.log_variance.values())
