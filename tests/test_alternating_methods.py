"""What methods with memory or turns claim, as properties, and their edges."""

from __future__ import annotations

import copy
import itertools
import sys

import pytest
import torch
from torch import Tensor, nn

from ogm.context import Context
from ogm.engine import Engine
from ogm.strategies import diagnosing_relearning as relearning
from ogm.strategies import gblend, greedy, mla, pmr, reconboost
from ogm.types import Batch, Output
from tests.small import CLASSES, SAMPLES, THREE, TWO, build, flat, strategy, train

Q64 = {"dtype": torch.float64}
HERE = ("pmr", "mla", "reconboost", "greedy", "modality_valuation", "diagnosing_relearning", "gblend")


def numbers(**values: float) -> dict[str, Tensor]:
    return {m: torch.tensor(x, dtype=torch.float64) for m, x in values.items()}


def plain(tensors: dict[str, Tensor]) -> dict[str, float]:
    return {m: float(x) for m, x in tensors.items()}


@pytest.mark.parametrize("method", HERE)
def test_what_a_backward_pass_cannot_do_is_refused_in_somebody_elses_loop(method: str) -> None:
    engine = build(method)
    z = torch.zeros(2, CLASSES, requires_grad=True)
    with pytest.raises(ValueError, match="train with an Engine"):
        engine.strategy.backward(Output(z), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("pmr", {"alpha": -1.0}),
        ("pmr", {"momentum": 1.0}),
        ("reconboost", {"weight1": 1.0}),
        ("reconboost", {"boost_epochs": 0}),
        ("greedy", {"window": 0}),
        ("modality_valuation", {"warmup": -1}),
        ("diagnosing_relearning", {"period": 0}),
        ("gblend", {"super_epoch": 0}),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_line(method: str, options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"needs|choose|must be") as error:
        strategy(method, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("method", "fusion", "options"),
    [
        ("reconboost", "concat", {"boost_epochs": 3, "rectify_epochs": 1}),
        ("gblend", "concat", {"super_epoch": 3}),
        ("gblend", "film", {"mode": "offline"}),
        ("greedy", "mmtm", {}),
        ("modality_valuation", "film", {"level": "modality"}),
        ("diagnosing_relearning", "concat", {"period": 2}),
        ("pmr", "gated", {"momentum": 0.5, "coefficient": "clipped"}),
    ],
)
def test_a_run_resumed_within_a_phase_is_the_same_run(method: str, fusion: str, options: dict[str, float]) -> None:
    whole, half = (train(build(method, fusion, options=options), epochs) for epochs in (4, 2))
    state = copy.deepcopy(half.state_dict())
    resumed = build(method, fusion, seed=7, options=options)
    resumed.seed = 0
    resumed.load_state_dict(state)
    assert torch.equal(flat(train(resumed, 2)), flat(whole)) and resumed.curves == whole.curves


# ---- PMR
@pytest.mark.parametrize(
    ("rule", "scores", "beta"),
    [
        ("binary", {"a": 2.0, "v": 1.0}, {"a": 0, "v": 1}),
        ("binary", {"a": 1.0, "v": 2.0, "t": 1.9}, {"a": 1, "v": 0, "t": 1}),
        ("binary", {"a": 1.5, "v": 1.5}, {"a": 0, "v": 0}),
        ("binary", {"a": 0.0, "v": 0.0}, {"a": 0, "v": 0}),
        ("binary", {"a": float("nan"), "v": 1.0}, {"a": 0, "v": 0}),
        ("clipped", {"a": 1.5, "v": 1.0}, {"a": 0, "v": 0.5}),
        ("clipped", {"a": 9.0, "v": 1.0, "t": 6.0}, {"a": 0, "v": 1, "t": 0.5}),
        ("clipped", {"a": 0.0, "v": 1.0}, {"a": 1, "v": 0}),
        ("clipped", {"a": 0.0, "v": 0.0}, {"a": 0, "v": 0}),
    ],
)
def test_the_lagging_modalities_are_pulled(
    rule: pmr.Coefficient, scores: dict[str, float], beta: dict[str, float]
) -> None:
    assert plain(pmr.prototype_loss_weights(numbers(**scores), rule)) == beta


def test_nearness_is_the_negative_distance() -> None:
    x, c = torch.randn(5, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    known = torch.tensor([True, False, True, True])
    near = pmr.negative_distances(x, c, known)
    for i, k in itertools.product(range(5), (0, 2, 3)):
        assert float(near[i, k]) == pytest.approx(-(float(((x[i] - c[k]) ** 2).sum()) ** 0.5), abs=1e-12)
    assert not near.softmax(1)[:, 1].any()


def test_at_a_prototype_the_slope_is_zero() -> None:
    x = torch.tensor([[1.0, 1.0]], requires_grad=True)
    pmr.negative_distances(x, torch.tensor([[1.0, 1.0], [4.0, 5.0]]), torch.tensor([True, True]))[0, 0].backward()
    assert x.grad is not None and not x.grad.any()


def test_a_class_without_samples_keeps_its_prototype_and_one_without_any_has_no_loss() -> None:
    label, there = torch.tensor([0, 0]), torch.tensor([True, True])
    old = torch.tensor([[5.0], [7.0], [0.0]])
    sums = pmr.class_sums(torch.tensor([[1.0], [2.0]]), label, 3, there)
    blend = pmr.blend_prototypes(old, torch.tensor([False, True, False]), sums, 0.5)
    assert blend.flatten().tolist() == [1.5, 7.0, 0.0]

    engine = build("pmr")
    engine.strategy.on_epoch_start(engine)
    batch = engine.loaders["train"].epoch(0)[0]
    engine.strategy.get_buffer("known_visual")[batch.label[0]] = False
    output = engine.model(batch.inputs)
    losses = engine.strategy.losses(output, batch, Context(model=engine.model))
    assert torch.isfinite(torch.stack(list(losses.values()))).all()
    losses["prototype/visual"].backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in engine.model.parameters())


@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
def test_prototypes_are_class_means_of_features(modalities: tuple[str, ...], missing: bool) -> None:
    engine = train(build("pmr", modalities=modalities, missing=missing, **Q64))
    engine.strategy.on_epoch_start(engine)
    outputs = list(engine.predict("train"))
    for m in modalities:
        features = torch.cat([o.features[m] for o, _ in outputs])
        label = torch.cat([torch.where(b.has_all([m]), b.label, -1) for _, b in outputs])
        means = torch.stack([features[label == k].mean(0) for k in range(CLASSES)])
        torch.testing.assert_close(engine.strategy.get_buffer(f"prototypes_{m}"), means)


def test_of_a_large_training_set_a_tenth_makes_the_prototypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pmr, "WHOLE", 10)
    engine = build("pmr", size=6, **Q64)
    engine.strategy.on_epoch_start(engine)
    first = engine.loaders["train"].epoch(0)[0]
    known = set(first.label.tolist())
    assert engine.strategy.get_buffer("known_audio").nonzero().flatten().tolist() == sorted(known)
    assert torch.isfinite(flat(train(engine, 2))).all()


def test_only_the_lagging_encoder_is_pulled_and_towards_its_own_prototypes() -> None:
    grads = {}
    for method in ("vanilla", "pmr"):
        engine = build(method, **Q64)
        engine.update = lambda: None  # type: ignore[method-assign]
        engine.logs = {}
        engine.strategy.on_epoch_start(engine)
        engine.strategy.step(engine.loaders["train"].epoch(0)[0], engine)
        grads[method] = {
            m: torch.cat([p.grad.flatten() for p in engine.model.encoders[m].parameters() if p.grad is not None])
            for m in TWO
        }
    strong, weak = sorted(TWO, key=lambda m: float(engine.logs[f"beta/{m}"]))
    assert [float(engine.logs[f"beta/{m}"]) for m in (strong, weak)] == [0, 1]
    assert torch.equal(grads["vanilla"][strong], grads["pmr"][strong])
    assert not torch.allclose(grads["vanilla"][weak], grads["pmr"][weak])


# ---- MLA
def test_the_head_keeps_what_it_has_seen() -> None:
    """Along the features taken in, a projected gradient is almost nothing; across them it is untouched."""
    generator = torch.Generator().manual_seed(0)
    seen, grad = (torch.randn(2, 6, dtype=torch.float64, generator=generator) for _ in range(2))
    p = torch.eye(6, dtype=torch.float64)
    for r in seen:
        p = mla.update_projection(p, r, 1e-6, "none")
    kept = mla.project_gradient(grad, p)
    assert float((kept @ seen.T).abs().max()) < 1e-4
    across = torch.linalg.svd(seen).Vh[2:]
    torch.testing.assert_close(kept @ across.T, grad @ across.T)
    one = mla.update_projection(
        p, torch.zeros(6, dtype=torch.float64), 0.1, "fro"
    )  # nothing was there: nothing to take in
    torch.testing.assert_close(one, p / p.norm())


def test_each_turn_is_of_one_encoder_and_the_head_and_the_first_is_unprotected() -> None:
    engine = build("mla", modalities=THREE)
    turns, matrices = [], []

    def update() -> None:
        encoders = engine.model.encoders
        turns.append([m for m in THREE if any(p.grad is not None for p in encoders[m].parameters())])
        assert engine.strategy.shared_head.weight.grad is not None
        matrices.append(engine.strategy.projection.clone())
        Engine.update(engine)

    engine.update = update  # type: ignore[method-assign]
    engine.logs = {}
    engine.strategy.step(engine.loaders["train"].epoch(0)[0], engine)
    assert turns == [["audio"], ["visual"], ["text"]]
    assert torch.equal(matrices[0], torch.eye(len(matrices[0])))
    assert float(matrices[1].norm()) == pytest.approx(1, abs=1e-5) and not torch.equal(matrices[1], matrices[2])


def test_a_prediction_goes_by_its_own_sample_and_what_it_has() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = {m: 3 * torch.randn(5, 4, generator=generator) for m in THREE}
    there = torch.tensor([[True] * 5, [True, False, True, False, True], [True, True, False, False, True]])
    together = mla.confidence_weighted_sum(logits, there)
    for i in range(5):
        torch.testing.assert_close(
            mla.confidence_weighted_sum({m: z[i : i + 1] for m, z in logits.items()}, there[:, i : i + 1])[0],
            together[i],
        )
    weight = mla.confidence_weights(logits, there)
    assert not weight[~there].any() and torch.allclose(weight.sum(0), torch.ones(5))
    torch.testing.assert_close(together[3], logits["audio"][3])
    sure = {"a": torch.tensor([[50.0, 0.0]]), "b": torch.zeros(1, 2)}
    a, b = mla.confidence_weights(sure, torch.ones(2, 1, dtype=torch.bool)).flatten().tolist()
    assert a == pytest.approx(2 / 3) and b == pytest.approx(1 / 3)  # e^0 against e^-log 2


@pytest.mark.parametrize("method", ["mla", "reconboost"])
def test_features_of_unequal_width_share_a_head(method: str) -> None:
    encoders = {"audio": nn.Linear(2, 3), "visual": nn.Linear(2, 5)}
    plan = strategy(method).attach(encoders, dims={"audio": 3, "visual": 5}, num_classes=4)
    model = type("Model", (), {"encoders": encoders})
    batch = Batch({m: torch.randn(6, 2) for m in TWO}, torch.zeros(6, dtype=torch.long), torch.arange(6))
    for drop in ((), ("audio",), TWO):
        output = plan.forward(model, batch, drop)
        assert output.logits.shape == (6, 4) and torch.isfinite(output.logits).all()
    alone = plan.forward(model, batch, ("audio",))
    torch.testing.assert_close(alone.logits, alone.unimodal_logits["visual"])


# ---- ReconBoost
def test_turns_and_rectifications() -> None:
    found = [reconboost.phase(epoch, THREE, 2, 1) for epoch in range(10)]
    assert [(stage, learner) for stage, learner, _ in found] == [
        *((0, "audio"), (0, "audio"), (0, None), (1, "visual"), (1, "visual")),
        *((1, None), (2, "text"), (2, "text"), (2, None), (3, "audio")),
    ]
    assert [begins for *_, begins in found] == [True, False, True] * 3 + [True]


def test_in_a_turn_the_others_stand_still_and_momentum_is_fresh_at_its_start() -> None:
    engine = build("reconboost", options={"boost_epochs": 2, "rectify_epochs": 1})
    moved, started = [], []
    for _ in range(3):
        before = {m: torch.cat([p.detach().flatten() for p in engine.model.encoders[m].parameters()]) for m in TWO}
        rate = engine.strategy.boost_rate.detach().clone()
        engine.strategy.on_epoch_start(engine)
        started.append(len(engine.optimizer.state) == 0)
        train(engine)
        after = {m: torch.cat([p.detach().flatten() for p in engine.model.encoders[m].parameters()]) for m in TWO}
        moved.append(
            ([m for m in TWO if not torch.equal(before[m], after[m])], bool(rate != engine.strategy.boost_rate))
        )
    assert moved == [(["audio"], False), (["audio"], False), (["audio", "visual"], True)]
    assert started == [True, False, True]


def test_what_the_others_know_counts_less() -> None:
    weight = reconboost.boosting_weights(torch.tensor([0.0, 0.5, 1.0]), 5.0, 1.0, 4)
    assert weight.tolist() == [1.25, 1.125, 1.0]
    engine = build("reconboost", missing=True, **Q64)
    batch = engine.loaders["train"].epoch(0)[0]
    plan, output = engine.strategy, engine.strategy.forward(engine.model, batch)
    u, v = (output.unimodal_logits[m].detach() for m in TWO)
    seen = batch.has_all(["visual"]).double()[:, None]
    q = torch.softmax(v * seen, 1)[torch.arange(len(batch)), batch.label]
    each = (5 - q) * torch.nn.functional.cross_entropy(u, batch.label, reduction="none") / CLASSES
    here = batch.has_all(["audio"])
    torch.testing.assert_close(plan.boost(output, batch, "audio", 2, engine), each[here].mean())
    first = (each / (5 - q) * 4)[here].mean()
    torch.testing.assert_close(plan.boost(output, batch, "audio", 0, engine), first)
    plan.boost(output, batch, "audio", 2, engine).backward()
    assert plan.boost_rate.grad is None


# ---- Greedy
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
    assert float(greedy.speed([a, b])) == pytest.approx(5 / 50)
    assert float(greedy.speed([b])) == 0


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


# ---- modality valuation
@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
@pytest.mark.parametrize("fusion", ["concat", "film"])
def test_values_are_shapley_values_of_what_is_right(fusion: str, modalities: tuple[str, ...], missing: bool) -> None:
    engine = train(build("modality_valuation", fusion, modalities, missing=missing, **Q64))
    values = engine.strategy.value_samples(engine)
    data = engine.loaders["train"].pick(torch.arange(SAMPLES), SAMPLES)
    engine.model.eval()
    features = engine.model.encode(data.inputs)

    def worth(some: tuple[str, ...]) -> Tensor:
        logits = engine.model.fusion(features, data.present, drop=set(modalities) - set(some))
        return len(some) * (logits.argmax(1) == data.label).double() if some else torch.zeros(SAMPLES).double()

    orders = list(itertools.permutations(modalities))
    for i, m in enumerate(modalities):
        gains = [worth(o[: o.index(m) + 1]) - worth(o[: o.index(m)]) for o in orders]
        phi = torch.stack(gains).mean(0)
        torch.testing.assert_close(values[:, i], torch.where(data.has_all([m]), phi, torch.nan), equal_nan=True)


def test_copies_show_one_modality_and_originals_all() -> None:
    plan = strategy("modality_valuation")
    plan.modalities, nan = TWO, torch.nan
    assert plan.epoch_sampling(4, Context()) is None
    plan._values = torch.tensor([[1.0, 1.0], [0.5, 1.5], [-0.5, 0.5], [nan, 0.0]])
    draws = plan.epoch_sampling(4, Context())
    assert draws is not None
    shown = [(i, *row) for i, row in zip(draws.index.tolist(), draws.keep.tolist(), strict=True)]
    audio, visual = (True, False), (False, True)
    assert shown[:4] == [(i, True, True) for i in range(4)]
    assert sorted(shown[4:]) == sorted([(1, *audio), *[(2, *audio)] * 3, (2, *visual), *[(3, *visual)] * 2])


def test_at_the_modality_level_the_lowest_comes_back() -> None:
    plan = strategy("modality_valuation", level="modality", alpha=3.0)
    plan.modalities = THREE
    values = torch.tensor([[1.5, 0.5, 1.0]] * 50 + [[1.5, torch.nan, 1.0]] * 10)
    audio, visual, text = plan.repeated_samples(values, Context())
    assert (len(audio), len(visual), len(text)) == (0, 120, 0)  # floor(3 * 2/3 * 1 * 60)
    assert int(visual.max()) < 50  # what is missing cannot come back
    assert torch.equal(visual, plan.repeated_samples(values, Context())[1])
    assert not torch.equal(visual, plan.repeated_samples(values, Context(epoch=1))[1])
    assert sum(map(len, plan.repeated_samples(torch.ones(5, 3), Context()))) == 0  # a tie
    assert plan.repeated_samples(torch.full((5, 3), torch.nan), Context()) == []
    assert torch.isfinite(
        flat(train(build("modality_valuation", options={"level": "modality"}, missing=True), 3))
    ).all()


def test_nothing_comes_back_before_the_warm_up_is_over() -> None:
    engine = build("modality_valuation", options={"warmup": 2})
    for epoch in range(3):
        engine.epoch = epoch
        engine.strategy.on_epoch_start(engine)
        assert (engine.strategy.epoch_sampling(SAMPLES, engine) is None) == (epoch < 2)
    early, plain_run = build("modality_valuation", options={"warmup": 2}), build("vanilla")
    assert torch.equal(flat(train(early, 2)), flat(train(plain_run, 2)))


# ---- diagnosing and re-learning
def test_purity_and_clusters() -> None:
    points = torch.tensor([[0.0, 5.0], [0.1, 5.0], [9.0, 5.0], [9.1, 5.0]], dtype=torch.float64)
    assert relearning.scale_columns(points)[:, 0].tolist() == pytest.approx([-1, 2 * 0.1 / 9.1 - 1, 2 * 9 / 9.1 - 1, 1])
    assert not relearning.scale_columns(points)[:, 1].any()  # it says nothing
    found = relearning.cluster_features(points, 2)
    assert found[0] == found[1] != found[2] == found[3]
    assert relearning.purity(torch.tensor([1, 1, 3, 0]), found) == 0.75
    same = relearning.cluster_features(torch.ones(3, 2, dtype=torch.float64), 2)  # fewer different points than classes
    assert same.tolist() == [0, 0, 0]
    none = relearning.cluster_features(torch.zeros(0, 2), 2)
    assert float(relearning.strength(torch.tensor(relearning.purity(none, none)), 3.0)) == 0


def test_encoders_are_pulled_back_by_the_gap_of_their_purities(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, same = build("diagnosing_relearning", **Q64), build("vanilla", **Q64)
    start = {n: p.detach().clone() for n, p in engine.model.named_parameters()}
    purities = {"train": {"audio": 0.9, "visual": 0.5}, "val": {"audio": 0.5, "visual": 0.5}}
    monkeypatch.setattr(engine.strategy, "purities", lambda split, _: purities[split])
    train(engine, 2), train(same, 2)
    a = torch.tanh(torch.tensor(3 * 0.4)).double()
    for (name, p), q in zip(engine.model.named_parameters(), same.model.parameters(), strict=True):
        pull = a if name.startswith("encoders.audio") else 0.0
        torch.testing.assert_close(p, pull * start[name] + (1 - pull) * q, rtol=1e-6, atol=1e-6)
    assert not torch.equal(flat(engine), flat(same))


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ValueError, match=r"pip install 'ogm-balance\[relearning\]'"):
        build("diagnosing_relearning")


# ---- gradient blending
def test_what_does_not_generalise_gets_no_weight_and_overfitting_costs() -> None:
    weights = gblend.blending_weights({"a": (0.5, 0.1), "v": (0.5, 0.2), "joint": (-0.5, 0.01)})
    assert weights == pytest.approx({"a": 0.8, "v": 0.2, "joint": 0.0}, abs=1e-6)
    assert gblend.blending_weights({"a": (-1.0, 0.1), "v": (0.0, 0.0)}) == {"a": 0.5, "v": 0.5}


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
def test_estimates_leave_the_run_as_it_was(missing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, untouched = (train(build("gblend", missing=missing)) for _ in range(2))
    before = copy.deepcopy(engine.state_dict())
    found = engine.strategy.estimates(1, engine)
    assert found.keys() == {*TWO, "joint"} and isinstance(engine.strategy, gblend.GBlend)
    torch.testing.assert_close(engine.state_dict(), before, rtol=0, atol=0)
    for losses in found.values():
        assert all(x > 0 for x in losses) and losses.train0 != losses.val0
    monkeypatch.setattr(gblend.GBlend, "on_epoch_start", lambda *_: None)
    assert torch.equal(flat(train(engine)), flat(train(untouched)))


def test_an_estimate_is_a_run_of_that_loss_alone() -> None:
    engine, joint = build("gblend", **Q64), build("vanilla", **Q64)
    found = engine.strategy.estimates(2, engine)
    first = gblend.mean_loss("train", joint)
    assert found["joint"].train0 == pytest.approx(first)
    assert found["joint"].train1 == pytest.approx(gblend.mean_loss("train", train(joint, 2)))
    alone = build("unimodal", options={"modality": "visual"}, **Q64)
    alone.strategy.classifier.load_state_dict(engine.strategy.heads["visual"].state_dict())
    assert found["visual"].train1 == pytest.approx(gblend.mean_loss("train", train(alone, 2)))


@pytest.mark.parametrize(("mode", "when"), [("online", [0, 2]), ("offline", [0])])
def test_when_estimates_are_made(mode: str, when: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = build("gblend", options={"mode": mode, "super_epoch": 2})
    made: list[tuple[int, int]] = []

    def estimates(epochs: int, engine: Engine) -> dict[str, gblend.Losses]:
        made.append((engine.epoch, epochs))
        return {k: gblend.Losses(2.0, 2.0, 1.0, 1.5) for k in (*TWO, "joint")}

    monkeypatch.setattr(engine.strategy, "estimates", estimates)
    train(engine, 4)
    assert made == [(epoch, 2 if mode == "online" else 4) for epoch in when]
    assert engine.strategy.weights.tolist() == pytest.approx([1 / 3] * 3)
